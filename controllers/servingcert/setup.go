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

package servingcert

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Setup adds the controller to a manager whose cache holds the metadata of Secrets with v1alpha1.WatchLabel.
func Setup(mgr manager.Manager, namespace string, clock clock.PassiveClock) error {
	r := &Reconciler{
		Client: client.WithFieldOwner(mgr.GetClient(), v1alpha1.ManagerFieldOwner), Live: mgr.GetAPIReader(), Clock: clock, Namespace: namespace,
	}
	if err := metrics.Registry.Register(r); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	request := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: v1alpha1.IngestCertificateName}}
	changed := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if o.GetNamespace() != namespace || o.GetName() != v1alpha1.IngestCertificateName && o.GetName() != v1alpha1.IngestCAName {
			return nil
		}
		return []reconcile.Request{request}
	})
	// The first reconciliation creates missing objects, for which no watch event comes.
	first := source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(request)
		return nil
	})
	err := ctrl.NewControllerManagedBy(mgr).Named("servingcert").
		WatchesMetadata(&corev1.Secret{}, changed).
		WatchesRawSource(first).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of the certificate of ingest: %w", err)
	}
	return nil
}
