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

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// drained is a message that was read, and how often before.
type drained struct {
	*jetstream.RawStreamMsg

	tries uint64
}

// next returns the next messages of a Postback: some that were read before, then those that were not, unless too many are to be
// read again.
func (d *drain) next(ctx context.Context, now *term, key postbackKey, most int, poll uint64) ([]drained, error) {
	c := d.consumer.Connection
	messages, err := d.repeated(ctx, now, key, most)
	d.mu.Lock()
	cursor := now.cursors[key]
	from, crowded := cursor.next, len(cursor.again) >= laneShare
	d.mu.Unlock()
	if err != nil || len(messages) == most || crowded {
		return messages, err
	}
	batch, err := jetstreamext.GetBatch(ctx, c.js, c.names.WaitingStream(), most-len(messages), jetstreamext.GetBatchSeq(max(from, 1)),
		jetstreamext.GetBatchSubject(c.names.WaitingSubject(key.namespace, key.postback)), jetstreamext.GetBatchMaxBytes(readBytes))
	if err != nil {
		return messages, fmt.Errorf("read what waits for Postback %s of namespace %s: %w", key.postback, key.namespace, err)
	}
	for m, failed := range batch {
		if errors.Is(failed, jetstreamext.ErrNoMessages) {
			break
		}
		if failed != nil {
			err = fmt.Errorf("read what waits for Postback %s of namespace %s: %w", key.postback, key.namespace, failed)
			break
		}
		messages, from = append(messages, drained{RawStreamMsg: m}), m.Sequence+1
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	cursor.next = from
	if err == nil && len(messages) == 0 {
		cursor.dryAt = poll
	}
	return messages, err
}

// repeated returns the messages that were given back and whose time has come, as the leader has them.
func (d *drain) repeated(ctx context.Context, now *term, key postbackKey, most int) (messages []drained, err error) {
	due := d.dueAgain(now, key, most)
	for i, one := range due {
		m, err := d.consumer.Connection.ask(ctx, d.consumer.Connection.names.WaitingStream(), whichMessage{From: one.sequence})
		if err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, left := range due[i:] {
				now.cursors[key].retry(left.sequence, left.retrial)
			}
			return messages, err
		}
		if m != nil {
			messages = append(messages, drained{m, one.tries})
		}
	}
	return messages, nil
}

// again is a message to be read again.
type again struct {
	sequence uint64
	retrial
}

// dueAgain pops the messages that are to be read again now, the oldest first.
func (d *drain) dueAgain(now *term, key postbackKey, most int) (due []again) {
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
