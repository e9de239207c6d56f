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

package controllers

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// maxRequeue bounds the time between two passes over an object, so that a jump of the clock delays a rotation no
	// longer.
	maxRequeue = time.Hour
	// minRequeue prevents a busy loop before a time that is almost due, or rounded.
	minRequeue = time.Second
	// requeueSoon is for a state that changes soon, usually with a watch event before the requeue.
	requeueSoon = 2 * time.Second
	// requeueTerminating is for objects in a namespace that is being deleted.
	requeueTerminating = 30 * time.Second
)

// requeue collects the times of the next pass over an object, and keeps the earliest.
type requeue struct {
	now   time.Time
	after time.Duration
}

// in requeues after a time, clamped to minRequeue and maxRequeue.
func (q *requeue) in(after time.Duration) {
	after = min(max(after, minRequeue), maxRequeue)
	if q.after == 0 || after < q.after {
		q.after = after
	}
}

// at requeues at a time. The zero time means no requeue.
func (q *requeue) at(at time.Time) {
	if !at.IsZero() {
		q.in(at.Sub(q.now))
	}
}

func (q *requeue) result() ctrl.Result { return ctrl.Result{RequeueAfter: q.after} }

// finish turns the failures of a pass into a result. A conflict with another writer is no error, because the next
// pass reads that write. A namespace that is being deleted is no error either.
func finish(ctx context.Context, q requeue, failures ...error) (ctrl.Result, error) {
	err := errors.Join(failures...)
	for _, failure := range failures {
		switch {
		case failure == nil:
		case apierrors.IsConflict(failure) || apierrors.IsAlreadyExists(failure):
			q.in(minRequeue)
		case apierrors.HasStatusCause(failure, corev1.NamespaceTerminatingCause):
			q.in(requeueTerminating)
		default:
			return ctrl.Result{}, err
		}
	}
	if err != nil {
		logf.FromContext(ctx).V(1).Info("Requeued", "reason", err.Error())
	}
	return q.result(), nil
}
