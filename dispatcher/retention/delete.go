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

package retention

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

const (
	// workers is the usual number of concurrent deletes. A delete takes a few milliseconds, so they manage several
	// hundred a second and leave the API server to the deliveries.
	workers = 4
	// mostWorkers is the largest number of concurrent deletes. The number doubles after each full batch: a busy API
	// server serves all clients equally, so four deletes beside a hundred stores would fall behind.
	mostWorkers = 32
	// requestTimeout bounds one request to the API server.
	requestTimeout = 10 * time.Second
	// enoughFailures ends a batch in which most deletes fail: the API server is unavailable, or a role lacks the
	// verb.
	enoughFailures = 8
	// A delivery is postponed by refusedRest after a failed delete, and by staleRest if the watch lags behind the API
	// server. annotatedRest applies to a pending redelivery; the redelivery itself ends the pause.
	refusedRest   = time.Minute
	staleRest     = 5 * time.Second
	annotatedRest = 10 * time.Minute
)

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=get;list;watch;delete

// deleteAll deletes a batch with atATime concurrent deletes. It returns an error if more than half failed; it may
// then have ended early.
func (p *Pruner) deleteAll(ctx context.Context, x *index, batch []victim, atATime int) error {
	jobs := make(chan *victim)
	var tally tally
	var group sync.WaitGroup
	for range min(atATime, len(batch)) {
		group.Go(func() {
			for v := range jobs {
				tally.add(p.delete(ctx, x, v))
			}
		})
	}
	for i := range batch {
		if ctx.Err() != nil || tally.hopeless() {
			break
		}
		jobs <- &batch[i]
	}
	close(jobs)
	group.Wait()
	return tally.err()
}

// delete deletes a delivery if it has not changed since it was chosen.
func (p *Pruner) delete(ctx context.Context, x *index, v *victim) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	now := p.options.Clock.Now()
	if v.annotated {
		rest, err := p.unanswered(ctx, v)
		if err != nil {
			x.postpone(v, now.Add(refusedRest))
			return err
		}
		if rest > 0 {
			x.postpone(v, now.Add(rest))
			return nil
		}
	}
	d := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: v.key.Namespace, Name: v.key.Name}}
	d.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDelivery"))
	// The precondition on the resourceVersion protects a concurrent redelivery request or other change.
	err := p.options.Client.Delete(ctx, d, client.Preconditions{UID: &v.uid, ResourceVersion: &v.resourceVersion})
	switch {
	case err == nil:
		pruned.WithLabelValues(v.reason).Inc()
		x.deleted(v)
		return nil
	case apierrors.IsNotFound(err):
		x.deleted(v)
		return nil
	case apierrors.IsConflict(err):
		x.postpone(v, now.Add(staleRest))
		return nil
	}
	x.postpone(v, now.Add(refusedRest))
	return fmt.Errorf("delete PostbackDelivery %s: %w", v.key, err)
}

// unanswered returns how long to postpone a delivery with a redeliver annotation; 0 means that the annotation was
// handled and the delivery may be deleted. It reads the whole object, because the watch has only metadata.
func (p *Pruner) unanswered(ctx context.Context, v *victim) (time.Duration, error) {
	d := &v1alpha1.PostbackDelivery{}
	err := p.options.Client.Get(ctx, v.key, d)
	switch {
	case apierrors.IsNotFound(err):
		return 0, nil // The delete will find the same.
	case err != nil:
		return 0, fmt.Errorf("get PostbackDelivery %s: %w", v.key, err)
	case d.UID != v.uid || d.ResourceVersion != v.resourceVersion:
		return staleRest, nil
	case !delivery.RequestOf(d).None():
		return annotatedRest, nil
	}
	return 0, nil
}

// tally counts the results of a batch.
type tally struct {
	mu                sync.Mutex
	succeeded, failed int
	first             error
}

func (t *tally) add(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.succeeded++
		return
	}
	t.failed++
	if t.first == nil {
		t.first = err
	}
}

func (t *tally) hopeless() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed >= enoughFailures && t.failed > t.succeeded
}

// err returns the first error if more deletes failed than succeeded.
func (t *tally) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == 0 || t.failed <= t.succeeded || errors.Is(t.first, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%d deletes failed and %d succeeded; the first: %w", t.failed, t.succeeded, t.first)
}
