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
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/curl"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

type eventOptions struct {
	*env
	log    *logSource
	output *output
	curl   bool

	postback string
}

func (e *env) eventCommand() *cobra.Command {
	o := &eventOptions{env: e}
	cmd := &cobra.Command{
		Use:   "event DELIVERY|EVENT-ID",
		Short: "Show one event: request, each attempt, response, next attempt, curl command",
		Long: "Show one event. The argument is the id of the event, the name of a delivery, or the beginning of either.\n\n" +
			"An event that several Postbacks accepted has a delivery for each: a table shows them, and --postback chooses one.\n\n" +
			"With --curl, the output is only a shell script that signs and sends the same request again. The script reads the key, credentials and " +
			"the URL with kubectl when it runs, and contains none of them.",
		Example: "  kubectl postback event evt_8W10G8\n  kubectl postback event evt_8W10G8 --postback crm --curl | sh",
		Args:    names(1, 1, "a delivery, or the id of an event"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	o.output = newOutput(cmd, false)
	o.log = e.withLog(cmd.Flags())
	cmd.Flags().StringVar(&o.postback, "postback", "", "Show the delivery for this Postback.")
	_ = cmd.RegisterFlagCompletionFunc("postback", e.completePostbacks)
	cmd.Flags().BoolVar(&o.curl, "curl", false, "Print only the request, as a shell script with curl.")
	return cmd
}

func (o *eventOptions) run(ctx context.Context, name string) error {
	printObject, err := o.output.printer()
	if err != nil {
		return err
	}
	s, err := o.log.scope()
	if err != nil {
		return err
	}
	defer o.log.close()
	found, err := o.find(ctx, s, name)
	if err != nil {
		return err
	}
	if len(found.deliveries) > 1 {
		return o.several(ctx, s, found, printObject)
	}
	d := found.deliveries[0]
	if printObject != nil {
		return printObject(o.env, d)
	}
	p := &v1alpha1.Postback{}
	if err := s.Get(ctx, client.ObjectKey{Namespace: d.Namespace, Name: d.Spec.PostbackRef.Name}, p); err != nil {
		return fmt.Errorf("read the postback of the event: %w", err)
	}
	kubectl, err := o.kubectl()
	if err != nil {
		return err
	}
	if o.curl {
		_, err := fmt.Fprint(o.Out, curl.Script(p, d, kubectl))
		return err
	}
	why := waiting.For(waiting.Of(d), p, o.clock.Now())
	if why.Reason == waiting.InTurn && deliveries.IsObject(d) {
		why = why.Behind(s.ahead(ctx, d, o.clock.Now()))
	}
	o.print(p, d, why)
	say(o.Out, "\nSend the same request yourself:  kubectl postback%s event %s -n %s --curl | sh", kubectl.Flags(), d.Name, d.Namespace)
	if o.postback == "" {
		o.printMissing(ctx, s, found)
	}
	return nil
}

// printEach prints one event's deliveries for several Postbacks.
func (o *eventOptions) printEach(ctx context.Context, s *scope, found *lookup) error {
	event := found.deliveries[0].Spec.Event
	say(o.Out, "Event %s (%s) has %s:\n", event.ID, event.Type, plural(len(found.deliveries), "delivery"))
	t := newTable(o.Out, false, column{name: "POSTBACK", least: 6}, column{name: "TIME"}, column{name: "STATUS"}, column{name: "HTTP"},
		column{name: "TRIES"}, column{name: "TOOK"}, column{name: "NEXT"}, column{name: "OUTCOME"})
	rows, waits := make([]row, len(found.deliveries)), o.waits(ctx, s, found.deliveries[0].Namespace)
	for i, d := range found.deliveries {
		c := logRow(d, waits)
		rows[i] = row{c[2], c[1], c[5], c[6], c[7], c[8], c[9], c[10]}
	}
	if err := t.print(o.Out, rows...); err != nil {
		return err
	}
	say(o.ErrOut, "Add --postback to see one of them: its request, and each attempt.")
	o.printMissing(ctx, s, found)
	return nil
}

func (o *eventOptions) printMissing(ctx context.Context, s *scope, found *lookup) {
	for _, note := range s.missing(ctx, found, o.clock.Now()) {
		say(o.ErrOut, "%s", note)
	}
}

// find finds the deliveries of an event, for one Postback if --postback names it.
func (o *eventOptions) find(ctx context.Context, s *scope, name string) (*lookup, error) {
	if o.postback != "" {
		p, err := s.postback(ctx, o.postback)
		if err != nil {
			return nil, err
		}
		o.postback = p.Name
	}
	return s.lookup(ctx, name, o.postback, o.clock.Now())
}

// several prints one event's deliveries for several Postbacks, in the chosen format.
func (o *eventOptions) several(ctx context.Context, s *scope, found *lookup, printObject func(*env, runtime.Object) error) error {
	switch {
	case o.curl:
		return fmt.Errorf("event %q has a delivery for each of %s: choose one with --postback", found.deliveries[0].Spec.Event.ID, strings.Join(postbacksOf(found.deliveries), ", "))
	case printObject != nil:
		return printObject(o.env, listOf(found.deliveries))
	}
	return o.printEach(ctx, s, found)
}

func (o *eventOptions) print(p *v1alpha1.Postback, d *v1alpha1.PostbackDelivery, why waiting.Why) {
	now := o.clock.Now()
	w := &description{out: o.Out, now: now}
	test := ""
	if d.Spec.Test {
		test = testMark
	}
	w.field("Event", "%s%s", d.Spec.Event.Type, test)
	w.field("ID", "%s", d.Spec.Event.ID)
	w.field("Delivery", "%s", d.Name)
	w.field("Postback", "%s, in namespace %s", p.Name, p.Namespace)
	w.field("Created", "%s (%s)", d.CreationTimestamp.UTC().Format(time.RFC3339), ago(d.CreationTimestamp.Time, now))
	status := phaseCell(d.Status.Phase)
	text := status.text
	if printers.AllowsColorOutput(o.Out) {
		text = status.colour.of(text)
	}
	say(o.Out, "%-15s%s, %s", "Status:", text, plural(int(d.Status.AttemptCount), "attempt"))
	if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.DeliveredCondition); c != nil {
		w.field("Why", "%s: %s", c.Reason, c.Message)
	}
	switch {
	case why.Next.After(now):
		w.field("Next attempt", "%s (%s)", why.Next.UTC().Format(time.RFC3339), until(why.Next, now))
	case why.Reason != "":
		w.field("Next attempt", "%s", nextText(why, now))
	}
	switch why.Reason {
	case waiting.Paused, waiting.Disabled:
		w.field("Waits", "%s Deliver again: \"kubectl postback resume %s\"", why.Sentence, p.Name)
	default:
		w.field("Waits", "%s", why.Sentence)
	}
	say(o.Out, "\nRequest, as it would be sent now:")
	say(o.Out, "  POST %s", visible(endpoint.Masked(p.Spec.URL)))
	for _, h := range curl.Headers(p, d) {
		if h.Note != "" {
			h.Value = "(" + h.Note + ")"
		}
		say(o.Out, "  %s", visible(h.Name+": "+h.Value))
	}
	say(o.Out, "")
	indented(o.Out, pretty(d.Spec.Body))
	o.printAttempts(d)
}

func (o *eventOptions) printAttempts(d *v1alpha1.PostbackDelivery) {
	attempts := d.Status.Attempts
	if len(attempts) == 0 {
		say(o.Out, "\nNo attempt is on record yet.")
		return
	}
	say(o.Out, "\nAttempts, newest first:")
	for i := len(attempts) - 1; i >= 0; i-- {
		a := &attempts[i]
		answer := string(a.Outcome)
		if a.StatusCode != nil {
			answer = fmt.Sprintf("%d %s", *a.StatusCode, a.Outcome)
		}
		line := fmt.Sprintf("  %d. %s  %s, took %s", a.Number, a.Time.UTC().Format("2006-01-02T15:04:05.000Z"), answer, took(a.Duration.Duration))
		if a.RemoteIP != "" {
			line += ", from " + a.RemoteIP
		}
		say(o.Out, "%s", line)
		if a.Message != "" {
			say(o.Out, "     %s", visible(a.Message))
		}
		if at := a.RetryAfterTime; at != nil {
			say(o.Out, "     The endpoint asked to wait until %s", at.UTC().Format(time.RFC3339))
		}
		if a.ResponseBody != "" {
			indented(o.Out, pretty(a.ResponseBody))
		}
	}
	if hidden := int(d.Status.AttemptCount) - len(attempts); hidden > 0 {
		say(o.Out, "  and %s before", plural(hidden, "attempt"))
	}
}

// pretty indents JSON, and returns any other text unchanged.
func pretty(text string) string {
	var indented bytes.Buffer
	if json.Indent(&indented, []byte(text), "", "  ") != nil {
		return text
	}
	return indented.String()
}

// indented writes untrusted text, with a mark before each line.
func indented(out interface{ Write([]byte) (int, error) }, text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		say(out, "     | %s", visibleText(strings.TrimRight(line, "\r\n")))
	}
}
