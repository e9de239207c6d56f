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

package controlplane

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// interrupted is the exit status of a shell command that Ctrl-C ended.
const interrupted = 130

// RunTests starts a control plane, hands it to set, runs the tests, and stops it. It returns the exit code:
//
//	var cp *controlplane.ControlPlane
//
//	func TestMain(m *testing.M) {
//		os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
//	}
func RunTests(m *testing.M, set func(*ControlPlane)) int {
	return RunTestsWith(m, Options{}, set)
}

// RunTestsWith is RunTests with options. The default of Log is standard error.
func RunTestsWith(m *testing.M, o Options, set func(*ControlPlane)) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if o.Log == nil {
		o.Log = os.Stderr
	}
	c, err := Start(ctx, o)
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "start the control plane: %v\n", err)
		return 1
	}
	set(c)
	code := make(chan int, 1)
	go func() { code <- m.Run() }()
	result := interrupted
	select {
	case result = <-code:
	case <-ctx.Done():
	}
	if err := c.Stop(); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "stop the control plane: %v\n", err)
		return max(result, 1)
	}
	return result
}
