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

package deliverylog

import (
	"context"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Pauses between two tries to reconnect.
const (
	firstPause   = 500 * time.Millisecond
	longestRetry = 15 * time.Second
)

// Follower is told what becomes of following the log.
type Follower struct {
	// Delivery is called for each delivery that is logged.
	Delivery func(*v1alpha1.PostbackDelivery) error
	// LeftOut is called with how many were left out because they were too many to be read.
	LeftOut func(n int)
	// Trouble is called with the error, once for each kind, and with nil when reading works again.
	Trouble func(error)
}

// Follow passes on each delivery that is logged after a resource version, and reconnects after a lost connection. It ends
// when ctx ends, a dispatcher denies the right, or Delivery fails.
func (c *Client) Follow(ctx context.Context, q Query, resourceVersion string, f Follower) error {
	pause, troubled := firstPause, false
	for ctx.Err() == nil {
		var failed error
		err := c.Watch(ctx, q, resourceVersion, func(e Event) error {
			if troubled {
				f.Trouble(nil)
			}
			pause, troubled = firstPause, false
			resourceVersion = e.ResourceVersion
			if e.LeftOut > 0 {
				f.LeftOut(e.LeftOut)
			}
			if e.Delivery != nil {
				failed = f.Delivery(e.Delivery)
			}
			return failed
		})
		switch {
		case failed != nil || ctx.Err() != nil:
			return failed
		case IsRefused(err):
			return err
		case err != nil && !troubled:
			troubled = true
			f.Trouble(err)
		}
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestRetry)
	}
	return nil
}

// IsRefused reports whether a dispatcher answered that asking again does not help: the caller may not, or there is no log.
func IsRefused(err error) bool {
	return isProblem(err, "forbidden-log") || isProblem(err, "unauthenticated") || isProblem(err, "invalid-query") || IsNoLog(err)
}
