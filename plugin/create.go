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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
)

type createOptions struct {
	*env
	print                                              *genericclioptions.PrintFlags
	dryRun                                             string
	url, displayName, filter, format, state, secretRef string
	triggers, headers, secretHeaders, signatures       []string
	timeout, giveUpAfter                               time.Duration
	maxAttempts, maxConcurrent, perSecond, maxPending  int32
	wait                                               bool
	waitTimeout                                        time.Duration
}

const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

func (e *env) createCommand() *cobra.Command {
	o := &createOptions{env: e, print: genericclioptions.NewPrintFlags("created").WithTypeSetter(scheme)}
	cmd := &cobra.Command{
		Use:   "create NAME --url URL --trigger TYPE[,TYPE...]",
		Short: "Create a Postback, or print it for Git",
		Example: "  kubectl postback create crm --url crm.example.com/hooks --trigger lead.created,sale.*\n" +
			"  kubectl postback create crm --url crm.example.com/hooks --trigger '*' --dry-run=client -o yaml > crm.yaml\n" +
			"  kubectl postback create crm --url crm.example.com --trigger sale.* --secret-header Authorization=crm-token/header",
		Args: names(1, 1, "the new Postback"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.print.AddFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "", "URL of the endpoint. A bare host gets https://.")
	f.StringSliceVar(&o.triggers, "trigger", nil, "Event types to send: exact (lead.created), a prefix (sale.*) or * for all. May be repeated.")
	f.StringVar(&o.displayName, "display-name", "", "The display name.")
	f.StringVar(&o.filter, "filter", "", "A CEL expression over the event, such as 'event.data.sale.amount > 1000'.")
	f.StringVar(&o.format, "format", "", "JSON (the default), CloudEvents or Slack.")
	f.StringVar(&o.state, "state", "", "Enabled (the default), Paused or Disabled.")
	f.StringVar(&o.secretRef, "secret-ref", "", "PostbackSecret to sign with. Without it the Postback gets one of its own.")
	f.StringArrayVar(&o.headers, "header", nil, "A header for each request, 'Name: value'. May be repeated.")
	f.StringArrayVar(&o.secretHeaders, "secret-header", nil, "A header whose value is in a Secret, Name=SECRET/KEY. May be repeated.")
	f.StringSliceVar(&o.signatures, "signature", nil, "Signature schemes: Dub, StandardWebhooks. Both by default.")
	f.DurationVar(&o.timeout, "timeout", 0, "Longest duration of an attempt, 1s to 30s. The default is 10s.")
	f.Int32Var(&o.maxAttempts, "max-attempts", 0, "Attempts after which a delivery fails. 0 is no limit.")
	f.DurationVar(&o.giveUpAfter, "give-up-after", 0, "Time after which a delivery fails. 0 is no limit.")
	f.Int32Var(&o.maxConcurrent, "max-concurrent", 0, "Requests in flight at a time.")
	f.Int32Var(&o.perSecond, "per-second", 0, "Requests that begin in a second. 0 is no limit.")
	f.Int32Var(&o.maxPending, "max-pending", 0, "Number of unfinished deliveries at which new events are refused. The default is 10000.")
	f.StringVar(&o.dryRun, "dry-run", dryRunNone, "none, client (print the object and send nothing) or server (the API server checks the object and does not store it).")
	f.Lookup("dry-run").NoOptDefVal = dryRunClient
	f.BoolVar(&o.wait, "wait", false, "Wait until events are routed.")
	f.DurationVar(&o.waitTimeout, "wait-timeout", time.Minute, "Longest time to wait.")
	completeWith(cmd, "format", string(v1alpha1.FormatJSON), string(v1alpha1.FormatCloudEvents), string(v1alpha1.FormatSlack))
	completeWith(cmd, "state", string(v1alpha1.PostbackEnabled), string(v1alpha1.PostbackPaused), string(v1alpha1.PostbackDisabled))
	completeWith(cmd, "signature", string(v1alpha1.SignatureDub), string(v1alpha1.SignatureStandardWebhooks))
	completeWith(cmd, "dry-run", dryRunNone, dryRunClient, dryRunServer)
	return cmd
}

func (o *createOptions) run(cmd *cobra.Command, name string) error {
	p, err := o.postback(cmd, name)
	if err != nil {
		return err
	}
	if p.Namespace, err = o.namespace(); err != nil {
		return err
	}
	if o.dryRun != dryRunNone {
		if err := o.print.Complete("%s (" + o.dryRun + " dry run)"); err != nil {
			return err
		}
	}
	printer, err := o.print.ToPrinter()
	if err != nil {
		return usagef(cmd, "%w", err)
	}
	if o.dryRun == dryRunClient {
		return printer.PrintObj(p, o.Out)
	}
	s, err := o.scope()
	if err != nil {
		return err
	}
	options := []client.CreateOption{client.FieldOwner(v1alpha1.PluginFieldOwner), client.FieldValidation("Strict")}
	if o.dryRun == dryRunServer {
		options = append(options, client.DryRunAll)
	}
	err = s.Create(cmd.Context(), p, options...)
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("postback %q already exists: change it with \"kubectl postback set\", or choose another name", name)
	}
	if err != nil {
		return err
	}
	if err := printer.PrintObj(p, o.Out); err != nil || o.dryRun == dryRunServer {
		return err
	}
	return o.follow(cmd.Context(), s, p)
}

// follow waits for the manager's results for a new Postback, as far as the flags request.
func (o *createOptions) follow(ctx context.Context, s *scope, p *v1alpha1.Postback) error {
	if p.Spec.Filter != "" {
		if err := o.checkFilter(ctx, s, p, "--filter"); err != nil {
			return err
		}
	}
	if !o.wait {
		return nil
	}
	return o.waitReady(ctx, s, p)
}

func (o *createOptions) postback(cmd *cobra.Command, name string) (*v1alpha1.Postback, error) {
	switch o.dryRun {
	case dryRunNone, dryRunClient, dryRunServer:
	default:
		return nil, usagef(cmd, "--dry-run must be none, client or server, not %q", o.dryRun)
	}
	switch {
	case o.url == "":
		return nil, usagef(cmd, "--url is missing: name the endpoint, such as --url https://crm.example.com/hooks")
	case len(o.triggers) == 0:
		return nil, usagef(cmd, "--trigger is missing: name the event types, such as --trigger lead.created,sale.*; '*' is all")
	}
	if err := action.CheckName(name); err != nil {
		return nil, usagef(cmd, "a Postback cannot have the name %q: %w", name, err)
	}
	headers, err := o.headerList()
	if err != nil {
		return nil, usagef(cmd, "%w", err)
	}
	url, err := action.URL(o.url)
	if err != nil {
		return nil, usagef(cmd, "--url: %w", err)
	}
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec = v1alpha1.PostbackSpec{
		URL: url, DisplayName: o.displayName, Filter: o.filter, Format: v1alpha1.PayloadFormat(o.format),
		State: v1alpha1.PostbackState(o.state), Headers: headers,
	}
	for _, t := range o.triggers {
		p.Spec.Triggers = append(p.Spec.Triggers, v1alpha1.Trigger(t))
	}
	for _, scheme := range o.signatures {
		p.Spec.Signatures = append(p.Spec.Signatures, v1alpha1.SignatureScheme(scheme))
	}
	if o.secretRef != "" {
		p.Spec.SecretRef = &v1alpha1.LocalReference{Name: o.secretRef}
	}
	o.bounds(cmd, &p.Spec)
	return p, nil
}

// bounds sets only the fields whose flags were given. The operator's defaults apply to the others.
func (o *createOptions) bounds(cmd *cobra.Command, spec *v1alpha1.PostbackSpec) {
	given := cmd.Flags().Changed
	if given("timeout") {
		spec.Timeout = &metav1.Duration{Duration: o.timeout}
	}
	if retry := (v1alpha1.RetryPolicy{}); given("max-attempts") || given("give-up-after") {
		if given("max-attempts") {
			retry.MaxAttempts = ptr.To(o.maxAttempts)
		}
		if given("give-up-after") {
			retry.GiveUpAfter = &metav1.Duration{Duration: o.giveUpAfter}
		}
		spec.Retry = &retry
	}
	limits := v1alpha1.Limits{}
	for _, limit := range []struct {
		flag  string
		value int32
		field **int32
	}{
		{"max-concurrent", o.maxConcurrent, &limits.MaxConcurrent}, {"per-second", o.perSecond, &limits.PerSecond}, {"max-pending", o.maxPending, &limits.MaxPending},
	} {
		if given(limit.flag) {
			*limit.field = ptr.To(limit.value)
			spec.Limits = &limits
		}
	}
}

func (o *createOptions) headerList() ([]v1alpha1.Header, error) {
	var headers []v1alpha1.Header
	for _, text := range o.headers {
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" {
			return nil, errors.New("--header must have the form 'Name: value'")
		}
		headers = append(headers, v1alpha1.Header{Name: name, Value: ptr.To(strings.TrimSpace(value))})
	}
	for _, text := range o.secretHeaders {
		name, reference, _ := strings.Cut(text, "=")
		secret, key, ok := strings.Cut(reference, "/")
		if !ok || name == "" || secret == "" || key == "" {
			return nil, fmt.Errorf("--secret-header %q must have the form Name=SECRET/KEY", text)
		}
		headers = append(headers, v1alpha1.Header{Name: name, ValueFrom: &v1alpha1.HeaderSource{
			SecretKeyRef: &v1alpha1.SecretKeySelector{Name: secret, Key: key},
		}})
	}
	return headers, nil
}

// waitReady waits until a Postback is Ready. It fails if the Postback is Stalled.
func (o *createOptions) waitReady(ctx context.Context, s *scope, p *v1alpha1.Postback) error {
	ctx, cancel := context.WithTimeout(ctx, o.waitTimeout)
	defer cancel()
	var last cell
	err := o.await(ctx, s, p, &v1alpha1.PostbackList{}, func(object client.Object) (bool, error) {
		p, ok := object.(*v1alpha1.Postback)
		if !ok {
			return false, nil
		}
		if last = readyCell(p); last.colour == red {
			return false, fmt.Errorf("postback %q cannot become ready: %s", p.Name, readyMessage(p))
		}
		return last.colour == green, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("postback %q was not ready within %s: %s", p.Name, o.waitTimeout, last.text)
	}
	if err == nil {
		say(o.ErrOut, "Events are routed to it from now on.")
	}
	return err
}
