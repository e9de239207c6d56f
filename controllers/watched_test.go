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
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// The manager leaves route Secrets of unwatched namespaces alone, because it must not read their Postbacks.
func TestManagerLeavesRoutesOfOtherNamespacesAlone(t *testing.T) {
	t.Parallel()
	l := newLive(t, time.Hour)
	l.renew("east", loadedEverything, 600)
	l.create(newPostback("crm", nil))
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	other := l.route("crm")
	other.Namespace, other.UID = "elsewhere", "3f2a4b4e-0000-4000-8000-000000000001"
	foreign, err := other.ToSecret(l.install)
	l.must(err)
	l.must(l.direct.Create(l.ctx, foreign))
	// The manager also handles the next object.
	own := l.route("crm")
	own.UID = "3f2a4b4e-0000-4000-8000-000000000002"
	leftover, err := own.ToSecret(l.install)
	l.must(err)
	l.must(l.direct.Create(l.ctx, leftover))
	l.gomega.Eventually(func() error { return l.direct.Get(l.ctx, client.ObjectKeyFromObject(leftover), &corev1.Secret{}) }).
		Should(Satisfy(apierrors.IsNotFound))
	l.gomega.Consistently(func() error { return l.direct.Get(l.ctx, client.ObjectKeyFromObject(foreign), &corev1.Secret{}) }).
		WithTimeout(time.Second).Should(Succeed())
}
