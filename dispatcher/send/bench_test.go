/*
Copyright 2026 The Postback Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

package send_test

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// BenchmarkSend measures the sender and net/http with an endpoint that costs almost nothing.
func BenchmarkSend(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go accept(listener)
	sender, r := newSender(), routeTo("http://"+listener.Addr().String())
	d := event(`{"filler":"` + strings.Repeat("x", 1500) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		if attempt := sender.Send(b.Context(), r, d); attempt.Outcome != v1alpha1.OutcomeSucceeded {
			b.Fatal(attempt)
		}
	}
}

// accept answers every request on each connection with 200 and no body.
func accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = connection.Close() }()
			reader := bufio.NewReader(connection)
			for {
				request, err := http.ReadRequest(reader)
				if err != nil || request.Body.Close() != nil {
					return
				}
				if _, err := connection.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
					return
				}
			}
		}()
	}
}
