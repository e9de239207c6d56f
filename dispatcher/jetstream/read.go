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
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// leastRead is the least bound of a read.
const leastRead = 4

// drained is a message of the waiting stream, with the number of earlier reads.
type drained struct {
	*jetstream.RawStreamMsg

	tries    uint64
	delivery *v1alpha1.PostbackDelivery
	stored   time.Time
	// invalid is the reason why the message is not a delivery, or nil.
	invalid error
}

func (d *drain) parse(m *jetstream.RawStreamMsg, tries uint64) drained {
	one := drained{RawStreamMsg: m, tries: tries}
	one.delivery, one.stored, one.invalid = d.consumer.Connection.names.ParseWaiting(m.Subject, m.Header, m.Data)
	return one
}

// next returns the due messages of a level: first those to be read again, then new ones. If too many are to be read
// again, it returns no new ones.
func (d *drain) next(ctx context.Context, now *term, claim claimed) ([]drained, error) {
	messages, err := d.repeated(ctx, now, claim.key, claim.most)
	d.mu.Lock()
	c := now.cursors[claim.key]
	from, crowded := c.next, len(c.again) >= laneShare
	most := claim.most - len(messages)
	if c.most > 0 {
		most = min(most, c.most)
	}
	d.mu.Unlock()
	if err != nil || len(messages) == claim.most || crowded {
		return messages, err
	}
	read, err := d.unread(ctx, claim.key, from, most)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && len(read) == 0 {
		c.dryAt = claim.poll
	}
	return append(messages, c.advance(read, d.consumer.Clock.Now())...), err
}

// unread reads messages of a level from a sequence on.
func (d *drain) unread(ctx context.Context, key cursorKey, from uint64, most int) (read []drained, err error) {
	c := d.consumer.Connection
	subject := c.names.RetrySubject(key.namespace, key.postback, key.level)
	batch, err := jetstreamext.GetBatch(ctx, c.js, c.names.WaitingStream(), most, jetstreamext.GetBatchSeq(max(from, 1)),
		jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchMaxBytes(readBytes))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	}
	for m, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return read, fmt.Errorf("read %s: %w", subject, err)
		}
		read = append(read, d.parse(m, 0))
	}
	return read, nil
}

// advance returns the due messages, and stops at the first one that is not due, because a level is sorted by due
// time. A message that Retry-After delays is set aside, because later messages may be due before it. After a read with
// messages that are not due, the next one takes twice as many as were due.
func (c *cursor) advance(read []drained, now time.Time) (due []drained) {
	c.most = 0
	for _, m := range read {
		wait := dueIn(m.delivery, now)
		switch {
		case m.invalid != nil || wait <= 0:
			due = append(due, m)
		case delayed(m.delivery) && len(c.again) < laneShare:
			c.readAgain(m.Sequence, reread{at: now.Add(wait)})
		default:
			c.restUntil, c.most = now.Add(max(wait, shortestRest)), max(2*len(due), leastRead)
			return due
		}
		c.next = m.Sequence + 1
	}
	return due
}

// repeated reads the messages that are due to be read again, from the leader of the stream.
func (d *drain) repeated(ctx context.Context, now *term, key cursorKey, most int) (messages []drained, err error) {
	due := d.dueAgain(now, key, most)
	for i, one := range due {
		m, err := d.consumer.Connection.ask(ctx, d.consumer.Connection.names.WaitingStream(), whichMessage{From: one.sequence})
		if err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, left := range due[i:] {
				now.cursors[key].readAgain(left.sequence, left.reread)
			}
			return messages, err
		}
		if m != nil {
			messages = append(messages, d.parse(m, one.tries))
		}
	}
	return messages, nil
}

// again is a message to be read again.
type again struct {
	sequence uint64
	reread
}

// dueAgain removes and returns the messages that are due to be read again, oldest first.
func (d *drain) dueAgain(now *term, key cursorKey, most int) (due []again) {
	d.mu.Lock()
	defer d.mu.Unlock()
	given, at := now.cursors[key].again, d.consumer.Clock.Now()
	for _, sequence := range slices.Sorted(maps.Keys(given)) {
		if r := given[sequence]; len(due) < most && !r.at.After(at) {
			due = append(due, again{sequence, r})
			delete(given, sequence)
		}
	}
	return due
}
