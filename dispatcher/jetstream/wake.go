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

	"github.com/nats-io/nats.go"
)

// takeWoken returns the Postbacks to fill before the next pass over all. A value is true if a message was moved.
func (d *drain) takeWoken() map[postbackKey]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	woken := d.woken
	d.woken = map[postbackKey]bool{}
	return woken
}

// wakeFor makes run fill the lane of a Postback soon. The caller holds the lock.
func (d *drain) wakeFor(key postbackKey, moved bool) {
	d.woken[key] = d.woken[key] || moved
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// hearMoves wakes the drain for messages that other replicas move to the waiting stream, until ctx ends.
func (d *drain) hearMoves(ctx context.Context) {
	c := d.consumer.Connection
	subscription, err := c.nats.Subscribe(c.names.Moves(), func(m *nats.Msg) {
		namespace, postback, ok := c.names.Owner(string(m.Data))
		d.mu.Lock()
		defer d.mu.Unlock()
		if ok && d.term != nil {
			d.wakeFor(postbackKey{namespace, postback}, true)
		}
	})
	if err != nil {
		d.consumer.Log.Error(err, "This replica notices deliveries of limited Postbacks late")
		return
	}
	<-ctx.Done()
	_ = subscription.Unsubscribe() // Without a connection it fails, and the subscription has ended.
}
