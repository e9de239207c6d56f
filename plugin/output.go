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
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/postback-dev/postback-operator/internal/action"
)

// output is the flag -o of a verb that prints objects: kubectl's formats, or a table without the flag.
type output struct {
	cmd   *cobra.Command
	flags *genericclioptions.PrintFlags
	wide  bool
}

const wideFormat = "wide"

func newOutput(cmd *cobra.Command, withWide bool) *output {
	o := &output{cmd: cmd, flags: genericclioptions.NewPrintFlags("").WithTypeSetter(scheme)}
	o.flags.AddFlags(cmd)
	formats := o.flags.AllowedFormats()
	if withWide {
		formats = append(formats, wideFormat)
	}
	slices.Sort(formats)
	cmd.Flag("output").Usage = "Output format: one of " + strings.Join(slices.Compact(formats), ", ") + ". Without it, a table for people."
	completeWith(cmd, "output", formats...)
	return o
}

// completeWith completes a flag with words.
func completeWith(cmd *cobra.Command, flag string, words ...string) {
	// The only error is an unknown flag.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// printer returns the function that prints objects, or nil for a table.
func (o *output) printer() (func(*env, runtime.Object) error, error) {
	o.wide = *o.flags.OutputFormat == wideFormat
	if o.wide || *o.flags.OutputFormat == "" && !o.flags.OutputFlagSpecified() {
		return nil, nil
	}
	p, err := o.flags.ToPrinter()
	if err != nil {
		return nil, usagef(o.cmd, "%w", err)
	}
	return func(e *env, object runtime.Object) error {
		object = withoutRequests(object)
		if *o.flags.OutputFormat == "name" && meta.IsListType(object) {
			return meta.EachListItem(object, func(item runtime.Object) error { return p.PrintObj(item, e.Out) })
		}
		return p.PrintObj(object, e.Out)
	}, nil
}

// withoutRequests returns a copy of an object or list without the annotations that request an action. Applying them
// elsewhere would request the action again.
func withoutRequests(object runtime.Object) runtime.Object {
	object = object.DeepCopyObject()
	drop := func(item runtime.Object) error {
		if o, ok := item.(metav1.Object); ok {
			action.DropRequests(o, nil)
		}
		return nil
	}
	if meta.IsListType(object) {
		_ = meta.EachListItem(object, drop) // drop never fails.
		return object
	}
	_ = drop(object)
	return object
}
