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

// Package rollback detects that etcd was restored to an older state. Every cache of the process then has objects that
// no longer exist. Its watches wait for versions that the API server reaches only much later, and miss all changes
// until then. The process cannot tell which part of its memory is still true, so it has to end.
package rollback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

const (
	// readEvery is the pause between two reads. It is also about how long a rollback goes unnoticed once the API
	// server answers.
	readEvery = 2 * time.Second
	// retryEvery is the pause after a failed read. The first read after an outage has to be early, because writes
	// after a restore increase the version again.
	retryEvery = 200 * time.Millisecond
	// readTimeout bounds one read.
	readTimeout = 5 * time.Second
)

// ErrRolledBack is the error with which a program ends after a rollback.
var ErrRolledBack = errors.New("the API server has gone back to an older state: etcd was restored, and nothing that this process has cached can be relied on; it ends to be restarted")

// Watch reads the version of a collection periodically. Consistent reads, one after the other, return growing
// versions of one collection, from any API server.
type Watch struct {
	// Read returns the present version of the collection from etcd, not from a stale cache.
	Read  func(context.Context) (version string, err error)
	Clock clock.Clock
	Log   logr.Logger
}

// Secrets returns a function that reads the resourceVersion of a namespace's Secrets, without their contents. The
// request has no resourceVersion, so the read is consistent.
func Secrets(config *rest.Config, namespace string) (func(context.Context) (string, error), error) {
	clients, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	secrets := clients.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(namespace)
	return func(ctx context.Context) (string, error) {
		list, err := secrets.List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return "", fmt.Errorf("read the version of the Secrets of namespace %s: %w", namespace, err)
		}
		return list.ResourceVersion, nil
	}, nil
}

// Guard returns a context that ends with ctx, or after a rollback with ErrRolledBack as its cause.
func (w *Watch) Guard(ctx context.Context) (guarded context.Context, end context.CancelFunc) {
	guarded, cancel := context.WithCancelCause(ctx)
	go func() {
		if err := w.run(guarded); err != nil {
			cancel(err)
		}
	}()
	return guarded, func() { cancel(nil) }
}

// Cause returns ErrRolledBack if it ended a context of Guard, and otherwise nil.
func Cause(ctx context.Context) error {
	if err := context.Cause(ctx); errors.Is(err, ErrRolledBack) {
		return err
	}
	return nil
}

// run reads versions until ctx ends or one is lower than the one before.
func (w *Watch) run(ctx context.Context) error {
	highest := ""
	for {
		pause := readEvery
		version, err := w.read(ctx)
		switch {
		case err != nil:
			pause = retryEvery
			w.Log.V(1).Info("Cannot read the version of the API server's state", "reason", err.Error())
		case regressed(highest, version):
			return fmt.Errorf("%w (it was at version %s, and is at %s)", ErrRolledBack, highest, version)
		default:
			highest = version
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.Clock.After(pause):
		}
	}
}

func (w *Watch) read(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return w.Read(ctx)
}

// regressed reports whether a version is lower than an earlier one. It is false for versions that cannot be compared.
func regressed(before, now string) bool {
	order, err := resourceversion.CompareResourceVersion(now, before)
	return err == nil && order < 0
}
