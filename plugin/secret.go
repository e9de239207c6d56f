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
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

func (e *env) secretCommand() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "secret POSTBACK",
		Short: "Show the signing keys of a Postback, masked",
		Long: "Show the signing keys of a Postback: the current one, and previous ones that keep signing for their overlap. Keys are masked.\n\n" +
			"With --show, print only the current key, in full.",
		Example:           "  kubectl postback secret crm\n  export POSTBACK_SECRET=$(kubectl postback secret crm --show)",
		Args:              names(1, 1, "a Postback"),
		ValidArgsFunction: e.completePostbacks,
		RunE:              func(cmd *cobra.Command, args []string) error { return e.secret(cmd.Context(), args[0], show) },
	}
	cmd.Flags().BoolVar(&show, "show", false, "Print only the current key, in full.")
	return cmd
}

// postbackSecret reads the PostbackSecret of a Postback.
func (s *scope) postbackSecret(ctx context.Context, p *v1alpha1.Postback) (*v1alpha1.PostbackSecret, error) {
	secret := &v1alpha1.PostbackSecret{}
	err := s.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: p.GetPostbackSecretName()}, secret)
	if isMissingObject(err) {
		return nil, fmt.Errorf("postback %q has no PostbackSecret %q: %s", p.Name, p.GetPostbackSecretName(), readyMessage(p))
	}
	return secret, err
}

// signing reads a Postback by name, and its PostbackSecret.
func (s *scope) signing(ctx context.Context, name string) (*v1alpha1.Postback, *v1alpha1.PostbackSecret, error) {
	p, err := s.postback(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	secret, err := s.postbackSecret(ctx, p)
	return p, secret, err
}

// keys reads the core Secret of a PostbackSecret, which must have a signing key.
func (s *scope) keys(ctx context.Context, secret *v1alpha1.PostbackSecret) (*corev1.Secret, error) {
	core := &corev1.Secret{}
	if err := s.Get(ctx, client.ObjectKey{Namespace: secret.Namespace, Name: secret.GetSecretName()}, core); err != nil {
		return nil, err
	}
	if len(core.Data[v1alpha1.SigningKeyName]) == 0 {
		return nil, fmt.Errorf("Secret %q has no key %q", core.Name, v1alpha1.SigningKeyName)
	}
	return core, nil
}

func (e *env) secret(ctx context.Context, name string, show bool) error {
	s, err := e.scope()
	if err != nil {
		return err
	}
	p, secret, err := s.signing(ctx, name)
	if err != nil {
		return err
	}
	core, err := s.keys(ctx, secret)
	if err != nil {
		return err
	}
	if show {
		_, err := fmt.Fprintf(e.Out, "%s\n", core.Data[v1alpha1.SigningKeyName])
		return err
	}
	t := newTable(e.Out, false, column{name: "KEY"}, column{name: "VERSION"}, column{name: "MADE"}, column{name: "SIGNS"})
	now := e.clock.Now()
	version, made := "", ""
	if secret.Status.Version > 0 {
		version = strconv.FormatInt(secret.Status.Version, 10)
	}
	if at := secret.Status.LastRotationTime; at != nil {
		made = ago(at.Time, now)
	}
	rows := []row{{plain(masked(string(core.Data[v1alpha1.SigningKeyName]))), plain(version), plain(made), cell{"always", green}}}
	if secret.Spec.GetSource() == v1alpha1.SecretGenerated {
		overlap := secret.Spec.GetOverlap()
		ring := keyring.Read(core, keyring.Remembered{}, now)
		for _, previous := range ring.Previous {
			rows = append(rows, row{
				plain(masked(previous.Key)), plain(strconv.FormatInt(previous.Version, 10)), plain(""),
				cell{"until " + previous.RetiredAt.Add(overlap).UTC().Format(time.RFC3339), yellow},
			})
		}
	}
	if err := t.print(e.Out, rows...); err != nil {
		return err
	}
	say(e.ErrOut, "The keys are in Secret %q. This prints the current one in full: kubectl postback secret %s -n %s --show", core.Name, p.Name, p.Namespace)
	return nil
}

// masked shortens a key to its prefix and its last characters, enough to tell it from another.
func masked(key string) string {
	const ending = 4
	prefix := ""
	if strings.HasPrefix(key, "whsec_") {
		prefix = "whsec_"
	}
	if len(key) < len(prefix)+4*ending {
		return prefix + "…"
	}
	return prefix + "…" + key[len(key)-ending:]
}

type rotateOptions struct {
	*env
	overlap time.Duration
	wait    bool
	timeout time.Duration
}

func (e *env) rotateCommand() *cobra.Command {
	o := &rotateOptions{env: e}
	cmd := &cobra.Command{
		Use:   "rotate POSTBACK",
		Short: "Replace the signing key",
		Long: "Replace the signing key of a Postback. The new key signs at once; the previous one keeps signing, too, for the overlap.\n\n" +
			"--overlap changes spec.rotation.overlap of the PostbackSecret, also for keys that are already replaced: 0s ends them at once. Use it for " +
			"a leaked key.",
		Example:           "  kubectl postback rotate crm --wait\n  kubectl postback rotate crm --overlap 0s --wait",
		Args:              names(1, 1, "a Postback"),
		ValidArgsFunction: e.completePostbacks,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.DurationVar(&o.overlap, "overlap", 0, "Time for which the previous key keeps signing, 0s to 720h. The default is that of the PostbackSecret.")
	f.BoolVar(&o.wait, "wait", false, "Wait until the new key signs.")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "Longest time to wait.")
	return cmd
}

func (o *rotateOptions) run(cmd *cobra.Command, name string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	s, err := o.scope()
	if err != nil {
		return err
	}
	p, secret, err := s.signing(ctx, name)
	if err != nil {
		return err
	}
	if secret.Spec.GetSource() == v1alpha1.SecretExternal {
		return fmt.Errorf("the operator does not manage the key of postback %q: put a new one into Secret %q", p.Name, secret.GetSecretName())
	}
	if err := o.tellOthers(ctx, s, p, secret); err != nil {
		return err
	}
	if cmd.Flags().Changed("overlap") && o.overlap != secret.Spec.GetOverlap() {
		o.warnManaged("postbacksecret", secret)
		if err := action.SetOverlap(ctx, s, secret, o.overlap); err != nil {
			return err
		}
	}
	token := action.Token(o.clock.Now())
	if err := action.Rotate(ctx, s, secret, token); err != nil {
		return err
	}
	if !o.wait {
		say(o.Out, "postbacksecret.postback.dev/%s: new key requested", secret.Name)
		return nil
	}
	return o.rotated(ctx, s, p, secret, token)
}

// tellOthers names the other Postbacks that share the replaced key.
func (o *rotateOptions) tellOthers(ctx context.Context, s *scope, p *v1alpha1.Postback, secret *v1alpha1.PostbackSecret) error {
	list := &v1alpha1.PostbackList{}
	if err := s.List(ctx, list, client.InNamespace(p.Namespace)); err != nil {
		return err
	}
	var others []string
	for i := range list.Items {
		if other := &list.Items[i]; other.UID != p.UID && other.GetPostbackSecretName() == secret.Name {
			others = append(others, other.Name)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		say(o.ErrOut, "The key is shared: it is replaced for %s, too.", strings.Join(others, ", "))
	}
	return nil
}

func (o *rotateOptions) rotated(ctx context.Context, s *scope, p *v1alpha1.Postback, secret *v1alpha1.PostbackSecret, token string) error {
	err := o.await(ctx, s, secret, &v1alpha1.PostbackSecretList{}, func(object client.Object) (bool, error) {
		now, ok := object.(*v1alpha1.PostbackSecret)
		if !ok || now.Status.LastHandledRotateSecret != token {
			return false, nil
		}
		secret = now
		return true, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the manager did not answer within %s: is it running? \"kubectl postback doctor\" checks", o.timeout)
	}
	if err != nil {
		return err
	}
	say(o.Out, "postbacksecret.postback.dev/%s rotated: version %d signs now", secret.Name, secret.Status.Version)
	if at := secret.Status.PreviousExpiryTime; at != nil {
		say(o.Out, "The previous key, version %d, keeps signing until %s.", secret.Status.PreviousVersion, at.UTC().Format(time.RFC3339))
	} else {
		say(o.Out, "No previous key signs any more.")
	}
	say(o.ErrOut, "The new key: kubectl postback secret %s -n %s --show", p.Name, p.Namespace)
	return nil
}
