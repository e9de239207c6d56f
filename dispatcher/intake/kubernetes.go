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

package intake

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/refusal"
)

// createTries bounds the tries to create an object whose name is taken, but which is gone at the next read.
const createTries = 3

var errRepeatedlyGone = errors.New("the delivery exists, and is gone when it is read, each time")

// FirstAttempts starts the first attempts of stored deliveries.
type FirstAttempts interface {
	// Admit announces the first attempt of a delivery that is about to be stored; it takes no slot. The caller must
	// call begin once, with the stored delivery, or with nil if the store failed. begin is nil if the attempt is left
	// to the elected replica. Neither function blocks.
	Admit(r *route.Route) (begin func(stored *v1alpha1.PostbackDelivery))
}

// API reads and writes PostbackDeliveries past the cache.
type API interface {
	Create(ctx context.Context, object client.Object, options ...client.CreateOption) error
	Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error
}

// Kubernetes is the intake that creates PostbackDeliveries.
type Kubernetes struct {
	API           API
	FirstAttempts FirstAttempts
	// MissingRights tells a missing right from an API server that has just started. If it is nil, every missing right
	// gives Unstored.
	MissingRights *MissingRights
}

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=get;create

// Store creates the PostbackDelivery and starts its first attempt, which does not wait for other deliveries of the
// request. The first-attempt window begins before the create; after it the elected replica would make the same
// attempt.
func (k *Kubernetes) Store(ctx context.Context, d *Delivery) Outcome {
	begin := k.FirstAttempts.Admit(d.Route)
	if begin == nil {
		return k.Defer(ctx, d)
	}
	var stored *v1alpha1.PostbackDelivery
	defer func() { begin(stored) }()
	outcome := k.create(ctx, d)
	if outcome.Result == Stored {
		stored = d.Object
	}
	return outcome
}

// Defer creates the PostbackDelivery and leaves its first attempt to the elected replica.
func (k *Kubernetes) Defer(ctx context.Context, d *Delivery) Outcome {
	if d.Object.Annotations == nil {
		d.Object.Annotations = map[string]string{}
	}
	d.Object.Annotations[v1alpha1.DeferredAnnotation] = Deferral(d.Route)
	return k.create(ctx, d)
}

// Deferral returns the value of DeferredAnnotation: Paused or Disabled if the Postback has that state, and "true"
// otherwise. r may be nil.
func Deferral(r *route.Route) string {
	if r != nil && (r.State == v1alpha1.PostbackPaused || r.State == v1alpha1.PostbackDisabled) {
		return string(r.State)
	}
	return "true"
}

func (k *Kubernetes) create(ctx context.Context, d *Delivery) Outcome {
	existing, outcome := Create(ctx, k.API, d.Object)
	if existing != nil {
		outcome = d.Compare(existing)
	}
	return k.MissingRights.judge(d.Object.Namespace, outcome)
}

// Create creates a delivery at the API server, or returns the existing delivery of its name.
func Create(ctx context.Context, api API, d *v1alpha1.PostbackDelivery) (existing *v1alpha1.PostbackDelivery, o Outcome) {
	for range createTries {
		err := api.Create(ctx, d, client.FieldOwner(v1alpha1.DispatcherFieldOwner))
		if err == nil {
			return nil, Outcome{Result: Stored}
		}
		// The API server checks a quota before the name: the delivery may exist all the same.
		kind, _ := refusal.Of(err)
		if !apierrors.IsAlreadyExists(err) && kind != refusal.Quota {
			return nil, OutcomeOf(err)
		}
		existing := &v1alpha1.PostbackDelivery{}
		getErr := api.Get(ctx, client.ObjectKeyFromObject(d), existing)
		switch {
		case getErr == nil:
			return existing, Outcome{}
		case !apierrors.IsNotFound(getErr):
			return nil, OutcomeOf(getErr)
		case kind == refusal.Quota:
			return nil, OutcomeOf(err)
		}
	}
	return nil, Outcome{Result: Unstored, Err: errRepeatedlyGone}
}
