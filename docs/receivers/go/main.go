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

// Command go is an endpoint in Go, with the standard library only. Copy what you need of verify.go and server.go.
//
//	POSTBACK_SECRETS='whsec_…' PORT=3000 go run ./docs/receivers/go
//
// While you change from one secret to the next, give both, with a comma between them. With -check it reads requests from
// standard input instead; see check.go.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	run := serve
	if len(os.Args) > 1 && os.Args[1] == "-check" {
		run = check
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	listener, err := net.Listen("tcp", net.JoinHostPort(envOr("HOST", "127.0.0.1"), envOr("PORT", "3000")))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Println("listening on port", listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{
		Handler: &endpoint{
			secrets: strings.FieldsFunc(os.Getenv("POSTBACK_SECRETS"), func(r rune) bool { return r == ',' }),
			log:     os.Stdout,
			inbox:   map[string]event{},
		},
		ReadTimeout: 10 * time.Second,
	}
	return fmt.Errorf("serve: %w", server.Serve(listener))
}

func envOr(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
