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

// Package plugin is the kubectl plugin, with one file for each verb or group of verbs. It uses the caller's
// kubeconfig and rights. It requests actions of the operator by annotations and patches, like kubectl annotate and
// kubectl patch.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Options are the plugin's streams, arguments, version and clock.
type Options struct {
	genericiooptions.IOStreams
	Args    []string
	Version string
	Clock   clock.WithTicker
}

// Run runs the verb in Args. It returns the exit code: 0 for success, 1 for an error, 2 for a usage error.
func Run(ctx context.Context, o Options) int {
	// The plugin prints its own messages. controller-runtime warns if it has no logger.
	logf.SetLogger(logr.Discard())
	root := newCommand(o) //nolint:contextcheck // ExecuteContext gives it to each verb
	root.SetArgs(o.Args)
	err := root.ExecuteContext(ctx)
	usage, isUsage := errors.AsType[*usageError](err)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return 1
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return 130
	case isUsage:
		_, _ = fmt.Fprintf(o.ErrOut, "error: %s\nSee \"%s --help\".\n", usage, usage.command)
		return 2
	}
	_, _ = fmt.Fprintf(o.ErrOut, "error: %s\n", explain(err))
	return 1
}

// errReported ends a verb with exit code 1 and without a message, because the output has said everything.
var errReported = errors.New("reported")

// usageError is a mistake in the command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{command: cmd.CommandPath(), err: fmt.Errorf(format, args...)}
}

// explain returns the text of an error with its remedy.
func explain(err error) string {
	text := strings.TrimSpace(judgedNoFurther.ReplaceAllString(err.Error(), ""))
	switch {
	case isNoSuchKind(err):
		return "the cluster does not know Postbacks: the CustomResourceDefinitions are not installed, or the context is not the right one. \"kubectl postback doctor\" shows details (" + text + ")"
	case apierrors.IsForbidden(err):
		return strings.TrimSpace(text + "\n" + missingRight(text))
	case apierrors.IsUnauthorized(err):
		return "the API server does not know you: log in again, or choose another context with --context (" + text + ")"
	}
	return text
}

var (
	// judgedNoFurther matches the API server's note that further rules were not checked.
	judgedNoFurther = regexp.MustCompile(`, <nil>: Invalid value: [^:]*: some validation rules were not checked because the object was invalid[^\]]*`)
	// refusedRight matches the API server's text about a missing right. Other refusals, such as by a quota, do not
	// match.
	refusedRight = regexp.MustCompile(`cannot (\w+) resource "([^"]+)" in API group "([^"]*)" (at the cluster scope|in the namespace "[^"]*")`)
)

// missingRight names the role that grants the right in an error's text, or returns "".
func missingRight(text string) string {
	found := refusedRight.FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	verb, resource, group, everywhere := found[1], found[2], found[3], found[4] == "at the cluster scope"
	role := "a role with the right to " + verb + " " + resource
	switch {
	case group == v1alpha1.GroupVersion.Group && (verb == "get" || verb == "list" || verb == "watch"):
		role = "the role view or postback-viewer"
	case group == v1alpha1.GroupVersion.Group && (verb == "patch" || resource != "postbackdeliveries"):
		role = "the role edit or postback-editor"
	}
	if everywhere {
		return "You need " + role + " in all namespaces, by a ClusterRoleBinding; or choose one namespace with -n."
	}
	return "You need " + role + " in that namespace."
}

// isNoSuchKind reports whether the API server does not serve the requested kind.
func isNoSuchKind(err error) bool {
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource")
}

// env is the environment that all verbs share.
type env struct {
	genericiooptions.IOStreams
	config  *genericclioptions.ConfigFlags
	clock   clock.WithTicker
	version string
}

func newCommand(o Options) *cobra.Command {
	e := &env{IOStreams: o.IOStreams, config: genericclioptions.NewConfigFlags(true), clock: o.Clock, version: o.Version}
	root := &cobra.Command{
		Use:   "kubectl-postback",
		Short: "Show, test and change Postbacks: signed event postbacks from Kubernetes",
		Long: "Show, test and change Postbacks. A Postback sends the events of a namespace to an endpoint, signed and retried until they are " +
			"delivered.\n\nEach verb changes only fields and annotations that kubectl apply, patch and annotate can change, too.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl postback"},
		Version:       o.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownVerb,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(o.Out)
	root.SetErr(o.ErrOut)
	root.SetIn(o.In)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%w", err) })
	e.config.AddFlags(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("namespace", e.completeNamespaces)
	root.AddGroup(&cobra.Group{ID: groupSee, Title: "See:"}, &cobra.Group{ID: groupSteer, Title: "Steer:"}, &cobra.Group{ID: groupDevelop, Title: "Develop and debug:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupSee, e.consoleCommand(), e.listCommand(), e.describeCommand(), e.eventsCommand(), e.eventCommand(), e.secretCommand())
	add(groupSteer, e.createCommand(), e.setCommand(), e.pauseCommand(), e.resumeCommand(), e.disableCommand(),
		e.deleteCommand(), e.redeliverCommand(), e.dropCommand(), e.rotateCommand(), e.linkCommand())
	add(groupDevelop, e.testCommand(), e.sendCommand(), e.verifyCommand(), e.listenCommand(), e.doctorCommand())
	for _, c := range root.Commands() {
		wrapArgs(c)
	}
	return root
}

// knownVerb refuses an unknown verb, and suggests similar ones.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	meant := cmd.SuggestionsFor(args[0])
	if len(meant) == 0 {
		return usagef(cmd, "there is no verb %q", args[0])
	}
	return usagef(cmd, "there is no verb %q; did you mean %s?", args[0], strings.Join(meant, " or "))
}

const (
	groupSee     = "see"
	groupSteer   = "steer"
	groupDevelop = "develop"
)

// wrapArgs turns argument errors of a command and its subcommands into usage errors.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef(cmd, "%w", err)
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		wrapArgs(c)
	}
}

// names returns a check of the number of arguments; what describes them in its errors.
func names(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("name %s", what)
		case most >= 0 && len(args) > most:
			return fmt.Errorf("too many arguments: %q was not expected; name %s", args[most], what)
		}
		return nil
	}
}

// say writes a line of output.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
