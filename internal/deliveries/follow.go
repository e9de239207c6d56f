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

package deliveries

import (
	"context"
	"slices"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// firstPause is the pause after the first failure; it doubles up to longestRetry.
	firstPause   = 500 * time.Millisecond
	longestRetry = 15 * time.Second
	// maxFirst bounds the deliveries that Follow reads at its start.
	maxFirst = 5000
)

// Follower holds the callbacks of Follow.
type Follower struct {
	// Trim, if set, removes unneeded parts of a delivery as soon as it is read, to save memory.
	Trim func(*v1alpha1.PostbackDelivery)
	// Deliveries is called with new entries of the delivery log, oldest first.
	Deliveries func(...*v1alpha1.PostbackDelivery) error
	// LeftOut, if set, is called with the number of deliveries that were left out because there were too many.
	LeftOut func(n int)
	// Trouble is called with the first error of a series, and with nil when reading succeeds again.
	Trouble func(error)
}

// Follow passes on each delivery that is logged after a version of the delivery log. It reconnects after a lost
// connection. Without a version it begins with the newest deliveries, up to the query's limit or 5,000. It ends when
// ctx ends, Deliveries fails, or IsRefused holds for an error.
func (c *Client) Follow(ctx context.Context, q Query, version string, f Follower) error {
	if f.Trim == nil {
		f.Trim = func(*v1alpha1.PostbackDelivery) {}
	}
	s := &following{Follower: f, client: c, query: q, version: version, pause: firstPause}
	for ctx.Err() == nil {
		err := s.step(ctx)
		switch {
		case s.failed != nil || ctx.Err() != nil:
			return s.failed
		case IsRefused(err):
			return err
		case err == nil:
			continue
		case !s.troubled:
			s.troubled = true
			f.Trouble(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.pause):
		}
		s.pause = min(2*s.pause, longestRetry)
	}
	return nil
}

// following is the state of one call of Follow.
type following struct {
	Follower
	client  *Client
	query   Query
	version string
	// failed is the error that Deliveries returned.
	failed   error
	troubled bool
	pause    time.Duration
}

func (s *following) works() {
	if s.troubled {
		s.Trouble(nil)
	}
	s.pause, s.troubled = firstPause, false
}

// step reads the newest deliveries if the version is unknown. Otherwise it watches until the watch ends.
func (s *following) step(ctx context.Context) error {
	if s.version == "" {
		newest, version, err := s.newest(ctx)
		if err == nil {
			s.works()
			s.version, s.failed = version, s.Deliveries(newest...)
		}
		return err
	}
	return s.client.Watch(ctx, s.query, s.version, func(e Event) error {
		s.works()
		s.version = e.ResourceVersion
		if e.LeftOut > 0 && s.LeftOut != nil {
			s.LeftOut(e.LeftOut)
		}
		if e.Delivery != nil {
			s.Trim(e.Delivery)
			s.failed = s.Deliveries(e.Delivery)
		}
		return s.failed
	})
}

// newest returns the newest deliveries, oldest first, and the version of the delivery log.
func (s *following) newest(ctx context.Context) (newest []*v1alpha1.PostbackDelivery, version string, err error) {
	q, p := s.query, &Page{}
	if q.Limit == 0 || q.Limit > maxFirst {
		q.Limit = maxFirst
	}
	err = s.client.each(ctx, logResource, q, p, func(d *v1alpha1.PostbackDelivery) {
		s.Trim(d)
		newest = append(newest, d)
	})
	slices.Reverse(newest)
	return newest, p.Version, err
}

// IsRefused reports whether a dispatcher refused a request for good. The right is missing, the query is invalid, or
// there is no delivery log.
func IsRefused(err error) bool {
	return isProblem(err, "forbidden-log") || isProblem(err, "unauthenticated") || isProblem(err, "invalid-query") || IsNoLog(err)
}
