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

package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/refusal"
)

// ErrGone means that a delivery no longer exists, so that nothing can be recorded.
var ErrGone = errors.New("the delivery no longer exists")

// ErrUnrecordable means that the API server refuses the record of an attempt for a lasting reason, even without its
// texts.
var ErrUnrecordable = errors.New("the record of the attempt is refused")

// Recorder writes the status of deliveries.
type Recorder struct {
	// Client reads from the API server, not from a cache.
	Client client.Client
}

// RecordBackoff is the pause between repeated writes of an attempt's record. The writer repeats until its context
// ends, because a restart of the API server or NATS must not lose the record.
var RecordBackoff = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: 5 * time.Second}

// unrecordable replaces the message of an attempt whose texts the API server refuses.
const unrecordable = "the API server refused the texts of this attempt, so they are omitted"

// Record applies a change to a delivery's status and writes it. After a conflict it calls apply again on a fresh
// copy, so apply must not depend on earlier calls. It returns the written object, or ErrGone, ErrUnrecordable, or an
// error that wraps the last failure when ctx ends.
func (r *Recorder) Record(ctx context.Context, d *v1alpha1.PostbackDelivery, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error) {
	current := d.DeepCopy()
	bare := false
	var last error
	err := RecordBackoff.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		written, err := r.write(ctx, current, apply, bare)
		switch {
		case err == nil:
			current = written
			return true, nil
		case apierrors.IsConflict(err):
			fresh, err := r.fresh(ctx, d)
			if errors.Is(err, ErrGone) {
				return false, err
			}
			if err == nil {
				current = fresh
			}
			last = err
			return false, nil
		case apierrors.IsNotFound(err):
			return false, ErrGone
		case refused(err) && !bare:
			// Endpoints may answer anything. An attempt without a record would be repeated forever.
			bare = true
			logf.FromContext(ctx).Error(err, "The API server refuses the record of an attempt: recording it without its texts")
			return false, nil
		case refused(err):
			return false, fmt.Errorf("%w: %w", ErrUnrecordable, err)
		}
		if last == nil {
			logf.FromContext(ctx).Info("Cannot record an attempt yet", "reason", err.Error())
		}
		last = err
		return false, nil
	})
	if err == nil {
		return current, nil
	}
	if errors.Is(err, ErrGone) {
		return nil, err
	}
	return nil, fmt.Errorf("record status of PostbackDelivery %s/%s: %w", d.Namespace, d.Name, errors.Join(err, last))
}

// refused reports whether the same write can never succeed. A missing right does not count: an API server that has
// just started refuses everybody until it has read the roles.
func refused(err error) bool {
	kind, _ := refusal.Of(err)
	return kind == refusal.Invalid || kind == refusal.TooLarge || kind == refusal.Policy
}

func (r *Recorder) write(ctx context.Context, d *v1alpha1.PostbackDelivery, apply func(*v1alpha1.PostbackDelivery), bare bool) (*v1alpha1.PostbackDelivery, error) {
	changed := d.DeepCopy()
	apply(changed)
	if newest := len(changed.Status.Attempts) - 1; bare && newest >= 0 {
		changed.Status.Attempts = changed.Status.Attempts[newest:]
		a := &changed.Status.Attempts[0]
		a.Message, a.ResponseBody, a.RemoteIP, a.StatusCode = unrecordable, "", "", nil
	}
	// The API server reads only the status of this object, and answers with the whole object. Decoding the rest,
	// above all the body and the managed fields, would be a seventh of the cost of a write.
	written := &v1alpha1.PostbackDelivery{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name, UID: d.UID, ResourceVersion: d.ResourceVersion},
		Status:     changed.Status,
	}
	if err := r.Client.Status().Update(ctx, written, client.FieldOwner(v1alpha1.DispatcherFieldOwner)); err != nil {
		return nil, err
	}
	return written, nil
}

// fresh reads the delivery again. A later delivery with the same name counts as not found.
func (r *Recorder) fresh(ctx context.Context, d *v1alpha1.PostbackDelivery) (*v1alpha1.PostbackDelivery, error) {
	fresh := &v1alpha1.PostbackDelivery{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(d), fresh)
	if apierrors.IsNotFound(err) || err == nil && fresh.UID != d.UID {
		return nil, ErrGone
	}
	return fresh, err
}
