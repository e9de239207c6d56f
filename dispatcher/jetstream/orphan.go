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
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

const (
	// orphanAge is how long reads at the API server must not find a Postback before its waiting deliveries are
	// removed. askEvery is the pause between two reads.
	orphanAge = time.Minute
	askEvery  = orphanAge / 3
)

// orphan is a Postback without a route. asked is the time of the last read, missing that of the first read that did
// not find it.
type orphan struct{ asked, missing time.Time }

// mayAsk reports whether it is time to read a Postback without a route from the API server.
func (d *drain) mayAsk(key postbackKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, now := d.orphans[key], d.consumer.Clock.Now()
	if now.Sub(o.asked) < askEvery {
		return false
	}
	o.asked = now
	d.orphans[key] = o
	return true
}

// purgeOrphan removes the waiting deliveries of a deleted Postback, as the garbage collector removes objects. A
// Postback that this replica has not loaded yet must not count as deleted, so reads must miss it for orphanAge.
func (d *drain) purgeOrphan(ctx context.Context, key postbackKey) error {
	c := d.consumer.Connection
	head, err := c.headOfWaiting(ctx, key.namespace, key.postback)
	if err != nil || head == nil {
		return err
	}
	if _, _, invalid := c.names.ParseWaiting(head.Subject, head.Header, head.Data); invalid != nil {
		d.consumer.refuse(invalid, head.Subject)
		return d.removeInvalid(ctx, head.Sequence)
	}
	name := head.Header.Get(message.PostbackHeader)
	exists, err := d.consumer.PostbackExists(ctx, key.namespace, name, key.postback)
	if err != nil {
		return fmt.Errorf("ask for Postback %s/%s: %w", key.namespace, name, err)
	}
	if !d.isGone(key, exists) {
		return nil
	}
	stream, err := d.stream(ctx)
	if err != nil {
		return err
	}
	for _, subject := range []string{c.names.WaitingSubject(key.namespace, key.postback), c.names.RetrySubjects(key.namespace, key.postback)} {
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("purge %s: %w", subject, err)
		}
	}
	d.consumer.Log.Info("Removed the waiting deliveries of a deleted Postback", "namespace", key.namespace, "postback", name, "uid", key.postback)
	return nil
}

// removeInvalid removes a message that is no delivery, and so names no Postback.
func (d *drain) removeInvalid(ctx context.Context, sequence uint64) error {
	stream, err := d.stream(ctx)
	if err != nil {
		return err
	}
	return remove(ctx, stream, sequence)
}

// isGone records the result of a read, and reports whether the Postback has been missing for orphanAge.
func (d *drain) isGone(key postbackKey, exists bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, now := d.orphans[key], d.consumer.Clock.Now()
	switch {
	case exists:
		o.missing = time.Time{}
	case o.missing.IsZero():
		o.missing = now
	case now.Sub(o.missing) >= orphanAge:
		delete(d.orphans, key)
		return true
	}
	d.orphans[key] = o
	return false
}
