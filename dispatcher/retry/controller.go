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

package retry

import (
	"fmt"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// errorDelay and maxErrorDelay bound the backoff after an error of the API server. The maximum is short, so that
	// due deliveries are sent soon after an outage.
	errorDelay    = 100 * time.Millisecond
	maxErrorDelay = 5 * time.Second
)

// maxConcurrent is the number of concurrent reconciles; lanes make the attempts.
const maxConcurrent = 8

// Setup adds the Reconciler to a manager. It runs on every replica, but acts only while elected: so the next elected
// replica already has the deliveries in memory.
func Setup(mgr manager.Manager, r *Reconciler) error {
	c, err := controller.New("retry", mgr, controller.Options{
		Reconciler:              r,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](errorDelay, maxErrorDelay),
		MaxConcurrentReconciles: maxConcurrent,
		NeedLeaderElection:      ptr.To(false),
	})
	if err != nil {
		return fmt.Errorf("make the retry controller: %w", err)
	}
	if err := c.Watch(r.Source()); err != nil {
		return fmt.Errorf("follow the unfinished PostbackDeliveries: %w", err)
	}
	return nil
}
