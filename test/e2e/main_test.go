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
// control plane, with the real kubectl.
package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	// patience bounds waits for events that usually take a moment, for busy machines.
	patience = time.Minute
	logLines = 60
)

// All tests share this installation. A test that ends one of its processes restarts it.
var (
	cp         *controlplane.ControlPlane
	op         *operator.Operator
	api        client.Client
	manager    *operator.Process
	dispatcher *operator.Process
)

func TestMain(m *testing.M) {
	os.Exit(operator.RunTests(m, start))
}

func start(ctx context.Context, installed *operator.Operator) error {
	op, cp = installed, installed.ControlPlane
	var err error
	if api, err = cp.Client(); err != nil {
		return err
	}
	if manager, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http"), operator.WithRestarts()); err != nil {
		return err
	}
	dispatcher, err = op.StartDispatcher(ctx, "postback-dispatcher-0")
	return err
}
