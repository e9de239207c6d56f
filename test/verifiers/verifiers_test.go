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

// Package verifiers tests that receivers' code verifies the dispatcher's requests: the programs of docs/receivers, in
// each installed language, and the upstream Standard Webhooks library.
package verifiers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// answerTimeout bounds a program's answer to one request, including the start of the interpreter.
const answerTimeout = 30 * time.Second

// request is the input of a program, as a line on its standard input.
type request struct {
	Body    []byte            `json:"body"`
	Headers map[string]string `json:"headers"`
	Secrets []string          `json:"secrets"`
}

// verifier answers "ok", or "refused: " with the scheme that refused the request and the reason.
type verifier interface {
	check(r request) (string, error)
}

// program is a running program that checks one request per line.
type program struct {
	name    string
	encode  func(r request) ([]byte, error)
	in      io.WriteCloser
	answers chan string
	stderr  *strings.Builder
}

// startProgram starts a program that ends with the test.
func startProgram(t *testing.T, commandLine []string, encode func(r request) ([]byte, error)) *program {
	t.Helper()
	// The program must outlive the test's context, because it ends by itself during the clean-up.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	command := exec.CommandContext(ctx, commandLine[0], commandLine[1:]...)
	p := &program{name: filepath.Base(commandLine[len(commandLine)-1]), encode: encode, answers: make(chan string), stderr: &strings.Builder{}}
	command.Stderr = p.stderr
	var err error
	if p.in, err = command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		defer close(p.answers)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.answers <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		defer time.AfterFunc(answerTimeout, cancel).Stop()
		defer cancel()
		_ = p.in.Close()
		for range p.answers {
			// Discard further output; the program ends when its input ends.
		}
		if err := command.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", p.name, err, p.stderr)
		}
	})
	return p
}

func (p *program) check(r request) (string, error) {
	line, err := p.encode(r)
	if err != nil {
		return "", fmt.Errorf("encode the request: %w", err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return "", fmt.Errorf("write to %s: %w", p.name, err)
	}
	select {
	case answer, ok := <-p.answers:
		if !ok {
			return "", fmt.Errorf("%s has ended", p.name)
		}
		return answer, nil
	case <-time.After(answerTimeout):
		return "", fmt.Errorf("%s did not answer in %s", p.name, answerTimeout)
	}
}

// upstream is the Standard Webhooks library, which knows only that scheme.
type upstream struct{}

func (upstream) check(r request) (string, error) {
	header := http.Header{}
	for name, value := range r.Headers {
		header.Set(name, value)
	}
	err := errors.New("there is no secret")
	for _, secret := range r.Secrets {
		var webhook *standardwebhooks.Webhook
		if webhook, err = standardwebhooks.NewWebhook(secret); err != nil {
			continue
		}
		if err = webhook.Verify(r.Body, header); err == nil {
			return "ok", nil
		}
	}
	return "refused: StandardWebhooks: " + err.Error(), nil
}
