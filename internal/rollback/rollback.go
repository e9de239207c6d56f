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

// Package rollback notices that etcd was restored to an older state. Every cache of the process then has objects that no
// longer exist. Its watches wait for versions that the API server reaches again much later, and miss all changes until
// then. Nothing in the process can tell which parts of its memory are still true, so the process has to end.
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
	// readEvery is the pause between two reads, and so about how long a rollback goes unnoticed once the API server serves again.
	readEvery = 2 * time.Second
	// retryEvery is the pause after a read that failed. The first read after an outage has to come early, because writes
	// after a restore make versions grow again.
	retryEvery = 200 * time.Millisecond
	// readTimeout bounds one read.
	readTimeout = 5 * time.Second
)

// ErrRolledBack is part of the error with which a program ends.
var ErrRolledBack = errors.New("the API server has gone back to an older state: etcd was restored, and nothing that this process has cached can be relied on; it ends to be restarted")

// Watch reads the version of a collection again and again. Versions of one collection only grow, from any API server, if
// each read is consistent and begins after the end of the previous one.
type Watch struct {
	// Read returns the present version of the collection from etcd, and not from a cache that may be behind.
	Read  func(context.Context) (version string, err error)
	Clock clock.Clock
	Log   logr.Logger
}

// Secrets returns a function that reads the version of the Secrets of a namespace, without their contents. Without a
// resourceVersion in the request the API server answers as of now (a consistent read).
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

// Guard returns a context that ends with ctx, or with ErrRolledBack as its cause.
func (w *Watch) Guard(ctx context.Context) (guarded context.Context, end context.CancelFunc) {
	guarded, cancel := context.WithCancelCause(ctx)
	go func() {
		if err := w.run(guarded); err != nil {
			cancel(err)
		}
	}()
	return guarded, func() { cancel(nil) }
}

// Cause returns ErrRolledBack if that ended a context of Guard.
func Cause(ctx context.Context) error {
	if err := context.Cause(ctx); errors.Is(err, ErrRolledBack) {
		return err
	}
	return nil
}

// run reads until ctx ends or a version is lower than the one before.
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

// regressed reports whether a version is lower than an earlier one. Versions that cannot be compared prove nothing.
func regressed(before, now string) bool {
	order, err := resourceversion.CompareResourceVersion(now, before)
	return err == nil && order < 0
}
