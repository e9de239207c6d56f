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
	// workers is how many deliveries are deleted at a time. One delete takes some milliseconds, so they keep up with
	// several hundred deliveries a second, and leave the API server to those that deliver.
	workers = 4
	// mostWorkers are reached by doubling after each batch that was full. A busy API server serves all clients alike. Four
	// deletions beside a hundred deliveries would fall behind more with every second, and the bound of the cluster would
	// not hold.
	mostWorkers = 32
	// requestTimeout bounds one request to the API server.
	requestTimeout = 10 * time.Second
	// enoughFailures ends a batch in which most fails: the API server is away, or a role lacks the verb.
	enoughFailures = 8
	// refusedRest is the pause after a delivery could not be deleted. staleRest is the pause after the watch had not
	// shown its newest version yet. annotatedRest is the pause for a pending redelivery; the redelivery changes the
	// delivery, which ends the pause.
	refusedRest   = time.Minute
	staleRest     = 5 * time.Second
	annotatedRest = 10 * time.Minute
)

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=get;list;watch;delete

// deleteAll deletes a batch, so many at a time. It returns an error if more of it failed than not. Then it may have ended
// early.
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

// delete deletes a delivery if it is as it was when that was decided.
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
	// The version, too: a redelivery request or another change of this moment must not be lost.
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

// unanswered returns the pause for a delivery with a redeliver annotation. It is 0 if the annotation was handled and the
// delivery has not changed. The cache has only metadata, so the whole object is read.
func (p *Pruner) unanswered(ctx context.Context, v *victim) (time.Duration, error) {
	d := &v1alpha1.PostbackDelivery{}
	err := p.options.Client.Get(ctx, v.key, d)
	switch {
	case apierrors.IsNotFound(err):
		return 0, nil // The delete finds out, too.
	case err != nil:
		return 0, fmt.Errorf("get PostbackDelivery %s: %w", v.key, err)
	case d.UID != v.uid || d.ResourceVersion != v.resourceVersion:
		return staleRest, nil
	case !delivery.RequestOf(d).None():
		return annotatedRest, nil
	}
	return 0, nil
}

// tally counts how the deletes of a batch ended.
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

// err returns an error, with the first of them, if more failed than not.
func (t *tally) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == 0 || t.failed <= t.succeeded || errors.Is(t.first, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%d deletes failed and %d succeeded; the first: %w", t.failed, t.succeeded, t.first)
}
