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

package jetstream

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

const (
	// maxRecords is the number of deliveries beyond which retryRecords reads anew.
	maxRecords = 1 << 17
	// recordsReach is how long before the newest retry of a Postback the records begin. No replica makes attempts for
	// longer while it fails to remove messages.
	recordsReach = time.Minute
	// recordsIdle is how long unused records are kept.
	recordsIdle = time.Minute
	recordsPage = 1024
)

// retryRecords has the retries of a Postback that were put into the waiting stream since a time. A retry is the
// record of a failed attempt. A message with fewer attempts is left over from a crash or a failed removal. It is
// safe for concurrent use.
type retryRecords struct {
	connection *Connection
	key        postbackKey
	seed       maphash.Seed

	mu sync.Mutex
	// from is the time from which retries are read, next the sequence of the next unread one.
	from time.Time
	next uint64
	// attempts has the largest number of attempts of each delivery. It is nil before the first retry.
	attempts map[uint64]int32
	// complete is true after readOnce.
	complete bool
}

func newRetryRecords(c *Connection, key postbackKey) *retryRecords {
	return &retryRecords{connection: c, key: key, seed: maphash.MakeSeed()}
}

// readOnce reads the retries since a time, unless it did so before. last means that no former term can add one.
func (x *retryRecords) readOnce(ctx context.Context, since time.Time, last bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.complete && (x.attempts == nil || !since.Before(x.from)) {
		return nil
	}
	err := x.readOn(ctx, since)
	x.complete = err == nil && last
	return err
}

// read reads the retries since a time that were not read before. The first reading also covers recordsReach before the
// newest retry.
func (x *retryRecords) read(ctx context.Context, since time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.readOn(ctx, since)
}

func (x *retryRecords) readOn(ctx context.Context, since time.Time) error {
	c := x.connection
	newest, err := c.ask(ctx, c.names.WaitingStream(), whichMessage{LastOf: c.names.RetrySubjects(x.key.namespace, x.key.postback)})
	if err != nil || newest == nil {
		return err
	}
	if x.attempts == nil || since.Before(x.from) || len(x.attempts) > maxRecords {
		x.from, x.next, x.attempts, x.complete = newest.Time.Add(-recordsReach), 0, map[uint64]int32{}, false
		if since.Before(x.from) {
			x.from = since
		}
	}
	for x.next <= newest.Sequence {
		n, err := x.page(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			return x.mustBeGone(ctx, newest.Sequence)
		}
	}
	return nil
}

// mustBeGone returns an error if the stream has a message that a page did not show: the server of the page lags.
func (x *retryRecords) mustBeGone(ctx context.Context, sequence uint64) error {
	c := x.connection
	m, err := c.ask(ctx, c.names.WaitingStream(), whichMessage{From: sequence})
	if err == nil && m != nil {
		err = fmt.Errorf("read the retries of Postback %s of namespace %s: the server has not caught up with sequence %d", x.key.postback, x.key.namespace, sequence)
	}
	return err
}

// show reports whether a record has more attempts of a delivery than its status.
func (x *retryRecords) show(d *v1alpha1.PostbackDelivery, stored time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.attempts[x.id(d.Spec.Event.ID, stored.UTC().Format(time.RFC3339Nano))] > d.Status.AttemptCount
}

func (x *retryRecords) id(event, stored string) uint64 {
	return maphash.String(x.seed, event+"\x00"+stored)
}

func (x *retryRecords) page(ctx context.Context) (n int, err error) {
	c, subject := x.connection, x.connection.names.RetrySubjects(x.key.namespace, x.key.postback)
	start := jetstreamext.GetBatchStartTime(x.from)
	if x.next > 0 {
		start = jetstreamext.GetBatchSeq(x.next)
	}
	batch, err := jetstreamext.GetBatch(ctx, c.js, c.names.WaitingStream(), recordsPage, start, jetstreamext.GetBatchSubject(subject))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", subject, err)
	}
	for m, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return n, fmt.Errorf("read %s: %w", subject, err)
		}
		x.add(m.Header)
		x.next = m.Sequence + 1
		n++
	}
	return n, nil
}

func (x *retryRecords) add(header nats.Header) {
	attempts, err := message.AttemptCount(header)
	if err != nil {
		return // The drain removes invalid messages.
	}
	id := x.id(header.Get(message.EventIDHeader), header.Get(message.StoredAtHeader))
	x.attempts[id] = max(x.attempts[id], attempts)
}

// recordsIndex has the retryRecords of the Postbacks that were used within recordsIdle. It is safe for concurrent
// use.
type recordsIndex struct {
	mu       sync.Mutex
	postback map[postbackKey]*askedRecords
}

type askedRecords struct {
	*retryRecords

	at time.Time
}

func (x *recordsIndex) of(c *Connection, key postbackKey, now time.Time) *retryRecords {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.DeleteFunc(x.postback, func(_ postbackKey, r *askedRecords) bool { return now.Sub(r.at) > recordsIdle })
	r := x.postback[key]
	if r == nil {
		r = &askedRecords{retryRecords: newRetryRecords(c, key)}
		if x.postback == nil {
			x.postback = map[postbackKey]*askedRecords{}
		}
		x.postback[key] = r
	}
	r.at = now
	return r.retryRecords
}
