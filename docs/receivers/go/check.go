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

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// request is a line of standard input.
type request struct {
	Body    []byte            `json:"body"` // base64
	Headers map[string]string `json:"headers"`
	Secrets []string          `json:"secrets"`
}

// check reads requests from standard input, one JSON object a line. It answers each with a line "ok", or "refused: " and
// which scheme refused it and why. Every scheme that the headers hold has to fit one of the secrets.
func check() error {
	decoder := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var r request
		err := decoder.Decode(&r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		fmt.Println(r.check(time.Now()))
	}
}

func (r *request) check(now time.Time) string {
	header := http.Header{}
	for name, value := range r.Headers {
		header.Set(name, value)
	}
	signed := false
	for _, scheme := range []struct {
		name, header string
		verify       func(secret string) error
	}{
		{"Dub", "Dub-Signature", func(secret string) error {
			return verifyDub(r.Body, header.Get("Dub-Signature"), secret)
		}},
		{"StandardWebhooks", "Webhook-Signature", func(secret string) error {
			return verifyStandardWebhooks(r.Body, header, secret, now)
		}},
	} {
		if len(header.Values(scheme.header)) == 0 {
			continue
		}
		signed = true
		if err := anyOf(r.Secrets, scheme.verify); err != nil {
			return "refused: " + scheme.name + ": " + err.Error()
		}
	}
	if !signed {
		return "refused: not signed"
	}
	return "ok"
}

// anyOf returns why no secret fits, or nil if one does.
func anyOf(secrets []string, verify func(secret string) error) error {
	err := errors.New("there is no secret")
	for _, secret := range secrets {
		if err = verify(secret); err == nil {
			return nil
		}
	}
	return err
}
