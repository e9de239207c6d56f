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
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

func compress(t *testing.T, content string, to func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var b bytes.Buffer
	w := to(&b)
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func toGzip(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
func toZlib(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }
func toDeflate(w io.Writer) io.WriteCloser {
	d, err := flate.NewWriter(w, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	return d
}

// The sender requests no compression, but accepts compressed responses.
func TestCompressedBodies(t *testing.T) {
	long := strings.Repeat("abc", 1000)
	bomb := strings.Repeat("\x00\x01", 2<<20)
	tests := map[string]struct {
		encoding string
		content  []byte
		want     string
	}{
		"gzip":                {"gzip", compress(t, "accepted", toGzip), "accepted"},
		"x-gzip, other case":  {"X-GZIP", compress(t, "accepted", toGzip), "accepted"},
		"zlib":                {"deflate", compress(t, "accepted", toZlib), "accepted"},
		"bare deflate":        {"deflate", compress(t, "accepted", toDeflate), "accepted"},
		"long":                {"gzip", compress(t, long, toGzip), long[:v1alpha1.MaxResponseBody]},
		"two members":         {"gzip", append(compress(t, "one ", toGzip), compress(t, "two", toGzip)...), "one two"},
		"bomb":                {"gzip", compress(t, bomb, toGzip), ""},
		"deflate bomb":        {"deflate", compress(t, bomb, toZlib), ""},
		"no gzip":             {"gzip", []byte("plain"), ""},
		"cut":                 {"gzip", compress(t, long, toGzip)[:20], ""},
		"empty":               {"gzip", nil, ""},
		"endless members":     {"gzip", bytes.Repeat(compress(t, "", toGzip), 20_000), ""},
		"endless name":        {"gzip", append([]byte{0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("n"), 1<<20)...), ""},
		"unknown":             {"br", []byte("bytes"), "bytes"},
		"twice":               {"gzip, gzip", []byte("bytes"), "bytes"},
		"one byte of deflate": {"deflate", []byte("x"), ""},
	}
	sender := newSender()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept-Encoding") != "" {
					t.Error("compressed answers are asked for")
				}
				w.Header().Set("Content-Encoding", test.encoding)
				_, _ = w.Write(test.content)
			}))
			defer server.Close()
			attempt := sender.Send(t.Context(), routeTo(server.URL), event("{}"))
			if attempt.Outcome != v1alpha1.OutcomeSucceeded || len(attempt.ResponseBody) > v1alpha1.MaxResponseBody {
				t.Errorf("outcome is %s (%s) with %d bytes", attempt.Outcome, attempt.Message, len(attempt.ResponseBody))
			}
			if !strings.HasPrefix(attempt.ResponseBody, test.want) || test.want == "" && strings.HasPrefix(name, "no ") && attempt.ResponseBody != "" {
				t.Errorf("body is %q, want %q", attempt.ResponseBody, test.want)
			}
			if attempt.Duration.Duration > 5*time.Second {
				t.Errorf("it took %s", attempt.Duration.Duration)
			}
		})
	}
}

// Every attempt ends at its deadline or at a bound, with the documented outcome, even if the endpoint is hostile.
func TestHostileAnswers(t *testing.T) {
	// forever writes a text repeatedly until the connection ends.
	forever := func(first, again string, pause time.Duration) func(net.Conn) {
		return func(conn net.Conn) {
			if request, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				return
			} else if _, err = io.Copy(io.Discard, request.Body); err != nil {
				return
			}
			_, err := io.WriteString(conn, first)
			for err == nil {
				if _, err = io.WriteString(conn, again); err == nil && pause > 0 {
					<-time.After(pause)
				}
			}
		}
	}
	const drip = 20 * time.Millisecond
	tests := map[string]struct {
		serve   func(net.Conn)
		want    v1alpha1.Outcome
		message string
		// body is the recorded excerpt.
		body string
		// atDeadline is true if only the deadline ends the attempt.
		atDeadline bool
	}{
		"silence":                 {func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, v1alpha1.OutcomeTimeout, "spec.timeout", "", true},
		"dripping status line":    {forever("HTTP/1.1 200 ", "O", drip), v1alpha1.OutcomeTimeout, "spec.timeout", "", true},
		"dripping header":         {forever("HTTP/1.1 200 OK\r\n", "X: y\r\n", drip), v1alpha1.OutcomeTimeout, "", "", true},
		"endless header":          {forever("HTTP/1.1 200 OK\r\n", strings.Repeat("X: y\r\n", 1000), 0), v1alpha1.OutcomeInvalidResponse, "headers exceeded", "", false},
		"endless header line":     {forever("HTTP/1.1 200 OK\r\nX: ", strings.Repeat("y", 10000), 0), v1alpha1.OutcomeInvalidResponse, "", "", false},
		"flood of 1xx":            {forever("", "HTTP/1.1 102 Processing\r\n\r\n", 0), v1alpha1.OutcomeInvalidResponse, "exceeded", "", false},
		"many 1xx":                {receiver.Answering(strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 20) + ok), v1alpha1.OutcomeSucceeded, "", "ok", false},
		"dripping 1xx":            {forever("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 200*time.Millisecond), v1alpha1.OutcomeTimeout, "", "", true},
		"endless body":            {forever("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("b", 10000), 0), v1alpha1.OutcomeSucceeded, "", "bbb", false},
		"dripping body":           {forever("HTTP/1.1 200 OK\r\n\r\n", "b", drip), v1alpha1.OutcomeSucceeded, "", "bbb", true},
		"dripping failure":        {forever("HTTP/1.1 500 x\r\nContent-Length: 100000\r\n\r\n", "b", drip), v1alpha1.OutcomeFailed5xx, "500", "bbb", true},
		"endless chunks":          {forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nbbbb\r\n", 0), v1alpha1.OutcomeSucceeded, "", "bbb", false},
		"endless chunk extension": {forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;", strings.Repeat("e", 1000), 0), v1alpha1.OutcomeSucceeded, "", "", false},
		"endless trailers":        {forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbbbb\r\n0\r\n", "X: y\r\n", 0), v1alpha1.OutcomeSucceeded, "", "bbbb", false},
		"trailers":                {receiver.Answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n4\r\nbbbb\r\n0\r\nX: y\r\n\r\n"), v1alpha1.OutcomeSucceeded, "", "bbbb", false},
		"malformed chunk":         {receiver.Answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbbbb\r\n"), v1alpha1.OutcomeSucceeded, "", "", false},
		"shorter than it says":    {receiver.Answering("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nbbbb"), v1alpha1.OutcomeSucceeded, "", "bbbb", false},
		"longer than it says":     {receiver.Answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nbbbb"), v1alpha1.OutcomeSucceeded, "", "bb", false},
		"two lengths":             {receiver.Answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nbbb"), v1alpha1.OutcomeInvalidResponse, "", "", false},
		"length and chunks":       {receiver.Answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbbbb\r\n0\r\n\r\n"), v1alpha1.OutcomeSucceeded, "", "bbbb", false},
		"unknown coding":          {receiver.Answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nbbbb"), v1alpha1.OutcomeInvalidResponse, "transfer encoding", "", false},
		"closed in the header":    {receiver.Answering("HTTP/1.1 200 OK\r\nContent-Le"), v1alpha1.OutcomeConnectionReset, "within the header", "", false},
		"HTTP/2 unasked":          {receiver.Answering("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), v1alpha1.OutcomeInvalidResponse, "malformed", "", false},
		"HTTP/0.9":                {receiver.Answering("<html>"), v1alpha1.OutcomeInvalidResponse, "malformed", "", false},
	}
	sender := newSender()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := routeTo("http://" + receiver.Raw(t, test.serve))
			r.Timeout.Duration = 4 * time.Second
			if test.atDeadline {
				r.Timeout.Duration = time.Second
			}
			attempt := sender.Send(t.Context(), r, event(`{"n":1}`))
			if attempt.Outcome != test.want || !strings.Contains(attempt.Message, test.message) {
				t.Errorf("outcome is %s (%s), want %s (%s)", attempt.Outcome, attempt.Message, test.want, test.message)
			}
			if !strings.HasPrefix(attempt.ResponseBody, test.body) {
				t.Errorf("body is %q, want %q", attempt.ResponseBody, test.body)
			}
			if took := attempt.Duration.Duration; took > r.Timeout.Duration+3*time.Second || !test.atDeadline && took >= r.Timeout.Duration {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// The connection is reused after a body of up to maxDrain bytes, but not after a longer one.
func TestConnectionIsDroppedAfterALongBody(t *testing.T) {
	for size, want := range map[int]int{100: 1, 10_000: 1, 60_000: 1, 200_000: 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			var connections, requests int
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests++
				fmt.Fprint(w, strings.Repeat("x", size))
			}))
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					connections++
				}
			}
			server.Start()
			sender := newSender()
			for range 3 {
				sender.Send(t.Context(), routeTo(server.URL), event("{}"))
			}
			server.Close()
			if connections != want || requests != 3 {
				t.Errorf("%d connections for answers of %d bytes, want %d", connections, size, want)
			}
		})
	}
}

// The order of the early response and the request is random.
func TestAnswerBeforeTheRequest(t *testing.T) {
	address := receiver.Raw(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, ok)
		if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.Copy(io.Discard, request.Body)
		}
	})
	sender := newSender()
	for range 10 {
		attempt := sender.Send(t.Context(), routeTo("http://"+address), event("{}"))
		early := attempt.Outcome == v1alpha1.OutcomeInvalidResponse && strings.Contains(attempt.Message, "before the request")
		if attempt.Outcome != v1alpha1.OutcomeSucceeded && !early {
			t.Errorf("outcome is %s (%s)", attempt.Outcome, attempt.Message)
		}
	}
}
