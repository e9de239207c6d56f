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
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// longestWait bounds how long an object is not looked at, so that a clock that is set does not delay a rotation for
	// longer.
	longestWait = time.Hour
	// shortestWait keeps a due time that is just ahead, or rounded, from spinning.
	shortestWait = time.Second
	// lookAgain is when something is looked at again that is about to change, as a rule with an event.
	lookAgain = 2 * time.Second
	// lookAtDying is when something is looked at again in a namespace that is being deleted, if it is still there.
	lookAtDying = 30 * time.Second
)

// getSecret reads a Secret from the API server, never from a cache, which holds only metadata. It returns nil if there
// is none.
func getSecret(ctx context.Context, reader client.Reader, key types.NamespacedName) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := reader.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get Secret %s: %w", key, err)
	}
	return secret, nil
}

// alarm collects the times at which an object has to be looked at again, and keeps the earliest.
type alarm struct {
	now   time.Time
	after time.Duration
}

func (a *alarm) in(after time.Duration) {
	after = min(max(after, shortestWait), longestWait)
	if a.after == 0 || after < a.after {
		a.after = after
	}
}

// at ignores the zero time.
func (a *alarm) at(at time.Time) {
	if !at.IsZero() {
		a.in(at.Sub(a.now))
	}
}

func (a *alarm) result() ctrl.Result { return ctrl.Result{RequeueAfter: a.after} }

// finish turns what went wrong in a pass into a result. Somebody else's write in between is no error, for the next pass
// sees it, and neither is a namespace that is going away.
func finish(ctx context.Context, a alarm, failures ...error) (ctrl.Result, error) {
	err := errors.Join(failures...)
	for _, failure := range failures {
		switch {
		case failure == nil:
		case apierrors.IsConflict(failure) || apierrors.IsAlreadyExists(failure):
			a.in(shortestWait)
		case apierrors.HasStatusCause(failure, corev1.NamespaceTerminatingCause):
			a.in(lookAtDying)
		default:
			return ctrl.Result{}, err
		}
	}
	if err != nil {
		logf.FromContext(ctx).V(1).Info("Looking again", "reason", err.Error())
	}
	return a.result(), nil
}
