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
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
)

type testOptions struct {
	*env
	data    string
	wait    bool
	timeout time.Duration
}

func (e *env) testCommand() *cobra.Command {
	o := &testOptions{env: e}
	cmd := &cobra.Command{
		Use:   "test POSTBACK [EVENT]",
		Short: "Send a test event, and show its attempts",
		Long: "Send a test event of a type that the triggers select, and print each attempt as it happens. Without a type, it sends the first one that the " +
			"triggers name.\n\nIt ends after the first attempt, or with --wait when the event is delivered or failed. The exit code is 0 " +
			"if it was delivered, and 1 if not.",
		Example: "  kubectl postback test crm\n  kubectl postback test crm sale.created --data sale.json --wait",
		Args:    names(1, 2, "a Postback and an event type"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return e.completePostbacks(cmd, args, toComplete)
			}
			s, err := e.scope()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			p, err := s.postback(cmd.Context(), args[0])
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return action.TestTypes(p.Spec.Triggers), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "File with the data of the event, a JSON object, instead of the sample; - is the standard input.")
	f.BoolVar(&o.wait, "wait", false, "Wait until the event is delivered or failed.")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "Longest time to wait.")
	return cmd
}

// maxDataFile bounds the file, in bytes: annotations have at most 256 KiB.
const maxDataFile = 256 << 10

// readFile reads a file of at most bound bytes; "-" is the standard input.
func (e *env) readFile(name string, bound int64) ([]byte, error) {
	in := e.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, bound+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case int64(len(data)) > bound:
		return nil, fmt.Errorf("%s has more than %d bytes", name, bound)
	}
	return data, nil
}

func (o *testOptions) run(cmd *cobra.Command, args []string) error {
	ctx := cmd.Context()
	var data []byte
	if o.data != "" {
		var err error
		if data, err = o.readFile(o.data, maxDataFile); err != nil {
			return err
		}
		// A file usually ends with a line break, which is not part of the object.
		data = []byte(strings.TrimSpace(string(data)))
	}
	s, err := o.scope()
	if err != nil {
		return err
	}
	p, err := s.postback(ctx, args[0])
	if err != nil {
		return err
	}
	eventType, err := testType(p, args[1:])
	if err != nil {
		return err
	}
	return o.send(ctx, s, p, eventType, data)
}

// send requests a test event and prints its attempts.
func (o *testOptions) send(ctx context.Context, s *scope, p *v1alpha1.Postback, eventType string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	test, err := action.SendTest(ctx, s, p, eventType, data, action.Token(o.clock.Now()))
	if err != nil {
		return err
	}
	say(o.ErrOut, "Test event %s for postback %s:", eventType, p.Name)
	if err := o.stored(ctx, s, p, test); err != nil {
		return o.tooLate(err, "the manager did not answer within %s: is it running? \"kubectl postback doctor\" checks", o.timeout)
	}
	err = o.attempts(ctx, s, p, test)
	return o.tooLate(err, "not finished within %s; \"kubectl postback event %s\" shows its progress", o.timeout, test.Delivery)
}

// testType returns the named event type, or else the first one that the triggers name.
func testType(p *v1alpha1.Postback, named []string) (string, error) {
	if len(named) > 0 {
		return named[0], nil
	}
	types := action.TestTypes(p.Spec.Triggers)
	if len(types) == 0 {
		return "", fmt.Errorf("name an event type: the triggers of postback %q are patterns: %s", p.Name, action.Triggers(p.Spec.Triggers))
	}
	return types[0], nil
}

// tooLate replaces an error that the deadline caused.
func (o *testOptions) tooLate(err error, format string, args ...any) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf(format, args...)
	}
	return err
}

// stored waits until the manager has stored the test event or refused the request.
func (o *testOptions) stored(ctx context.Context, s *scope, p *v1alpha1.Postback, test action.Test) error {
	told := false
	return o.await(ctx, s, p, &v1alpha1.PostbackList{}, func(object client.Object) (bool, error) {
		p, ok := object.(*v1alpha1.Postback)
		if !ok || p.Status.LastHandledSendTest != v1alpha1.HandledToken(test.Request) {
			if ok && !told && !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ReadyCondition) {
				told = true
				say(o.ErrOut, "  waits, because the postback is not ready: %s", readyMessage(p))
			}
			return false, nil
		}
		if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.TestEventCondition); c != nil && c.Status != metav1.ConditionTrue {
			return false, fmt.Errorf("the test event was refused: %s", c.Message)
		}
		return true, nil
	})
}
