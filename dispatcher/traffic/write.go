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

package traffic

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// tick is the time between two checks for due counts.
	tick = time.Second
	// writeTimeout bounds one write, lastWrites all writes at shutdown.
	writeTimeout = 5 * time.Second
	lastWrites   = 5 * time.Second
	// parallelWrites is the number of concurrent writes.
	parallelWrites = 8
	// turn is the extra delay of a replica after its own write, which lets others write. A replica that others
	// preceded waits a smaller part of it.
	turn = 3 * time.Second
	// lastTries bounds the tries of a replica at shutdown if others write at the same time.
	lastTries = 5
)

// errConflict means that another replica has written less than a minute ago.
var errConflict = errors.New("another replica has written the statistics")

// +kubebuilder:rbac:groups=postback.dev,resources=postbackstatistics,verbs=get;create;update

// Run writes due counts until ctx ends, then all remaining ones.
func (c *Counter) Run(ctx context.Context) {
	ticker := c.Clock.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrites)
			defer cancel()
			c.flush(last, true)
			return
		case <-ticker.C():
			// A write in progress outlives ctx, up to writeTimeout: an interrupted write might be counted twice.
			c.flush(ctx, false)
		}
	}
}

// flush writes the due counts, or all counts.
func (c *Counter) flush(ctx context.Context, every bool) {
	var group errgroup.Group
	group.SetLimit(parallelWrites)
	for _, b := range c.popDue(c.Clock.Now(), every) {
		group.Go(func() error {
			switch {
			case every:
				c.write(ctx, b, true)
			case ctx.Err() != nil:
				c.putBack(b, c.Clock.Now(), false) // The last flush writes it.
			default:
				c.write(context.WithoutCancel(ctx), b, false)
			}
			return nil
		})
	}
	_ = group.Wait() // Each write handles its own error.
}

// write adds the counts of a book to the statistics of its Postback, and sets the time of the next write.
func (c *Counter) write(ctx context.Context, b *book, last bool) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := c.try(ctx, b, last)
	for tries := 1; last && errors.Is(err, errConflict) && tries < lastTries; tries++ {
		err = c.try(ctx, b, last)
	}
	now := c.Clock.Now()
	switch {
	case err == nil:
		c.settle(b.uid, now.Add(v1alpha1.StatisticsInterval+turn))
	case errors.Is(err, errConflict):
		c.putBack(b, now.Add(b.wait+turn/time.Duration(2+b.skipped)), true)
	default:
		c.putBack(b, now.Add(v1alpha1.StatisticsInterval), false)
		c.report(ctx, b, now, err)
	}
}

// try adds counts to the statistics of a Postback. It returns errConflict, and sets b.wait, if another replica has
// written less than a minute ago. last ignores that.
func (c *Counter) try(ctx context.Context, b *book, last bool) error {
	s := &v1alpha1.PostbackStatistics{}
	err := c.Client.Get(ctx, b.key, s)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	b.resolve(s)
	if len(b.hours) == 0 {
		return nil
	}
	now := c.Clock.Now()
	// A LastUpdateTime in the future comes from a wrong clock. If the object has not changed since the last try, no
	// other replica writes it.
	if since := now.Sub(s.LastUpdateTime.Time); !last && s.ResourceVersion != "" && since < v1alpha1.StatisticsInterval && b.seen != s.ResourceVersion {
		b.seen, b.wait = s.ResourceVersion, min(v1alpha1.StatisticsInterval-since, v1alpha1.StatisticsInterval)
		return errConflict
	}
	add(s, b, now)
	if s.ResourceVersion == "" {
		err = c.Client.Create(ctx, s, client.FieldOwner(v1alpha1.DispatcherFieldOwner))
	} else {
		err = c.Client.Update(ctx, s, client.FieldOwner(v1alpha1.DispatcherFieldOwner))
	}
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		b.wait = v1alpha1.StatisticsInterval
		return errConflict
	case unsure(err):
		b.setUnsure(now)
	}
	return err
}

// unsure reports whether a write may have succeeded despite its error.
func unsure(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError
}

// setUnsure sets the counts of a write with an unknown result apart, for resolve.
func (b *book) setUnsure(at time.Time) {
	b.written, b.writtenAt = b.hours, at.Truncate(time.Microsecond)
	b.hours = nil
}

// resolve handles a write with an unknown result: if the statistics have its time, it succeeded, and the counts are
// dropped. Otherwise they are restored.
func (b *book) resolve(s *v1alpha1.PostbackStatistics) {
	if !s.LastUpdateTime.Time.Equal(b.writtenAt) {
		for i := range b.written {
			b.hour(b.written[i].begin).add(&b.written[i])
		}
	}
	b.written = nil
}

// report logs a failed write, at most once a minute, because an outage affects all Postbacks.
func (c *Counter) report(ctx context.Context, b *book, now time.Time, err error) {
	c.mu.Lock()
	quiet := now.Before(c.quietUntil)
	if !quiet {
		c.quietUntil = now.Add(time.Minute)
	}
	c.mu.Unlock()
	if !quiet {
		logf.FromContext(ctx).Error(err, "Cannot write PostbackStatistics yet; the counts stay in memory", "postback", b.key)
	}
}
