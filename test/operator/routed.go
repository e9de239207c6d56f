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
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// WaitSignedWith returns once every live dispatcher replica signs the events of a Postback with exactly these keys,
// the current one first. When ctx ends, it returns an error that describes the difference. It reads the replicas'
// Leases, not the conditions of the Postback.
func (o *Operator) WaitSignedWith(ctx context.Context, postback types.UID, keys ...string) error {
	var missing error
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		missing = o.signedWith(ctx, postback, keys)
		return missing == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the route of Postback %s: %w (%w)", postback, missing, err)
	}
	return nil
}

func (o *Operator) signedWith(ctx context.Context, postback types.UID, keys []string) error {
	secret, err := o.clients.CoreV1().Secrets(Namespace).Get(ctx, route.SecretName(postback), metav1.GetOptions{})
	if err != nil {
		return err
	}
	routed, err := route.FromSecret(secret)
	if err != nil {
		return err
	}
	if !slices.Equal(routed.Keys, keys) {
		return fmt.Errorf("the route has %d keys, not the %d that are wanted, or others", len(routed.Keys), len(keys))
	}
	return o.loaded(ctx, secret)
}

// loaded returns an error unless every replica with a valid Lease has loaded a route Secret.
func (o *Operator) loaded(ctx context.Context, secret *corev1.Secret) error {
	want, err := strconv.ParseUint(secret.ResourceVersion, 10, 64)
	if err != nil {
		return fmt.Errorf("read a resourceVersion: %w", err)
	}
	leases, err := o.clients.CoordinationV1().Leases(Namespace).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.ReplicaLabel})
	if err != nil {
		return err
	}
	live := 0
	for i := range leases.Items {
		lease := &leases.Items[i]
		if lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil ||
			time.Since(lease.Spec.RenewTime.Time) > time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second {
			continue
		}
		live++
		if got, err := strconv.ParseUint(lease.Annotations[v1alpha1.LoadedRoutesAnnotation], 10, 64); err != nil || got < want {
			return fmt.Errorf("replica %s has loaded %q of %d", lease.Name, lease.Annotations[v1alpha1.LoadedRoutesAnnotation], want)
		}
	}
	if live == 0 {
		return errors.New("no dispatcher replica is alive")
	}
	return nil
}
