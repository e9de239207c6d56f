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
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

func (e *env) describeCommand() *cobra.Command {
	var log *logSource
	cmd := &cobra.Command{
		Use:               "describe POSTBACK",
		Short:             "Describe a Postback: settings, conditions, key, and its newest events",
		Example:           "  kubectl postback describe crm",
		Args:              names(1, 1, "a Postback"),
		ValidArgsFunction: e.completePostbacks,
		RunE:              func(cmd *cobra.Command, args []string) error { return e.describe(cmd.Context(), log, args[0]) },
	}
	log = e.withLog(cmd.Flags())
	return cmd
}

// describedEvents is the number of newest events in a description.
const describedEvents = 10

func (e *env) describe(ctx context.Context, log *logSource, name string) error {
	s, err := log.scope()
	if err != nil {
		return err
	}
	defer log.close()
	p, err := s.postback(ctx, name)
	if err != nil {
		return err
	}
	a := &activity{}
	page, err := s.deliveries(ctx, deliveries.Query{Namespace: p.Namespace, Postback: p.Name, Limit: describedEvents}, false, a.add)
	if err != nil {
		return err
	}
	secret := &v1alpha1.PostbackSecret{}
	if err := s.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: p.GetPostbackSecretName()}, secret); err != nil {
		secret = nil
	}
	d := &description{out: e.Out, now: e.clock.Now()}
	d.postback(p)
	d.secret(p, secret)
	counts, key := s.statisticsOf(ctx, client.ObjectKeyFromObject(p)), client.ObjectKeyFromObject(p)
	if at := counts.lastSuccess(key); at.After(a.lastSuccess) {
		a.lastSuccess = at
	}
	d.deliveries(a, page)
	d.backlog(p)
	d.statistics(counts, key)
	d.field("Waits", "%s", waiting.Postback(p, d.now).Sentence)
	d.conditions(p.Status.Conditions)
	if len(page.Deliveries) == 0 {
		return nil
	}
	say(e.Out, "\nNewest events:")
	o := &eventsOptions{env: e, output: &output{}}
	return o.table(deliveries.Query{Postback: p.Name}).print(e.Out, logRows(page.Deliveries, e.waits(ctx, s, p.Namespace))...)
}

// description writes fields, each on its own line.
type description struct {
	out io.Writer
	now time.Time
}

// field writes a field unless its value is empty.
func (d *description) field(name, format string, args ...any) {
	if value := fmt.Sprintf(format, args...); value != "" {
		say(d.out, "%-15s%s", name+":", visible(value))
	}
}

func (d *description) postback(p *v1alpha1.Postback) {
	spec := &p.Spec
	d.field("Name", "%s", p.Name)
	d.field("Namespace", "%s", p.Namespace)
	d.field("Display name", "%s", spec.DisplayName)
	if tool, by := action.ManagedBy(p); tool != "" {
		d.field("Managed by", "%s (%s): changes by hand are undone", tool, by)
	}
	d.field("URL", "%s", endpoint.Masked(spec.URL))
	d.field("Triggers", "%s", action.Triggers(spec.Triggers))
	d.field("Filter", "%s", spec.Filter)
	d.field("State", "%s", spec.GetState())
	d.field("Format", "%s", spec.GetFormat())
	var signatures []string
	for _, scheme := range spec.GetSignatures() {
		signatures = append(signatures, string(scheme))
	}
	d.field("Signatures", "%s", strings.Join(signatures, ", "))
	for i := range spec.Headers {
		d.field("Header", "%s", headerText(&spec.Headers[i]))
	}
	d.field("Authorization", "%s", authText(spec.Auth))
	d.field("Timeout", "%s", spec.GetTimeout())
	d.field("Retry", "%s", retryText(spec))
	d.field("Limits", "%s", limitsText(spec))
	delivered, failed, ttl := spec.GetHistory()
	d.field("History", "%d delivered, %d failed, for %s", delivered, failed, ttl)
}

func headerText(h *v1alpha1.Header) string {
	if h.Value != nil && endpoint.Sensitive(h.Name) {
		return h.Name + ": " + endpoint.Hidden
	}
	if h.Value != nil {
		return h.Name + ": " + *h.Value
	}
	if h.ValueFrom != nil && h.ValueFrom.SecretKeyRef != nil {
		return fmt.Sprintf("%s: from key %q of Secret %q", h.Name, h.ValueFrom.SecretKeyRef.Key, h.ValueFrom.SecretKeyRef.Name)
	}
	return h.Name
}

func authText(auth *v1alpha1.Authentication) string {
	switch {
	case auth == nil:
		return ""
	case auth.Basic != nil:
		return fmt.Sprintf("basic, from Secret %q", auth.Basic.SecretRef.Name)
	case auth.Bearer != nil:
		return fmt.Sprintf("bearer, from key %q of Secret %q", auth.Bearer.SecretKeyRef.Key, auth.Bearer.SecretKeyRef.Name)
	case auth.OAuth2 != nil:
		return fmt.Sprintf("OAuth 2.0 of client %q at %s", auth.OAuth2.ClientID, endpoint.Masked(auth.OAuth2.TokenURL))
	}
	return ""
}

func retryText(spec *v1alpha1.PostbackSpec) string {
	text := "after 12s, 2m28s, 30m8s, 6h7m6s, then every 24h"
	attempts, after := spec.GetMaxAttempts(), spec.GetGiveUpAfter()
	switch {
	case attempts > 0 && after > 0:
		return fmt.Sprintf("%s; gives up after %d attempts or %s", text, attempts, after)
	case attempts > 0:
		return fmt.Sprintf("%s; gives up after %d attempts", text, attempts)
	case after > 0:
		return fmt.Sprintf("%s; gives up after %s", text, after)
	}
	return text + ", until delivered"
}

func limitsText(spec *v1alpha1.PostbackSpec) string {
	var limits []string
	if n := spec.GetMaxConcurrent(); n > 0 {
		limits = append(limits, fmt.Sprintf("%d requests at a time", n))
	}
	if n := spec.GetPerSecond(); n > 0 {
		limits = append(limits, fmt.Sprintf("%d requests a second", n))
	}
	return strings.Join(append(limits, fmt.Sprintf("%d pending events", spec.GetMaxPending())), ", ")
}

func (d *description) secret(p *v1alpha1.Postback, s *v1alpha1.PostbackSecret) {
	if s == nil {
		d.field("Key", "PostbackSecret %q, which cannot be read", p.GetPostbackSecretName())
		return
	}
	text := fmt.Sprintf("PostbackSecret %q in Secret %q", s.Name, s.GetSecretName())
	if s.Status.Version > 0 {
		text += fmt.Sprintf(", version %d", s.Status.Version)
	}
	if at := s.Status.LastRotationTime; at != nil {
		text += ", made " + ago(at.Time, d.now)
	}
	d.field("Key", "%s", text)
	if at := s.Status.PreviousExpiryTime; at != nil && at.After(d.now) {
		d.field("Previous key", "version %d signs, too, until %s", s.Status.PreviousVersion, at.UTC().Format(time.RFC3339))
	}
	if at := s.Status.NextRotationTime; at != nil {
		d.field("Next rotation", "%s", at.UTC().Format(time.RFC3339))
	}
}

func (d *description) deliveries(a *activity, page *deliveries.Page) {
	kept := decimal(page.Total)
	if page.More {
		kept = "more than " + kept
	}
	d.field("Events", "%s kept; %d pending, %d being retried", kept, a.pending, a.retrying)
	d.field("Last success", "%s", ago(a.lastSuccess, d.now))
	if !a.oldestDue.IsZero() && a.oldestDue.Before(d.now) {
		d.field("Oldest due", "%s", ago(a.oldestDue, d.now))
	}
}

// backlog writes the number of deliveries that wait in the stream, and the time of their next attempt.
func (d *description) backlog(p *v1alpha1.Postback) {
	b := p.Status.Backlog
	if b == nil {
		return
	}
	text := plural(int(b.Deliveries), "event") + " in the waiting stream"
	if b.OldestTime != nil {
		text += ", the oldest accepted " + ago(b.OldestTime.Time, d.now)
	}
	if b.SharePercent != nil {
		text += fmt.Sprintf("; about %d%% of the stream", *b.SharePercent)
	}
	d.field("Backlog", "%s", text)
	if why := waiting.Backlog(p, d.now); why.Next.IsZero() {
		d.field("Next attempt", "none: %s", why.Sentence)
	} else {
		d.field("Next attempt", "%s", until(why.Next, d.now))
	}
}

// conditions writes the conditions that report problems first.
func (d *description) conditions(conditions []metav1.Condition) {
	say(d.out, "Conditions:")
	for _, conditionType := range []string{
		v1alpha1.ReadyCondition, v1alpha1.StalledCondition, v1alpha1.ReconcilingCondition, v1alpha1.EndpointHealthyCondition,
		v1alpha1.TestEventCondition, v1alpha1.RedeliveryCondition,
	} {
		c := meta.FindStatusCondition(conditions, conditionType)
		if c == nil {
			continue
		}
		say(d.out, "  %-16s %-6s %s, %s: %s", c.Type, c.Status, cmp.Or(c.Reason, "-"), ago(c.LastTransitionTime.Time, d.now), visible(c.Message))
	}
}
