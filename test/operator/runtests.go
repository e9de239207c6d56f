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

package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

const (
	// interrupted is the exit status of a shell command that Ctrl-C ended.
	interrupted  = 130
	stopPatience = 2 * time.Minute
)

const (
	// IntakeVariable is the environment variable with the intake of the tests: "jetstream", "jetstream-embedded", or
	// the default.
	IntakeVariable = "INTAKE"
	// nodesVariable is the environment variable with the number of NATS servers; the default is 1.
	nodesVariable = "NATS_NODES"
)

// RunTests starts a control plane, installs the operator, calls start to start its processes, runs the tests, and
// stops everything. It returns the exit code, and prints progress to standard error.
func RunTests(m *testing.M, start func(context.Context, *Operator) error) (code int) {
	return RunTestsWith(m, controlplane.Options{}, start)
}

// RunTestsWith is RunTests with options for the control plane.
func RunTestsWith(m *testing.M, o controlplane.Options, start func(context.Context, *Operator) error) (code int) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	fail := func(err error) {
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	o.Log = os.Stderr
	cp, err := controlplane.Start(ctx, o)
	if err != nil {
		fail(err)
		return code
	}
	defer func() { fail(cp.Stop()) }()
	op, err := installForTests(ctx, cp)
	if err != nil {
		fail(err)
		return code
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		fail(op.Stop(ctx))
	}()
	if err := start(ctx, op); err != nil {
		fail(errors.Join(errors.New("start the operator"), err))
		return code
	}
	result := make(chan int, 1)
	go func() { result <- m.Run() }()
	select {
	case code = <-result:
	case <-ctx.Done():
		code = interrupted
	}
	return code
}

// installForTests installs the operator as the environment variables say.
func installForTests(ctx context.Context, cp *controlplane.ControlPlane) (*Operator, error) {
	o := Options{Intake: os.Getenv(IntakeVariable)}
	if value := os.Getenv(nodesVariable); value != "" {
		nodes, err := strconv.Atoi(value)
		if err != nil || nodes < 1 {
			return nil, fmt.Errorf("%s is %q, and has to be a number of NATS servers", nodesVariable, value)
		}
		o.NATSNodes = nodes
	}
	return Install(ctx, cp, o)
}
