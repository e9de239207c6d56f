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

package console

import (
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// waitWords replace the time of the next attempt in a row of a delivery that waits without a schedule.
var waitWords = map[waiting.Reason]string{
	waiting.NoPostback:           "no Postback",
	waiting.NoRoute:              "no route",
	waiting.NoDispatcher:         "no dispatcher",
	waiting.Paused:               "paused",
	waiting.Disabled:             "disabled",
	waiting.Gone:                 "set aside",
	waiting.APIServerUnavailable: "unknown",
}

// wait is the reason why a delivery waits, in the form that the pages show.
type wait struct {
	waiting.Why
	// Ahead says that Next is in the future.
	Ahead bool
}

// Word returns a word or two that replace a time in a row of the log.
func (w wait) Word() string {
	if word := waitWords[w.Reason]; word != "" || w.Reason == "" {
		return word
	}
	return "due"
}

// away reports whether the API server is unavailable.
func (c *Console) away() bool {
	p := c.problem()
	return p != nil && p.Short == apiServerAway
}

// whyRow returns the reason why the delivery of a row waits, or the zero value.
func (c *Console) whyRow(p *v1alpha1.Postback, row *feed.Row) wait {
	now := c.clock.Now()
	why := waiting.For(waiting.Delivery{
		Phase: row.Phase, Attempts: row.Attempts, Test: row.Test, Asked: row.Asked, InBulk: row.InBulk, Scheduled: row.Next,
	}, p, now)
	if why.Reason != "" && c.away() {
		why = waiting.Unavailable()
	}
	return wait{why, why.Next.After(now)}
}

// whyBacklog returns the reason why the deliveries in the waiting stream wait, or the zero value if there are none.
func (c *Console) whyBacklog(p *v1alpha1.Postback) wait {
	now := c.clock.Now()
	why := waiting.Backlog(p, now)
	return wait{why, why.Next.After(now)}
}

// behind returns the number of older due deliveries of the same Postback.
func (c *Console) behind(p *v1alpha1.Postback, row *feed.Row) int {
	others := 0
	for _, other := range c.feed.Rows(row.PostbackKey()) {
		if other.Created.Before(row.Created) && c.whyRow(p, other).Reason == waiting.InTurn {
			others++
		}
	}
	return others
}

// whyPostback returns the reason why all deliveries of a Postback wait, or the zero value.
func (c *Console) whyPostback(p *v1alpha1.Postback) waiting.Why {
	if c.away() {
		return waiting.Unavailable()
	}
	return waiting.Postback(p, c.clock.Now())
}

// oldKeyEnds returns the time at which the previous key stops signing, or zero if only one key signs.
func oldKeyEnds(key *v1alpha1.PostbackSecret, now time.Time) time.Time {
	if key == nil || key.Status.PreviousExpiryTime == nil || !key.Status.PreviousExpiryTime.After(now) {
		return time.Time{}
	}
	return key.Status.PreviousExpiryTime.Time
}
