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

package plugin

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// attempts prints each attempt of a test event as it is recorded, and the reason why the next one waits. The Postback
// has that reason, often after the delivery changed, so both are watched.
func (o *testOptions) attempts(ctx context.Context, s *scope, p *v1alpha1.Postback, test action.Test) error {
	deadline, _ := ctx.Deadline()
	progress := &progress{postback: p, deadline: deadline, toTheEnd: o.wait}
	err := o.watch(ctx, s, unlessGone(func(object client.Object) (bool, error) {
		progress.see(object)
		lines, done := progress.news(o.clock.Now())
		for _, line := range lines {
			say(o.Out, "  %s", line)
		}
		return done, nil
	}),
		only(&v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: test.Delivery}}, &v1alpha1.PostbackDeliveryList{}),
		only(&v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}, &v1alpha1.PostbackList{}),
	)
	if err != nil {
		return err
	}
	if phase := waiting.Of(progress.delivery).Phase; phase != v1alpha1.DeliveryDelivered {
		say(o.Out, "Not delivered: %s. See \"kubectl postback event %s\".", phase, test.Delivery)
		return errReported
	}
	say(o.Out, "Delivered: %s", test.Delivery)
	return nil
}

// progress is the printed state of a test event.
type progress struct {
	postback *v1alpha1.Postback
	// delivery is nil until the watch shows it.
	delivery *v1alpha1.PostbackDelivery
	// deadline is the time at which the command stops waiting.
	deadline time.Time
	// toTheEnd says that the command waits until the delivery is finished, not only for its first attempt.
	toTheEnd bool

	// printed is the number of the newest printed attempt. told is the reason that was printed last.
	printed int32
	told    string
}

// see records the new state of the Postback or the delivery.
func (g *progress) see(object client.Object) {
	switch object := object.(type) {
	case *v1alpha1.Postback:
		g.postback = object
	case *v1alpha1.PostbackDelivery:
		g.delivery = object
	}
}

// news returns the lines to print, and whether no more will come before the deadline.
func (g *progress) news(now time.Time) (lines []string, done bool) {
	if g.delivery == nil {
		return nil, false
	}
	for i := range g.delivery.Status.Attempts {
		if a := &g.delivery.Status.Attempts[i]; a.Number > g.printed {
			g.printed, g.told = a.Number, ""
			lines = append(lines, attemptLine(a))
		}
	}
	of := waiting.Of(g.delivery)
	why := waiting.For(of, g.postback, now)
	if line := g.reason(why, now); line != "" && why.Sentence != g.told {
		g.told = why.Sentence
		lines = append(lines, line)
	}
	// The next attempt comes after the deadline.
	late := g.printed == 0 && why.Reason == waiting.RetryAfter && why.Next.After(g.deadline)
	return lines, of.Phase.Finished() || late || g.printed > 0 && !g.toTheEnd
}

// reason returns the line with the reason why the next attempt waits, or "". A first attempt that is due or scheduled
// needs no line.
func (g *progress) reason(why waiting.Why, now time.Time) string {
	switch {
	case why.Reason == "" || why.Reason == waiting.InTurn || why.Reason == waiting.Scheduled && g.printed == 0:
		return ""
	case why.Reason == waiting.Scheduled:
		return "next attempt " + until(why.Next, now)
	}
	return "waits: " + why.Sentence
}

// attemptLine describes an attempt in one line.
func attemptLine(a *v1alpha1.Attempt) string {
	line := fmt.Sprintf("attempt %d: %s", a.Number, a.Outcome)
	if a.StatusCode != nil {
		line += fmt.Sprintf(", HTTP %d", *a.StatusCode)
	}
	line += ", took " + took(a.Duration.Duration)
	if a.Message != "" {
		line += ": " + visible(a.Message)
	}
	return line
}
