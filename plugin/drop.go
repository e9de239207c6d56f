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

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

type dropOptions struct {
	*env
	log      *logSource
	postback string
	all, yes bool
}

func (e *env) dropCommand() *cobra.Command {
	o := &dropOptions{env: e}
	cmd := &cobra.Command{
		Use:   "drop DELIVERY|EVENT-ID... [--postback POSTBACK] | --all --postback POSTBACK",
		Short: "Drop unfinished events, so that they are not sent any more",
		Long: "Drop unfinished events: they are not sent any more, and cannot be brought back.\n\n" +
			"With --all and --postback, all events of that Postback in the waiting stream are dropped. " +
			"An event under attempt is not dropped.\n\nOn a terminal it asks first, unless --yes is given.",
		Example: "  kubectl postback drop evt_8W10G8 --postback crm\n  kubectl postback drop --all --postback crm",
		Args:    names(0, -1, "deliveries"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	o.log = e.withLog(f)
	f.StringVar(&o.postback, "postback", "", "Drop deliveries of this Postback: of the named events, or with --all.")
	f.BoolVar(&o.all, "all", false, "Drop all deliveries of the Postback in the waiting stream.")
	f.BoolVarP(&o.yes, "yes", "y", false, "Do not ask.")
	_ = cmd.RegisterFlagCompletionFunc("postback", e.completePostbacks)
	return cmd
}

func (o *dropOptions) run(cmd *cobra.Command, args []string) error {
	switch {
	case o.all && len(args) > 0:
		return usagef(cmd, "name either deliveries, or --all and --postback")
	case o.all && o.postback == "":
		return usagef(cmd, "--all drops the events of one Postback: name it with --postback")
	case !o.all && len(args) == 0:
		return usagef(cmd, "name deliveries, or --all and --postback")
	}
	ctx := cmd.Context()
	s, err := o.log.scope()
	if err != nil {
		return err
	}
	defer o.log.close()
	var p *v1alpha1.Postback
	if o.postback != "" {
		if p, err = s.postback(ctx, o.postback); err != nil {
			return err
		}
	}
	if o.all {
		return o.dropAll(ctx, s, p)
	}
	return o.named(ctx, s, p, args)
}

// named drops deliveries by their names or events. All are looked up first, so that a wrong name drops nothing.
func (o *dropOptions) named(ctx context.Context, s *scope, p *v1alpha1.Postback, args []string) error {
	postback := ""
	if p != nil {
		postback = p.Name
	}
	var found []*v1alpha1.PostbackDelivery
	for _, name := range args {
		named, err := s.lookup(ctx, name, postback, o.clock.Now())
		if err != nil {
			return err
		}
		d := named.deliveries[0]
		if len(named.deliveries) > 1 {
			return fmt.Errorf("event %q has a delivery for each of %s: choose one with --postback", d.Spec.Event.ID, strings.Join(postbacksOf(named.deliveries), ", "))
		}
		if d.Status.Phase.Finished() {
			return fmt.Errorf("event %q is %s already: there is nothing to drop", d.Spec.Event.ID, d.Status.Phase)
		}
		found = appendOnce(found, d)
	}
	if !o.sure("Drop %s for good?", plural(len(found), "event")) {
		say(o.Out, "Nothing dropped.")
		return nil
	}
	for _, d := range found {
		if err := o.drop(ctx, s, d); err != nil {
			return err
		}
		say(o.Out, "postbackdelivery.postback.dev/%s dropped", d.Name)
	}
	return nil
}

// sure asks on a terminal, unless --yes is given.
func (o *dropOptions) sure(question string, args ...any) bool {
	return o.yes || !printers.IsTerminal(o.In) || o.confirm(question, args...)
}

// drop removes a delivery. A PostbackDelivery needs the right to delete it, a waiting delivery the right to drop
// it.
func (o *dropOptions) drop(ctx context.Context, s *scope, d *v1alpha1.PostbackDelivery) error {
	if deliveries.IsWaiting(d) {
		if err := o.log.client.Drop(ctx, d); err != nil {
			return waitingError(d, err)
		}
		return nil
	}
	// A changed version means that the delivery was attempted since.
	err := s.Delete(ctx, d, client.Preconditions{UID: &d.UID, ResourceVersion: &d.ResourceVersion})
	if apierrors.IsConflict(err) {
		return fmt.Errorf("event %q was attempted meanwhile, and was not dropped: \"kubectl postback event %s\" shows it", d.Spec.Event.ID, d.Name)
	}
	return client.IgnoreNotFound(err)
}

// waitingError explains why an act on a waiting delivery failed.
func waitingError(d *v1alpha1.PostbackDelivery, err error) error {
	switch {
	case deliveries.IsNotWaiting(err):
		return fmt.Errorf("event %q does not wait any more, because it was attempted meanwhile: \"kubectl postback event %s\" shows it", d.Spec.Event.ID, d.Name)
	case deliveries.IsInFlight(err):
		return fmt.Errorf("event %q is under attempt: nothing was changed; try again when the attempt has ended", d.Spec.Event.ID)
	}
	return fmt.Errorf("event %q in the waiting stream: %w", d.Spec.Event.ID, err)
}

// dropAll drops the waiting deliveries of a Postback.
func (o *dropOptions) dropAll(ctx context.Context, s *scope, p *v1alpha1.Postback) error {
	o.log.open(ctx, s)
	switch {
	case o.log.unread != nil:
		return errReported
	case o.log.client == nil:
		return errors.New("there is no waiting stream, because the installation has --intake=kubernetes, or does not show its Lease postback-intake to you: name the events to drop")
	}
	if !o.sure("Drop all waiting events of postback %q in namespace %s, %d by its status, for good?", p.Name, p.Namespace, p.Status.GetBacklog()) {
		say(o.Out, "Nothing dropped.")
		return nil
	}
	dropped, err := o.log.client.DropAll(ctx, p.Namespace, p.Name)
	switch {
	case deliveries.IsInFlight(err):
		return fmt.Errorf("events of postback %q are under attempt: nothing was changed; try again when the attempts have ended", p.Name)
	case err != nil:
		return fmt.Errorf("drop the waiting events of postback %q: %w", p.Name, err)
	}
	say(o.Out, "%s dropped.", plural(dropped.Deliveries, "waiting event"))
	if dropped.InFlight > 0 {
		say(o.ErrOut, "%s under attempt were not dropped, and go on if they fail.", plural(dropped.InFlight, "event"))
	}
	left := 0
	err = deliveries.EachObject(ctx, s, deliveries.Query{Namespace: p.Namespace, Postback: p.Name, Unfinished: true}, func(d *v1alpha1.PostbackDelivery) {
		if !d.Status.Phase.Finished() {
			left++
		}
	})
	if left > 0 {
		say(o.ErrOut, "%s of it are PostbackDeliveries, and go on: name them to drop them.", plural(left, "unfinished event"))
	}
	return err
}
