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
	"time"
)

// fakeRunner ends with err after the context, or never.
type fakeRunner struct {
	err     error
	failing bool
	endless bool
	elected chan struct{}
}

func (f fakeRunner) Start(ctx context.Context) error {
	if f.failing {
		return f.err
	}
	<-ctx.Done()
	if f.endless {
		select {}
	}
	return f.err
}

func (f fakeRunner) Elected() <-chan struct{} { return f.elected }

func TestRunManagerEndsInTime(t *testing.T) {
	elected := make(chan struct{})
	close(elected)
	errBroken := errors.New("broken")
	const never, soon = time.Hour, time.Millisecond
	tests := map[string]struct {
		runner fakeRunner
		limits shutdownLimits
		want   string
	}{
		"fails":              {fakeRunner{failing: true, err: errBroken}, shutdownLimits{never, never}, "broken"},
		"ends":               {fakeRunner{}, shutdownLimits{never, never}, ""},
		"ends with an error": {fakeRunner{err: errBroken, elected: elected}, shutdownLimits{never, never}, "broken"},
		"idle, never ends":   {fakeRunner{endless: true}, shutdownLimits{never, soon}, ""},
		"busy, never ends":   {fakeRunner{endless: true, elected: elected}, shutdownLimits{soon, never}, "not ended within 1ms"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			if !test.runner.failing {
				cancel()
			}
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- runManager(ctx, test.runner, test.limits) }()
			select {
			case err := <-ended:
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %q", err, test.want)
				}
			case <-time.After(10 * time.Second):
				t.Error("it has not ended")
			}
		})
	}
}
