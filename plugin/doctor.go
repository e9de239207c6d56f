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
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

type doctorOptions struct {
	*logSource
	postback string
	sendTest bool
	// ahead is how far this machine's clock is ahead of the API server's, if the difference exceeds clockSlack.
	ahead time.Duration
}

func (e *env) doctorCommand() *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the installation and your rights; each finding with its remedy",
		Long: "Check the installation: kinds and their versions, your rights and those of the manager and the dispatcher, which replicas are alive, who " +
			"owns the retries, the backlog and the oldest event that is due, the clocks, and Postbacks that are not ready or whose endpoint is in trouble.\n\n" +
			"With --postback and --send-test, a test event is sent: only the dispatcher can tell whether it reaches an endpoint.\n\n" +
			"Checks beyond your rights are reported and skipped. The exit code is 1 if anything is wrong.",
		Example: "  kubectl postback doctor\n  kubectl postback doctor --postback crm --send-test",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	o.logSource = e.withLog(f)
	f.StringVar(&o.postback, "postback", "", "Check only this Postback.")
	f.BoolVar(&o.sendTest, "send-test", false, "Send a test event to the Postback, and report the result.")
	_ = cmd.RegisterFlagCompletionFunc("postback", e.completePostbacks)
	return cmd
}

// grade is the result of a check, from good to bad.
type grade int

const (
	good grade = iota
	unknown
	warning
	bad
)

var gradeCells = map[grade]cell{good: {"ok", green}, unknown: {"?", faint}, warning: {"warn", yellow}, bad: {"FAIL", red}}

// finding is the result of a check with its remedy.
type finding struct {
	grade        grade
	what, remedy string
}

// report prints findings and records the worst grade.
type report struct {
	env   *env
	worst grade
}

func (r *report) add(f finding) {
	r.worst = max(r.worst, f.grade)
	mark := gradeCells[f.grade]
	text := fmt.Sprintf("%-4s", mark.text)
	if printers.AllowsColorOutput(r.env.Out) {
		text = mark.colour.of(text)
	}
	say(r.env.Out, "%s  %s", text, visible(f.what))
	if f.remedy != "" {
		say(r.env.Out, "      -> %s", visible(f.remedy))
	}
}

func (r *report) good(format string, args ...any) { r.add(finding{what: fmt.Sprintf(format, args...)}) }

// unreadable reports that something cannot be read, and the reason.
func (r *report) unreadable(what string, err error) {
	r.add(finding{unknown, what + " cannot be read", firstLine(explain(err))})
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func (o *doctorOptions) run(cmd *cobra.Command) error {
	if o.sendTest && o.postback == "" {
		return usagef(cmd, "--send-test needs --postback")
	}
	ctx := cmd.Context()
	s, err := o.scope()
	if err != nil {
		return err
	}
	defer o.close()
	r := &report{env: o.env}
	var p *v1alpha1.Postback
	var missing error
	if o.postback != "" {
		// A misspelt name is reported first, unless the kinds are missing.
		if p, missing = s.postback(ctx, o.postback); missing != nil && !isMissing(missing) {
			return missing
		}
	}
	say(o.Out, "Your namespace is %s, that of the installation is %s.", s.namespace, o.installNamespace)
	if err := o.checkKinds(ctx, r); err != nil {
		return err
	}
	if r.worst == bad {
		// The other checks need the operator's kinds.
		return errReported
	}
	if missing != nil {
		return missing
	}
	o.report = func(err error) { r.add(unreadLog(err)) }
	replicas := o.replicas(ctx, s, r)
	o.checkRights(ctx, s, r)
	o.checkAccounts(ctx, s, r, replicas)
	o.checkReplicas(r, replicas)
	o.checkWatched(s, r, replicas)
	o.checkLog(ctx, s, r)
	if p != nil {
		o.checkPostback(r, p, replicas)
		o.checkEndpoint(ctx, s, r, p)
	} else {
		o.checkPostbacks(ctx, s, r, replicas)
	}
	if r.worst == bad {
		return errReported
	}
	return nil
}

// checkEndpoint reports the health of one Postback's endpoint, and sends a test event if --send-test is set.
func (o *doctorOptions) checkEndpoint(ctx context.Context, s *scope, r *report, p *v1alpha1.Postback) {
	if !o.sendTest {
		var a v1alpha1.Attempt
		told := &activity{}
		_, err := s.deliveries(ctx, deliveries.Query{Namespace: p.Namespace, Postback: p.Name, Limit: waiting.MaxRecent}, false, func(d *v1alpha1.PostbackDelivery) {
			told.add(d)
			if n := len(d.Status.Attempts); n > 0 && d.Status.Attempts[n-1].Time.After(a.Time.Time) {
				a = d.Status.Attempts[n-1]
			}
		})
		if o.incomplete() != nil {
			told.recent = nil
		}
		why := waiting.Postback(p, o.clock.Now())
		// The health of the endpoint may already name the reason why deliveries wait.
		if healthy := o.checkHealth(r, p, told); why.Reason != "" && (healthy || why != waiting.Endpoint(p, o.clock.Now())) {
			r.add(finding{warning, "Deliveries of postback " + p.Name + " wait", why.Sentence})
		}
		switch {
		case err != nil:
			r.unreadable("The delivery log of postback "+p.Name, err)
		case a.Outcome == "":
			r.add(finding{unknown, fmt.Sprintf("No attempt to %s is on record", p.Status.EndpointHost), "Send a test event: --send-test"})
		default:
			f := finding{what: fmt.Sprintf("The newest attempt to %s, %s: %s", p.Status.EndpointHost, ago(a.Time.Time, o.clock.Now()), attemptLine(&a))}
			if a.Outcome != v1alpha1.OutcomeSucceeded {
				f.grade, f.remedy = warning, remedyOf(a.Outcome)
			}
			r.add(f)
		}
		return
	}
	types := action.TestTypes(p.Spec.Triggers)
	if len(types) == 0 {
		r.add(finding{unknown, "The triggers of postback " + p.Name + " are patterns", "Send one yourself: kubectl postback test " + p.Name + " EVENT"})
		return
	}
	t := &testOptions{env: o.env, timeout: testPatience}
	err := t.send(ctx, s, p, types[0], nil)
	switch {
	case err == nil:
		r.good("The endpoint of postback %s accepts events", p.Name)
	case errors.Is(err, errReported):
		r.add(finding{bad, "The endpoint of postback " + p.Name + " did not accept the test event", "The attempt above has the reason; kubectl postback event shows all details"})
	default:
		r.add(finding{bad, "The test event was not sent", err.Error()})
	}
}

// checkLog reads one entry of the delivery log, if the installation has one.
func (o *doctorOptions) checkLog(ctx context.Context, s *scope, r *report) {
	log := o.open(ctx, s).Log
	if log == nil {
		return // There is none, or why it is not read is reported.
	}
	_, err := log.List(ctx, deliveries.Query{Namespace: s.namespace, Limit: 1})
	switch {
	case deliveries.IsNoLog(err):
	case err != nil:
		o.failed(err)
	default:
		r.good("The delivery log can be read")
	}
}

// unreadLog returns the finding for a delivery log that cannot be read.
func unreadLog(err error) finding {
	return finding{warning, "The delivery log cannot be read: " + firstLine(explain(err)), "Its deliveries, and those that wait in a stream, are missing in all lists: docs/kubectl.md has the requirements for reading it"}
}

// remedyOf returns the remedy for an outcome.
func remedyOf(outcome v1alpha1.Outcome) string {
	switch outcome {
	case v1alpha1.OutcomeRedirected:
		return "Redirects are not followed: set the URL to their target, with kubectl postback set url"
	case v1alpha1.OutcomeRejected4xx:
		return "The endpoint refuses the request: look at its answer, its authentication, and how it verifies"
	case v1alpha1.OutcomeGone:
		return "The endpoint accepts no more events: correct the URL, or send a test event to try it again"
	case v1alpha1.OutcomeFailed5xx, v1alpha1.OutcomeUnexpectedStatus, v1alpha1.OutcomeInvalidResponse:
		return "The endpoint is at fault: look at its own log at that time"
	case v1alpha1.OutcomeTimeout:
		return "The endpoint answers too late: let it answer first and work afterwards, or raise spec.timeout (30s at most)"
	case v1alpha1.OutcomeConnectionRefused, v1alpha1.OutcomeConnectionReset, v1alpha1.OutcomeConnectionFailed:
		return "The endpoint is not reached: is it running, and does a firewall or NetworkPolicy let the dispatcher through?"
	case v1alpha1.OutcomeNameNotResolved:
		return "The host name has no address: correct the URL, or the DNS of the cluster"
	case v1alpha1.OutcomeAddressBlocked:
		return "The dispatcher may not reach that address or port: see --allow-cidr and --allow-ports in docs/security.md"
	case v1alpha1.OutcomeTLSFailed:
		return "The certificate is not accepted: is it valid for the host, and its authority in spec.tls.caSecretRef?"
	case v1alpha1.OutcomeProxyFailed:
		return "The egress proxy is at fault, not the endpoint"
	case v1alpha1.OutcomeAuthenticationFailed:
		return "The authorisation server gave no token: look at spec.auth.oauth2 and its Secret"
	case v1alpha1.OutcomeInvalidRequest:
		return "The request could not be made: the message has the reason"
	case v1alpha1.OutcomeSucceeded, v1alpha1.OutcomeInterrupted:
	}
	return ""
}
