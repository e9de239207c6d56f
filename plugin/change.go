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
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/endpoint"
)

// readyMessage returns reason and message of the condition Ready.
func readyMessage(p *v1alpha1.Postback) string {
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ReadyCondition)
	if c == nil {
		return ""
	}
	return c.Reason + ": " + c.Message
}

// warnManaged warns that a tool, such as Argo CD, may revert a change of an object.
func (e *env) warnManaged(kind string, object client.Object) {
	if tool, name := action.ManagedBy(object); tool != "" {
		say(e.ErrOut, "Warning: %s (%s) keeps %s %q, and may undo this change: make it there, too.", tool, name, kind, object.GetName())
	}
}

// change reads a Postback, calls f to change it, and prints the result.
func (e *env) change(ctx context.Context, name, done string, f func(*scope, *v1alpha1.Postback) error) error {
	s, err := e.scope()
	if err != nil {
		return err
	}
	p, err := s.postback(ctx, name)
	if err != nil {
		return err
	}
	e.warnManaged("postback", p)
	if err := f(s, p); err != nil {
		return err
	}
	say(e.Out, "postback.postback.dev/%s %s", p.Name, done)
	return nil
}

func (e *env) stateCommand(use, short, long, done string, state v1alpha1.PostbackState) *cobra.Command {
	return &cobra.Command{
		Use: use + " POSTBACK", Short: short, Long: long,
		Args:              names(1, 1, "a Postback"),
		ValidArgsFunction: e.completePostbacks,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.change(cmd.Context(), args[0], done, func(s *scope, p *v1alpha1.Postback) error {
				return action.SetState(cmd.Context(), s, p, state)
			})
		},
	}
}

func (e *env) pauseCommand() *cobra.Command {
	return e.stateCommand("pause", "Store events without sending them", "Store events without sending them, until \"kubectl postback resume\". No event is lost.",
		"paused", v1alpha1.PostbackPaused)
}

func (e *env) resumeCommand() *cobra.Command {
	cmd := e.stateCommand("resume", "Send events again, after pause or disable", "Send events again, after pause or disable. Due deliveries go out at once.",
		"enabled", v1alpha1.PostbackEnabled)
	cmd.Aliases = []string{"enable"}
	return cmd
}

func (e *env) disableCommand() *cobra.Command {
	return e.stateCommand("disable", "Accept no more events", "Accept no more events: producers get the result Skipped, and no new event is stored. Stored deliveries wait.\n\n"+
		"To keep events for later, use \"kubectl postback pause\".", "disabled", v1alpha1.PostbackDisabled)
}

// sayURLs prints the change of an endpoint's URL, without credentials.
func (e *env) sayURLs(before, now string) {
	if before == now {
		return
	}
	say(e.Out, "URL before: %s\nURL now:    %s", visible(endpoint.Masked(before)), visible(endpoint.Masked(now)))
}

func (e *env) setCommand() *cobra.Command {
	set := &cobra.Command{
		Use: "set", Short: "Change one setting of a Postback: url, triggers, filter, display-name, timeout",
		Args: func(*cobra.Command, []string) error {
			return errors.New("name the setting: url, triggers, filter, display-name or timeout")
		},
		// Cobra checks Args only for commands with a Run function.
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	sub := func(use, short, example string, least, most int, what string, fields func(cmd *cobra.Command, p *v1alpha1.Postback, values []string) (map[string]any, error)) *cobra.Command {
		c := &cobra.Command{
			Use: use, Short: short, Example: example, Args: names(least, most, what), ValidArgsFunction: e.completePostbacks,
			RunE: func(cmd *cobra.Command, args []string) error {
				return e.change(cmd.Context(), args[0], "changed", func(s *scope, p *v1alpha1.Postback) error {
					changed, err := fields(cmd, p, args[1:])
					if err != nil {
						return err
					}
					before := p.Spec.URL
					err = action.SetSpec(cmd.Context(), s, p, changed)
					if err != nil {
						return err
					}
					if url, ok := changed["url"].(string); ok {
						e.sayURLs(before, url)
					}
					if changed["filter"] == nil {
						return nil
					}
					return e.checkFilter(cmd.Context(), s, p, "the filter")
				})
			},
		}
		set.AddCommand(c)
		return c
	}
	sub("url POSTBACK URL", "Change the endpoint", "  kubectl postback set url crm crm.example.com/hooks", 2, 2, "a Postback and a URL",
		func(cmd *cobra.Command, _ *v1alpha1.Postback, values []string) (map[string]any, error) {
			url, err := action.URL(values[0])
			switch {
			case err != nil:
				return nil, usagef(cmd, "%w", err)
			case url == "":
				return nil, usagef(cmd, "name the endpoint, such as https://crm.example.com/hooks")
			}
			return map[string]any{"url": url}, nil
		})
	var add, remove []string
	triggers := sub("triggers POSTBACK [TYPE...]", "Change which events are sent",
		"  kubectl postback set triggers crm lead.created sale.*\n  kubectl postback set triggers crm --add commission.created --remove sale.*",
		1, -1, "a Postback and event types",
		func(cmd *cobra.Command, p *v1alpha1.Postback, values []string) (map[string]any, error) {
			wanted, err := changedTriggers(p.Spec.Triggers, values, add, remove)
			if err != nil {
				return nil, usagef(cmd, "%w", err)
			}
			return map[string]any{"triggers": wanted}, nil
		})
	triggers.Flags().StringSliceVar(&add, "add", nil, "Event types to add.")
	triggers.Flags().StringSliceVar(&remove, "remove", nil, "Event types to remove.")
	sub("filter POSTBACK EXPRESSION", "Change the filter; '' removes it", "  kubectl postback set filter crm 'event.data.sale.amount > 1000'", 2, 2, "a Postback and a CEL expression",
		func(_ *cobra.Command, _ *v1alpha1.Postback, values []string) (map[string]any, error) {
			return map[string]any{"filter": orNone(values[0])}, nil
		})
	sub("display-name POSTBACK NAME", "Change the display name; '' removes it", "  kubectl postback set display-name crm 'Acme CRM'", 2, 2, "a Postback and a name",
		func(_ *cobra.Command, _ *v1alpha1.Postback, values []string) (map[string]any, error) {
			return map[string]any{"displayName": orNone(values[0])}, nil
		})
	sub("timeout POSTBACK DURATION", "Change the longest duration of an attempt, 1s to 30s", "  kubectl postback set timeout crm 5s", 2, 2, "a Postback and a duration",
		func(cmd *cobra.Command, _ *v1alpha1.Postback, values []string) (map[string]any, error) {
			if _, err := time.ParseDuration(values[0]); err != nil {
				return nil, usagef(cmd, "%q is not a duration, such as 5s", values[0])
			}
			return map[string]any{"timeout": values[0]}, nil
		})
	return set
}

// orNone returns nil, which removes a field, for an empty text.
func orNone(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// changedTriggers returns the triggers to set, or the present ones after additions and removals.
func changedTriggers(present []v1alpha1.Trigger, set, add, remove []string) ([]string, error) {
	if len(set) > 0 {
		if len(add)+len(remove) > 0 {
			return nil, errors.New("name either all event types, or those to --add and --remove")
		}
		return set, nil
	}
	if len(add)+len(remove) == 0 {
		return nil, errors.New("name the event types, or those to --add and --remove")
	}
	var wanted []string
	for _, t := range present {
		wanted = append(wanted, string(t))
	}
	for _, t := range remove {
		i := slices.Index(wanted, t)
		if i < 0 {
			return nil, fmt.Errorf("--remove %s: the triggers are %s", t, action.Triggers(present))
		}
		wanted = slices.Delete(wanted, i, i+1)
	}
	for _, t := range add {
		if !slices.Contains(wanted, t) {
			wanted = append(wanted, t)
		}
	}
	if len(wanted) == 0 {
		return nil, errors.New("no trigger would be left: \"kubectl postback disable\" stops all events")
	}
	return wanted, nil
}

func (e *env) deleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete POSTBACK...",
		Short: "Delete Postbacks, with their log and their own keys",
		Long: "Delete Postbacks. This also deletes the log, pending deliveries, and the Postback's own PostbackSecret with the key.\n\n" +
			"On a terminal it asks first, unless --yes is given.",
		Args:              names(1, -1, "one Postback or more"),
		ValidArgsFunction: e.completePostbacks,
		RunE:              func(cmd *cobra.Command, args []string) error { return e.delete(cmd.Context(), args, yes) },
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Do not ask.")
	return cmd
}

func (e *env) delete(ctx context.Context, postbacks []string, yes bool) error {
	s, err := e.scope()
	if err != nil {
		return err
	}
	// All Postbacks are read first, so that a wrong name deletes none.
	found := make([]*v1alpha1.Postback, len(postbacks))
	for i, name := range postbacks {
		if found[i], err = s.postback(ctx, name); err != nil {
			return err
		}
	}
	for _, p := range found {
		e.warnManaged("postback", p)
		if !yes && printers.IsTerminal(e.In) {
			a := &activity{}
			if _, err := s.deliveries(ctx, deliveries.Query{Namespace: p.Namespace, Postback: p.Name, Limit: 1}, false, a.add); err != nil {
				return err
			}
			if !e.confirm("Delete postback %q in namespace %s, its log, and %s that are not delivered yet?", p.Name, p.Namespace, plural(a.pending+a.retrying+int(p.Status.GetBacklog()), "event")) {
				say(e.Out, "postback.postback.dev/%s kept", p.Name)
				continue
			}
		}
		if err := s.Delete(ctx, p, client.Preconditions{UID: &p.UID}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		say(e.Out, "postback.postback.dev/%s deleted", p.Name)
	}
	return nil
}

// confirm asks a question, and returns true for "y" and "yes" only.
func (e *env) confirm(question string, args ...any) bool {
	_, _ = fmt.Fprintf(e.ErrOut, question+" [y/N] ", args...)
	var answer string
	if _, err := fmt.Fscanln(e.In, &answer); err != nil {
		return false
	}
	return answer == "y" || answer == "Y" || answer == "yes"
}
