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
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/curl"
)

// scheme has the kinds that the plugin reads and writes.
var scheme = newScheme()

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s)))
	return s
}

// restConfig returns the configuration of the API server's client, from kubectl's flags and kubeconfig.
func (e *env) restConfig() (*rest.Config, error) {
	config, err := e.config.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config = rest.CopyConfig(config)
	config.UserAgent = e.userAgent()
	config.WarningHandler = rest.NewWarningWriter(e.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
	return config, nil
}

// userAgent returns the header User-Agent of every request.
func (e *env) userAgent() string { return "kubectl-postback/" + e.version }

// kubectl returns the kubectl flags that select the cluster in a script. It makes the path of the kubeconfig
// absolute.
func (e *env) kubectl() (curl.Kubectl, error) {
	k := curl.Kubectl{Context: *e.config.Context, Kubeconfig: *e.config.KubeConfig}
	if k.Kubeconfig == "" {
		return k, nil
	}
	var err error
	if k.Kubeconfig, err = filepath.Abs(k.Kubeconfig); err != nil {
		return k, fmt.Errorf("find the kubeconfig: %w", err)
	}
	return k, nil
}

// client returns a client with the caller's rights.
func (e *env) client() (client.WithWatch, error) {
	config, err := e.restConfig()
	if err != nil {
		return nil, err
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// namespace returns the namespace from the flags or the context.
func (e *env) namespace() (string, error) {
	namespace, _, err := e.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", fmt.Errorf("read the kubeconfig: %w", err)
	}
	return namespace, nil
}

// scope is a client with the namespace of a command.
type scope struct {
	client.WithWatch
	namespace string
	// log connects to the delivery log; it is nil for verbs that do not show it.
	log *logSource
}

func (e *env) scope() (*scope, error) {
	c, err := e.client()
	if err != nil {
		return nil, err
	}
	namespace, err := e.namespace()
	if err != nil {
		return nil, err
	}
	return &scope{WithWatch: c, namespace: namespace}, nil
}

// scope returns the scope of a verb that also shows the delivery log.
func (l *logSource) scope() (*scope, error) {
	s, err := l.env.scope()
	if err == nil {
		s.log = l
	}
	return s, err
}

// isMissingObject reports whether an error means that an object does not exist.
func isMissingObject(err error) bool { return apierrors.IsNotFound(err) && !isNoSuchKind(err) }

// isMissing reports whether an error means that an object does not exist, or cannot exist because of its name.
func isMissing(err error) bool {
	return isMissingObject(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// postback reads a Postback. If it does not exist, the error lists the existing ones.
func (s *scope) postback(ctx context.Context, name string) (*v1alpha1.Postback, error) {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "postback/"), "pb/")
	p := &v1alpha1.Postback{}
	err := s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, p)
	if err == nil || !isMissing(err) {
		return p, err
	}
	list := &v1alpha1.PostbackList{}
	if s.List(ctx, list, client.InNamespace(s.namespace), client.Limit(maxSuggested+1)) != nil {
		return nil, err
	}
	return nil, fmt.Errorf("there is no postback %q in namespace %s: %s", name, s.namespace, suggest(list.Items))
}

const maxSuggested = 10

func suggest(postbacks []v1alpha1.Postback) string {
	if len(postbacks) == 0 {
		return "it has none; choose another with --namespace, or make one with \"kubectl postback create\""
	}
	var found []string
	for i := range postbacks {
		if i == maxSuggested {
			found = append(found, "…")
			break
		}
		found = append(found, postbacks[i].Name)
	}
	return "it has " + strings.Join(found, ", ")
}

// completePostbacks completes the first argument with the names of Postbacks.
func (e *env) completePostbacks(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := e.scope()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list := &v1alpha1.PostbackList{}
	if err := s.List(cmd.Context(), list, client.InNamespace(s.namespace)); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var found []string
	for i := range list.Items {
		found = append(found, list.Items[i].Name+"\t"+list.Items[i].Status.EndpointHost)
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func (e *env) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := e.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list := &corev1.NamespaceList{}
	if err := c.List(cmd.Context(), list); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var found []string
	for i := range list.Items {
		found = append(found, list.Items[i].Name)
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
