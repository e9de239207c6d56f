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
	"context"
	"errors"
	"strings"
	"testing"
)

// flaky ends with each exit status in turn, and then runs until the context ends. Its first restart fails.
type flaky struct {
	codes    []int
	restarts int
}

func (f *flaky) WaitExit(ctx context.Context) (int, error) {
	if len(f.codes) > 0 {
		code := f.codes[0]
		f.codes = f.codes[1:]
		return code, nil
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

func (f *flaky) Restart(context.Context) error {
	f.restarts++
	if f.restarts == 1 {
		return errors.New("the API server is away")
	}
	return nil
}

// runsAgain is a writer that ends a context once a text was written twice.
type runsAgain struct {
	strings.Builder
	cancel context.CancelFunc
}

func (r *runsAgain) Write(p []byte) (int, error) {
	n, err := r.Builder.Write(p)
	if strings.Count(r.String(), "runs again") == 2 {
		r.cancel()
	}
	return n, err
}

func TestTheDemoStartsAProgramAgainThatEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	written := &runsAgain{cancel: cancel}
	supervise(ctx, &screen{w: written}, "manager", &flaky{codes: []int{1, -1}}, 0)
	const want = `   manager ended with exit code 1; starting it again ...
   manager did not start; trying again in 0s: the API server is away
   manager runs again.
   manager ended with exit code -1; starting it again ...
   manager runs again.
`
	if written.String() != want {
		t.Errorf("it says\n%swant\n%s", written.String(), want)
	}
}
