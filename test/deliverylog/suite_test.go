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

// Package deliverylog tests how users see the delivery log: the kubectl plugin and the console read it through a
// dispatcher with the JetStream intake. The API server and the nats-server are real.
package deliverylog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/natsserver"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const patience = time.Minute

// All tests share this installation.
var (
	cp         *controlplane.ControlPlane
	op         *operator.Operator
	api        client.Client
	dispatcher *operator.Process
	servers    *natsserver.Cluster
)

func TestMain(m *testing.M) {
	code := operator.RunTests(m, start)
	if servers != nil {
		_ = servers.Stop()
	}
	os.Exit(code)
}

func start(ctx context.Context, installed *operator.Operator) error {
	op, cp = installed, installed.ControlPlane
	var err error
	if api, err = cp.Client(); err != nil {
		return err
	}
	root, err := controlplane.ModuleRoot()
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", op.Dir+"/", "./cmd/kubectl-postback")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the plugin: %w:\n%s", err, output)
	}
	if servers, err = natsserver.Start(ctx, natsserver.Options{Dir: op.Dir}, os.Stderr); err != nil {
		return err
	}
	if _, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http"), operator.WithRestarts()); err != nil {
		return err
	}
	dispatcher, err = op.StartDispatcher(ctx, "postback-dispatcher-0", operator.WithArgs("--intake=jetstream", "--nats-url="+servers.URL()))
	return err
}

const hooks = "/hooks"

// tenant is a namespace with an endpoint and users.
type tenant struct {
	t         *testing.T
	namespace string
	endpoint  *receiver.Receiver
}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "partner-"}}
	if err := api.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	endpoint, err := receiver.Start(func() []receiver.Secret { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Close() })
	return &tenant{t: t, namespace: namespace.Name, endpoint: endpoint}
}

// postback creates a Postback and waits until it is Ready.
func (n *tenant) postback(name string) {
	n.t.Helper()
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: name}}
	p.Spec.URL, p.Spec.Triggers = n.endpoint.URL(hooks), []v1alpha1.Trigger{"*"}
	if err := api.Create(n.t.Context(), p); err != nil {
		n.t.Fatal(err)
	}
	if out, errOut, err := cp.Kubectl(n.t.Context(), "", "-n", n.namespace, "wait", "--for=condition=Ready", "--timeout=3m", "postback/"+name); err != nil {
		n.t.Fatal(out, errOut, err)
	}
}

// person returns the kubeconfig of a ServiceAccount with a role in the namespace, or in all namespaces.
func (n *tenant) person(name, role string, everywhere bool) string {
	n.t.Helper()
	subject := rbacv1.Subject{Kind: "ServiceAccount", Namespace: n.namespace, Name: name}
	reference := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	var binding client.Object = &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: name}, RoleRef: reference, Subjects: []rbacv1.Subject{subject},
	}
	if everywhere {
		binding = &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: n.namespace + name}, RoleRef: reference, Subjects: []rbacv1.Subject{subject}}
	}
	for _, object := range []client.Object{&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: name}}, binding} {
		if err := api.Create(n.t.Context(), object); err != nil {
			n.t.Fatal(err)
		}
	}
	path := filepath.Join(n.t.TempDir(), name)
	if err := cp.ServiceAccountKubeconfig(n.t.Context(), n.namespace, name, path); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// command returns a command that runs the plugin with a kubeconfig, in the namespace.
func (n *tenant) command(ctx context.Context, kubeconfig string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, filepath.Join(op.Dir, "kubectl-postback"), append(args, "-n", n.namespace, "--kubeconfig", kubeconfig)...)
	command.Env = append(os.Environ(), "TZ=UTC")
	return command
}

// run runs the plugin, which must succeed.
func (n *tenant) run(kubeconfig string, args ...string) (out, errOut string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := n.command(ctx, kubeconfig, args...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		n.t.Fatalf("%v: %v\n%s%s", args, err, stdout.String(), stderr.String())
	}
	return stdout.String(), stderr.String()
}

// incomplete runs the plugin, which must fail because it cannot read the delivery log.
func (n *tenant) incomplete(kubeconfig string, args ...string) (errOut string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	var stderr bytes.Buffer
	command := n.command(ctx, kubeconfig, args...)
	command.Stderr = &stderr
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		n.t.Errorf("%v: %v, want exit code 1\n%s", args, err, stderr.String())
	}
	return stderr.String()
}

// post posts an event by the plugin.
func (n *tenant) post(id, eventType string) {
	n.t.Helper()
	token, err := op.SenderToken(n.t.Context(), n.namespace)
	if err != nil {
		n.t.Fatal(err)
	}
	dir := n.t.TempDir()
	body, credential := filepath.Join(dir, "event"), filepath.Join(dir, "token")
	for path, content := range map[string]string{body: fmt.Sprintf(`{"id":%q,"event":%q,"data":{"amount":1.50}}`, id, eventType), credential: token} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	n.run(cp.Kubeconfig, "send", "-f", body, "--token-file", credential, "--ingest-url", dispatcher.IngestURL())
}

// see runs the plugin until its output contains all texts.
func (n *tenant) see(kubeconfig string, texts []string, args ...string) string {
	n.t.Helper()
	var out, errOut, missing string
	if !await(func() bool {
		out, errOut = n.run(kubeconfig, args...)
		missing = ""
		for _, text := range texts {
			if !strings.Contains(out, text) {
				missing = text
			}
		}
		return missing == ""
	}) {
		n.t.Fatalf("%v does not show %q:\n%s%s", args, missing, out, errOut)
	}
	return out
}

// await calls holds until it returns true, and reports whether it did in time.
func await(holds func() bool) bool {
	deadline := time.After(patience)
	for again := time.Tick(100 * time.Millisecond); ; {
		if holds() {
			return true
		}
		select {
		case <-again:
		case <-deadline:
			return false
		}
	}
}

// objects returns the PostbackDeliveries of the namespace.
func (n *tenant) objects() []v1alpha1.PostbackDelivery {
	n.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := api.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
		n.t.Fatal(err)
	}
	return list.Items
}

func url() string { return "--ingest-url=" + dispatcher.IngestURL() }
