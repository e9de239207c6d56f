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
	"fmt"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// gracefulShutdown is how long a pass that has begun may take to end.
	gracefulShutdown = 20 * time.Second
	// shutdownMargin is how long everything else may take, such as giving up the election. Together they are shorter than
	// a Pod's default grace period.
	shutdownMargin = 5 * time.Second
	// syncCheckTimeout is how long a readiness probe waits for the caches. It is shorter than a probe's default timeout.
	syncCheckTimeout = 500 * time.Millisecond
)

// runner is what is needed of a manager.Manager to run it.
type runner interface {
	Start(ctx context.Context) error
	// Elected is closed once the controllers have been started.
	Elected() <-chan struct{}
}

// shutdownLimits are how long a manager may take to end, once it has been told to.
type shutdownLimits struct {
	// busy is for one whose controllers have been started, idle for one that has nothing to finish.
	busy, idle time.Duration
}

// runManager runs a manager until it fails, or until ctx ends and it has ended too. It does not wait longer than the
// limits: a manager of controller-runtime 0.25 whose caches cannot be filled, for lack of a permission or of the
// CustomResourceDefinitions, never returns, for it goes on waiting for them (runnableGroup.Start).
func runManager(ctx context.Context, mgr runner, limits shutdownLimits) error {
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit, busy := limits.idle, false
	select {
	case <-mgr.Elected():
		limit, busy = limits.busy, true
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
	}
	if busy {
		return fmt.Errorf("it has not ended within %s", limit)
	}
	logf.FromContext(ctx).Info("Ending without the manager, which waits for its caches; no controller has been started")
	return nil
}

// cachesSynced is the readiness check: what is in the API server has arrived here.
func cachesSynced(c cache.Cache) func(*http.Request) error {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), syncCheckTimeout)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errors.New("the caches have not synced yet: see the log for what cannot be listed")
		}
		return nil
	}
}
