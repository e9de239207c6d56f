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

// Package e2e tests the operator from end to end: the built programs with the shipped manifests and RBAC, on a real
// control plane, used by the real kubectl.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	// patience bounds what takes a moment; the machine may be busy.
	patience = 30 * time.Second
	// interrupted is the exit code of a shell command that Ctrl-C ended.
	interrupted = 130
	logLines    = 60
)

// The installation that all tests share. Tests that end one of its processes start it again.
var (
	cp         *controlplane.ControlPlane
	op         *operator.Operator
	api        client.Client
	manager    *operator.Process
	dispatcher *operator.Process
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	defer func() {
		if err := stop(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}()
	if err := start(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	result := make(chan int, 1)
	go func() { result <- m.Run() }()
	select {
	case code := <-result:
		return code
	case <-ctx.Done():
		return interrupted
	}
}

func start(ctx context.Context) error {
	var err error
	if cp, err = controlplane.Start(ctx, controlplane.Options{Log: os.Stderr}); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	if api, err = client.New(cp.Config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if op, err = operator.Install(ctx, cp, operator.Options{}); err != nil {
		return err
	}
	if manager, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http")); err != nil {
		return err
	}
	dispatcher, err = op.StartDispatcher(ctx, "postback-dispatcher-0")
	return err
}

func stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var errs []error
	if op != nil {
		errs = append(errs, op.Stop(ctx))
	}
	if cp != nil {
		errs = append(errs, cp.Stop())
	}
	return errors.Join(errs...)
}
