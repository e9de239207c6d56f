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
	"encoding/json"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/refusal"
)

const (
	// redeliverPage is the number of deliveries in one list request.
	redeliverPage = 100
	// enoughMarks and enoughPages bound one step to about a second, so that other Postbacks do not wait.
	enoughMarks = 100
	enoughPages = 10
)

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=list;patch

// redelivery is the progress of a request. It is kept in memory only. After a restart the work begins at the first
// page again, and marks no delivery twice.
type redelivery struct {
	token string
	since metav1.Time
	// next is the continue token of the next page; "" is the first page, with which a round begins.
	next string
	// again says that another round is needed, because a delivery changed between the list and its mark.
	again bool
	// counted is the number of requested redeliveries in the status; seen is the number of marked deliveries that
	// this round found. A manager that crashed may have marked deliveries without counting them.
	counted, seen int32
}

func (p *redelivery) requested() int32 { return max(p.counted, p.seen) }

// redeliverStep requests the redelivery of a bounded number of deliveries, and reports whether all are requested.
func (r *PostbackReconciler) redeliverStep(ctx context.Context, postback *v1alpha1.Postback, p *redelivery) (done bool, err error) {
	before := p.counted
	for range enoughPages {
		if err := r.markPage(ctx, postback, p); err != nil {
			return false, err
		}
		if done = p.next == "" && !p.again; done || p.counted-before >= enoughMarks {
			break
		}
	}
	if marked := p.counted - before; marked > 0 || done {
		logf.FromContext(ctx).Info("Redeliveries requested", "count", marked, "complete", done)
	}
	return done, nil
}

// markPage requests the redelivery of the deliveries on the next page, by their annotation.
func (r *PostbackReconciler) markPage(ctx context.Context, postback *v1alpha1.Postback, p *redelivery) error {
	page := &metav1.PartialObjectMetadataList{}
	page.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDeliveryList"))
	err := r.Live.List(ctx, page, client.InNamespace(postback.Namespace), client.Limit(redeliverPage), client.Continue(p.next),
		client.MatchingFieldsSelector{Selector: fields.AndSelectors(
			fields.OneTermEqualSelector("spec.postbackRef.name", postback.Name),
			fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryDelivered)),
		)})
	if apierrors.IsResourceExpired(err) {
		// The API server no longer has the revision of the first page. Another round begins.
		p.next, p.again = "", true
		return nil
	}
	if err != nil {
		return fmt.Errorf("list PostbackDeliveries: %w", err)
	}
	if p.next == "" {
		p.again, p.seen = false, 0
	}
	seen := int32(0)
	for i := range page.Items {
		d := &page.Items[i]
		if !p.concerns(postback, d) {
			continue
		}
		marked, err := r.mark(ctx, d, p)
		if err != nil {
			return err // The next pass reads this page again.
		}
		if marked {
			seen++
		}
	}
	p.seen += seen
	p.next = page.Continue
	return nil
}

// concerns reports whether a delivery belongs to the Postback, is not being deleted, and was made at since or later.
func (p *redelivery) concerns(postback *v1alpha1.Postback, d *metav1.PartialObjectMetadata) bool {
	controller := metav1.GetControllerOfNoCopy(d)
	return controller != nil && controller.UID == postback.UID && d.DeletionTimestamp.IsZero() && !d.CreationTimestamp.Before(&p.since)
}

// mark sets the annotation that makes the dispatcher send a delivery again. It reports whether the delivery has it.
func (r *PostbackReconciler) mark(ctx context.Context, d *metav1.PartialObjectMetadata, p *redelivery) (bool, error) {
	if d.Annotations[v1alpha1.PassedRedeliverAnnotation] == p.token {
		return true, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		// A delivery that was delivered since the list must not be sent again: the patch then fails with a conflict.
		"resourceVersion": d.ResourceVersion,
		"annotations":     map[string]string{v1alpha1.PassedRedeliverAnnotation: p.token},
	}})
	if err != nil {
		return false, fmt.Errorf("encode the mark of PostbackDelivery %s: %w", d.Name, err)
	}
	patched := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name}}
	patched.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDelivery"))
	err = r.Client.Patch(ctx, patched, client.RawPatch(types.MergePatchType, patch))
	switch {
	case err == nil:
		p.counted++
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsConflict(err):
		p.again = true
		return false, nil
	}
	switch kind, _ := refusal.Of(err); kind {
	case refusal.Invalid, refusal.TooLarge, refusal.Policy:
		// The API server will always refuse this delivery, which must not block the others.
		logf.FromContext(ctx).Error(err, "Cannot request a redelivery: post the event again", "delivery", klog.KObj(d))
		return false, nil
	default:
		return false, fmt.Errorf("annotate PostbackDelivery %s: %w", d.Name, err)
	}
}

// redeliveries holds the requests in progress, by the UID of their Postback. It is safe for concurrent use. The
// redelivery that it returns is not: the work queue runs one pass for an object at a time.
type redeliveries struct {
	mu         sync.Mutex
	byPostback map[types.UID]*redelivery
}

// of returns the progress of a Postback's request. An earlier pass may have begun it.
func (m *redeliveries) of(postback types.UID, request *v1alpha1.Redelivery) *redelivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.byPostback[postback]; p != nil && p.token == request.Request && p.since.Equal(request.Since) {
		return p
	}
	if m.byPostback == nil {
		m.byPostback = map[types.UID]*redelivery{}
	}
	p := &redelivery{token: request.Request, since: *request.Since, counted: request.Requested}
	m.byPostback[postback] = p
	return p
}

// forget drops the progress of a Postback's request.
func (m *redeliveries) forget(postback types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byPostback, postback)
}
