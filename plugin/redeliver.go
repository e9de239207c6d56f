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
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

type redeliverOptions struct {
	*env
	log          *logSource
	postback     string
	since        sinceFlag
	failed, wait bool
	all          bool
	timeout      time.Duration
}

func (e *env) redeliverCommand() *cobra.Command {
	o := &redeliverOptions{env: e}
	cmd := &cobra.Command{
		Use:   "redeliver DELIVERY|EVENT-ID... [--postback POSTBACK | --all] | --postback POSTBACK --since TIME",
		Short: "Send events again: some, or all that were not delivered since a time",
		Long: "Send events again. Each gets a new attempt and a new round of retries, with the same id and bytes, in every phase. " +
			"An event that several Postbacks accepted goes to one of them with --postback, and to each with --all.\n\n" +
			"With --postback and --since, all failed and unfinished deliveries of that Postback since then are sent again; " +
			"with --failed, only those in phase Failed. The operator sends them as the endpoint accepts them.",
		Example: "  kubectl postback redeliver evt_8W10G8 --wait\n  kubectl postback redeliver evt_8W10G8 --postback crm\n  kubectl postback redeliver --postback crm --since 24h",
		Args:    names(0, -1, "deliveries"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	o.log = e.withLog(f)
	f.StringVar(&o.postback, "postback", "", "Send deliveries of this Postback: of the named events, or with --since.")
	f.BoolVar(&o.all, "all", false, "Send the named events to each of their Postbacks.")
	f.Var(&o.since, "since", "Earliest creation time of the deliveries: a duration before now, such as 24h, or a time in RFC 3339.")
	f.BoolVar(&o.failed, "failed", false, "Only deliveries in phase Failed.")
	f.BoolVar(&o.wait, "wait", false, "Wait until each has been attempted.")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "Longest time to wait.")
	_ = cmd.RegisterFlagCompletionFunc("postback", e.completePostbacks)
	return cmd
}

func (o *redeliverOptions) run(cmd *cobra.Command, args []string) error {
	many := o.since.text != "" || o.failed
	switch {
	case len(args) > 0 && many:
		return usagef(cmd, "name either deliveries, or --postback and --since")
	case o.all && (len(args) == 0 || o.postback != ""):
		return usagef(cmd, "--all is for named events, and for each of their Postbacks: omit --postback")
	case len(args) == 0 && (o.postback == "" || o.since.text == ""):
		return usagef(cmd, "name deliveries, or --postback and --since")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	s, err := o.log.scope()
	if err != nil {
		return err
	}
	defer o.log.close()
	if many {
		err = o.many(ctx, s)
	} else {
		err = o.named(ctx, s, args)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("not finished within %s; it continues, and \"kubectl postback events\" shows its progress", o.timeout)
	}
	return err
}

// appendOnce appends a delivery unless it is there: two arguments may select it, by its name and by its event.
func appendOnce(found []*v1alpha1.PostbackDelivery, d *v1alpha1.PostbackDelivery) []*v1alpha1.PostbackDelivery {
	if slices.ContainsFunc(found, func(other *v1alpha1.PostbackDelivery) bool { return other.Name == d.Name }) {
		return found
	}
	return append(found, d)
}

func (o *redeliverOptions) named(ctx context.Context, s *scope, args []string) error {
	postback := ""
	if o.postback != "" {
		p, err := s.postback(ctx, o.postback)
		if err != nil {
			return err
		}
		postback = p.Name
	}
	// All deliveries are looked up first, so that after a wrong name nothing is requested.
	var found []*v1alpha1.PostbackDelivery
	for _, name := range args {
		named, err := s.lookup(ctx, name, postback, o.clock.Now())
		if err != nil {
			return err
		}
		if len(named.deliveries) > 1 && !o.all {
			return fmt.Errorf("event %q has a delivery for each of %s: choose one with --postback, or send it to all with --all",
				named.deliveries[0].Spec.Event.ID, strings.Join(postbacksOf(named.deliveries), ", "))
		}
		for _, d := range named.deliveries {
			found = appendOnce(found, d)
		}
	}
	return o.each(ctx, s, found)
}

func (o *redeliverOptions) many(ctx context.Context, s *scope) error {
	p, err := s.postback(ctx, o.postback)
	if err != nil {
		return err
	}
	now := o.clock.Now()
	since := o.since.time(now)
	selected, err := s.deliveries(ctx, deliveries.Query{Namespace: p.Namespace, Postback: p.Name, Undelivered: true, Since: since}, false, nil)
	if err != nil {
		return err
	}
	meant := selected.Deliveries
	if o.failed {
		var given []*v1alpha1.PostbackDelivery
		for _, d := range meant {
			if d.Status.Phase == v1alpha1.DeliveryFailed {
				given = append(given, d)
			}
		}
		return o.each(ctx, s, given)
	}
	request, err := action.RedeliverSince(ctx, s, p, since, now)
	if err != nil {
		return err
	}
	requested, err := o.requested(ctx, s, p, request, len(meant))
	if err != nil {
		return err
	}
	say(o.Out, "Redelivery requested for %s.", plural(requested, "event"))
	state := p.Spec.GetState()
	switch {
	case requested > 0 && state != v1alpha1.PostbackEnabled:
		say(o.ErrOut, "Postback %q is %s: they wait for \"kubectl postback resume %s\".", p.Name, state, p.Name)
		if o.wait {
			return errReported
		}
		return nil
	case requested > 0:
		// A request for many deliveries waits for the endpoint like any other attempt.
		if why := waiting.Endpoint(p, now); why.Reason != "" {
			say(o.ErrOut, "They wait for their turn: %s", why.Sentence)
		}
	}
	if !o.wait || len(meant) == 0 {
		return nil
	}
	return o.outcomes(ctx, s, meant, func(d *v1alpha1.PostbackDelivery) bool {
		return d.Status.LastHandledRedeliverFromPostback == v1alpha1.HandledToken(d.Annotations[v1alpha1.PassedRedeliverAnnotation])
	})
}

// requested waits until the manager has requested all redeliveries, and returns their number.
func (o *redeliverOptions) requested(ctx context.Context, s *scope, p *v1alpha1.Postback, request string, total int) (int, error) {
	bar := o.bar(total, "asking")
	defer bar.finish()
	n := 0
	err := o.await(ctx, s, p, &v1alpha1.PostbackList{}, func(object client.Object) (bool, error) {
		p, ok := object.(*v1alpha1.Postback)
		if !ok || p.Status.Redelivery == nil || p.Status.Redelivery.Request != v1alpha1.HandledToken(request) {
			return false, nil
		}
		n = int(p.Status.Redelivery.Requested)
		bar.set(n)
		if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.RedeliveryCondition); c != nil && c.Reason == v1alpha1.RedeliveryInvalidReason {
			return false, fmt.Errorf("the request was refused: %s", c.Message)
		}
		return p.Status.Redelivery.CompletionTime != nil, nil
	})
	return n, err
}

// each requests redeliveries one by one.
func (o *redeliverOptions) each(ctx context.Context, s *scope, deliveries []*v1alpha1.PostbackDelivery) error {
	token := action.Token(o.clock.Now())
	bar := o.bar(len(deliveries), "asking")
	for i, d := range deliveries {
		if err := o.ask(ctx, s, d, token); err != nil {
			bar.finish()
			return fmt.Errorf("redelivery requested for %s of %s, then: %w", decimal(i), plural(len(deliveries), "event"), err)
		}
		bar.set(i + 1)
	}
	bar.finish()
	say(o.Out, "Redelivery requested for %s.", plural(len(deliveries), "event"))
	if !o.wait || len(deliveries) == 0 {
		return nil
	}
	return o.outcomes(ctx, s, deliveries, func(d *v1alpha1.PostbackDelivery) bool { return d.Status.LastHandledRedeliver == token })
}

// ask requests a redelivery. A delivery that is only in the delivery log is restored first.
func (o *redeliverOptions) ask(ctx context.Context, s *scope, d *v1alpha1.PostbackDelivery, token string) error {
	if !deliveries.IsObject(d) {
		restored, err := o.restore(ctx, d)
		if err != nil {
			return err
		}
		*d = *restored
	}
	return action.Redeliver(ctx, s, d, token)
}

// restore makes a PostbackDelivery of a delivery in a stream. A waiting delivery leaves the waiting stream.
func (o *redeliverOptions) restore(ctx context.Context, d *v1alpha1.PostbackDelivery) (*v1alpha1.PostbackDelivery, error) {
	if !deliveries.IsWaiting(d) {
		restored, err := o.log.client.Restore(ctx, d.Namespace, d.Name)
		if err != nil {
			return nil, fmt.Errorf("make a PostbackDelivery of %q in the delivery log: %w", d.Name, err)
		}
		return restored, nil
	}
	restored, err := o.log.client.RestoreWaiting(ctx, d)
	if err != nil {
		return nil, waitingError(d, err)
	}
	return restored, nil
}

// outcomes waits until each redelivery has been attempted, and prints the outcomes.
func (o *redeliverOptions) outcomes(ctx context.Context, s *scope, deliveries []*v1alpha1.PostbackDelivery, handled func(*v1alpha1.PostbackDelivery) bool) error {
	open := map[types.UID]bool{}
	for _, d := range deliveries {
		open[d.UID] = true
	}
	bar := o.bar(len(deliveries), "sending")
	delivered, gone := 0, 0
	var failed []string
	w := watching{object: &v1alpha1.PostbackDelivery{}, list: &v1alpha1.PostbackDeliveryList{}, namespace: s.namespace}
	err := o.watch(ctx, s, func(c change) (bool, error) {
		d, ok := c.object.(*v1alpha1.PostbackDelivery)
		if !ok || !open[d.UID] || !c.gone && !handled(d) {
			return false, nil
		}
		delete(open, d.UID)
		switch {
		case c.gone:
			gone++
		case d.Status.Phase == v1alpha1.DeliveryDelivered:
			delivered++
		default:
			failed = append(failed, d.Name)
		}
		bar.set(len(deliveries) - len(open))
		return len(open) == 0, nil
	}, w)
	bar.finish()
	say(o.Out, "%d delivered, %d not delivered, %d without an attempt so far.", delivered, len(failed), len(open))
	if gone > 0 {
		say(o.Out, "%d were deleted meanwhile.", gone)
	}
	for i, name := range failed {
		if i == maxSuggested {
			say(o.Out, "  …")
			break
		}
		say(o.Out, "  not delivered: %s", name)
	}
	if err == nil && len(failed) > 0 {
		return errReported
	}
	return err
}

// bar is a progress bar on a terminal, and does nothing elsewhere.
type bar struct{ shown *progressbar.ProgressBar }

func (o *redeliverOptions) bar(total int, what string) bar {
	if total < 2 || !printers.IsTerminal(o.ErrOut) {
		return bar{}
	}
	return bar{progressbar.NewOptions(total, progressbar.OptionSetWriter(o.ErrOut), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))}
}

func (b bar) set(n int) {
	if b.shown != nil {
		_ = b.shown.Set(n)
	}
}

func (b bar) finish() {
	if b.shown != nil {
		_ = b.shown.Finish()
	}
}
