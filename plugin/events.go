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
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/history"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

type eventsOptions struct {
	*env
	log                           *logSource
	output                        *output
	allNamespaces, follow, failed bool
	waiting                       bool
	event                         string
	since                         sinceFlag
	limit                         int
}

func (e *env) eventsCommand() *cobra.Command {
	o := &eventsOptions{env: e, limit: 50}
	cmd := &cobra.Command{
		Use:     "events [POSTBACK]",
		Aliases: []string{"log", "logs"},
		Short:   "Show the log: events and their results, newest first",
		Long: "Show the log of a Postback, or of all in the namespace: each event, its result, and the time of its next attempt.\n\n" +
			"The first characters of an event's id are enough for \"kubectl postback event\".",
		Example: "  kubectl postback events crm --failed --since 24h\n  kubectl postback events crm --follow\n" +
			"  kubectl postback events -A --event sale.created -o wide",
		Args:              names(0, 1, "one Postback, or none for all"),
		ValidArgsFunction: e.completePostbacks,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.output = newOutput(cmd, true)
	f := cmd.Flags()
	o.log = e.withLog(f)
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "Show the events of all namespaces.")
	f.BoolVarP(&o.follow, "follow", "f", false, "Keep watching, and print changes, oldest first.")
	f.BoolVar(&o.failed, "failed", false, "Only failed events, in phase Failed or Retrying.")
	f.BoolVar(&o.waiting, "waiting", false, "Only events that wait for an attempt, in phase Pending or Retrying.")
	f.StringVar(&o.event, "event", "", "Only events of this type.")
	f.Var(&o.since, "since", "Only deliveries made since this time: a duration before now, such as 24h, or a time in RFC 3339.")
	f.IntVar(&o.limit, "limit", o.limit, "Number of newest events. 0 is no limit.")
	return cmd
}

func (o *eventsOptions) query(cmd *cobra.Command, args []string) (deliveries.Query, error) {
	q := deliveries.Query{Event: o.event, Failed: o.failed, Unfinished: o.waiting, Waiting: !o.follow, Limit: o.limit}
	switch {
	case o.limit < 0:
		return q, usagef(cmd, "--limit must be 0, for no limit, or more")
	case o.event != "" && !event.ValidType(o.event):
		return q, usagef(cmd, "--event: %q is not an event type, such as lead.created", o.event)
	case o.allNamespaces && len(args) > 0:
		return q, usagef(cmd, "--all-namespaces is for all Postbacks: omit %q, or name its namespace with -n", args[0])
	}
	q.Since = o.since.time(o.clock.Now())
	return q, nil
}

func (o *eventsOptions) run(cmd *cobra.Command, args []string) error {
	ctx := cmd.Context()
	printObject, err := o.output.printer()
	if err != nil {
		return err
	}
	q, err := o.query(cmd, args)
	if err != nil {
		return err
	}
	s, err := o.log.scope()
	if err != nil {
		return err
	}
	defer o.log.close()
	var p *v1alpha1.Postback
	if len(args) > 0 {
		if p, err = s.postback(ctx, args[0]); err != nil {
			return err
		}
		q.Postback = p.Name
	}
	if q.Namespace = s.namespace; o.allNamespaces {
		q.Namespace = metav1.NamespaceAll
	}
	if o.follow {
		return o.followLog(ctx, s, q, printObject)
	}
	kept := &history.Kept{}
	page, err := s.deliveries(ctx, q, printObject != nil, kept.Add)
	if err != nil {
		return err
	}
	if printObject != nil {
		if err := printObject(o.env, listOf(page.Deliveries)); err != nil {
			return err
		}
		return o.log.incomplete()
	}
	if err := o.printLog(q, page, o.waits(ctx, s, q.Namespace)); err != nil {
		return err
	}
	if o.log.unread == nil {
		o.printKept(p, q, page, kept)
	}
	return o.log.incomplete()
}

// printKept prints the time since which the printed log of a Postback is complete, unless filters or a limit apply.
func (o *eventsOptions) printKept(p *v1alpha1.Postback, q deliveries.Query, page *deliveries.Page, kept *history.Kept) {
	if p == nil || q.Failed || q.Unfinished || q.Event != "" || page.More || page.Version != "" || page.Total > len(page.Deliveries) {
		return
	}
	if since, why := kept.Since(p, o.clock.Now()); since.After(q.Since) {
		say(o.ErrOut, "%s", why)
	}
}

func listOf(deliveries []*v1alpha1.PostbackDelivery) *v1alpha1.PostbackDeliveryList {
	list := &v1alpha1.PostbackDeliveryList{Items: make([]v1alpha1.PostbackDelivery, len(deliveries))}
	for i, d := range deliveries {
		list.Items[i] = *d
	}
	return list
}

func (o *eventsOptions) printLog(q deliveries.Query, page *deliveries.Page, w *waits) error {
	if page.Total == 0 && o.log.unread != nil {
		say(o.ErrOut, "No event%s is known beside that log.", described(q))
		return nil
	}
	if page.Total == 0 {
		say(o.ErrOut, "No events%s. \"kubectl postback test\" sends one.", described(q))
		return nil
	}
	t := o.table(q)
	if err := t.print(o.Out, logRows(page.Deliveries, w)...); err != nil {
		return err
	}
	switch {
	case page.More:
		say(o.ErrOut, "The newest %d: see more with --limit.", len(page.Deliveries))
	case page.Total > len(page.Deliveries):
		say(o.ErrOut, "%d of %d, the newest: see more with --limit.", len(page.Deliveries), page.Total)
	}
	return nil
}

// described describes the filters of a query, for a sentence.
func described(q deliveries.Query) string {
	text := ""
	if q.Failed {
		text += " that failed"
	}
	if q.Unfinished {
		text += " that waits"
	}
	if q.Event != "" {
		text += " of type " + q.Event
	}
	if q.Postback != "" {
		text += " for postback " + q.Postback
	}
	if q.Namespace != "" {
		text += " in namespace " + q.Namespace
	}
	if !q.Since.IsZero() {
		text += " since " + q.Since.UTC().Format(time.RFC3339)
	}
	return text
}

func (o *eventsOptions) table(q deliveries.Query) *table {
	return newTable(o.Out, o.output.wide,
		column{name: "NAMESPACE", wide: !o.allNamespaces, least: 6}, column{name: "TIME"}, column{name: "POSTBACK", wide: q.Postback != "", least: 6}, column{name: "EVENT", least: 10, ending: testMark},
		column{name: "ID", least: 8, first: true}, column{name: "STATUS"}, column{name: "HTTP"}, column{name: "TRIES"}, column{name: "TOOK"}, column{name: "NEXT"},
		column{name: "OUTCOME", wide: true}, column{name: "CREATED", wide: true}, column{name: "NAME", wide: true}, column{name: "WAITS", wide: true}, column{name: "MESSAGE", wide: true})
}

// testMark is printed after the event type of a test event.
const testMark = " (test)"

func logRows(deliveries []*v1alpha1.PostbackDelivery, w *waits) []row {
	rows := make([]row, len(deliveries))
	for i, d := range deliveries {
		rows[i] = logRow(d, w)
	}
	return rows
}

func logRow(d *v1alpha1.PostbackDelivery, w *waits) row {
	now := w.now()
	http, tookText, outcome, message := "", "", "", ""
	if n := len(d.Status.Attempts); n > 0 {
		newest := &d.Status.Attempts[n-1]
		if newest.StatusCode != nil {
			http = decimal(int(*newest.StatusCode))
		}
		tookText, outcome, message = took(newest.Duration.Duration), string(newest.Outcome), newest.Message
	}
	why := w.of(d)
	eventType := d.Spec.Event.Type
	if d.Spec.Test {
		eventType += testMark
	}
	return row{
		plain(d.Namespace), plain(clockTime(d.CreationTimestamp.Time, now)), plain(d.Spec.PostbackRef.Name), plain(eventType), plain(d.Spec.Event.ID),
		phaseCell(d.Status.Phase), plain(http), plain(decimal(int(d.Status.AttemptCount))), plain(tookText), plain(nextText(why, now)),
		plain(outcome), plain(d.CreationTimestamp.UTC().Format(time.RFC3339)), plain(d.Name), plain(why.Sentence), plain(message),
	}
}

func phaseCell(phase v1alpha1.DeliveryPhase) cell {
	switch phase {
	case v1alpha1.DeliveryDelivered:
		return cell{string(phase), green}
	case v1alpha1.DeliveryFailed:
		return cell{string(phase), red}
	case v1alpha1.DeliveryRetrying:
		return cell{string(phase), yellow}
	case v1alpha1.DeliveryPending:
	}
	return plain(string(phase))
}

func decimal(n int) string { return strconv.Itoa(n) }

// sinceFlag is the flag --since: a time, or a duration before now.
type sinceFlag struct {
	text string
	back time.Duration
	at   time.Time
}

func (f *sinceFlag) String() string { return f.text }
func (f *sinceFlag) Type() string   { return "duration|time" }

func (f *sinceFlag) Set(text string) error {
	at, err := time.Parse(time.RFC3339, text)
	if err == nil {
		*f = sinceFlag{text: text, at: at}
		return nil
	}
	back, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is neither a duration such as 24h nor a time such as 2026-03-01T12:00:00Z", text)
	case back <= 0:
		return errors.New("the duration must be positive")
	}
	*f = sinceFlag{text: text, back: back}
	return nil
}

// time returns the time of the flag, or the zero time if the flag is not set.
func (f *sinceFlag) time(now time.Time) time.Time {
	if f.back > 0 {
		return now.Add(-f.back)
	}
	return f.at
}
