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

// Package start parses a program's configuration, makes its log, and runs its controller-runtime manager.
package start

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/postback-dev/postback-operator/internal/rollback"
)

// Manager runs a manager within its container's memory limit. When ctx ends, it returns after work in progress has
// finished. Before the caches have synced, a controller-runtime manager ignores ctx; nothing is in flight then, so
// Manager returns at once. After a rollback of etcd, the error wraps rollback.ErrRolledBack.
func Manager(ctx context.Context, mgr manager.Manager) error {
	err := run(ctx, mgr)
	return errors.Join(rollback.Cause(ctx), err)
}

func run(ctx context.Context, mgr manager.Manager) error {
	limitMemory(ctx, mgr.GetLogger())
	boundGarbage(ctx)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	synced := make(chan struct{})
	go func() {
		if mgr.GetCache().WaitForCacheSync(ctx) {
			close(synced)
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-synced:
		return <-ended
	case <-ctx.Done():
	}
	select {
	case <-synced:
		return <-ended
	default:
		return nil
	}
}
