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
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

func TestTheLogIsShownWithTheRest(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer := n.person("viewer", "view", false)
	n.post("evt_1", "lead.created")
	n.post("evt_2", "sale.created")
	n.see(viewer, []string{"evt_1", "evt_2", "Delivered"}, "events", url())
	if objects := n.objects(); len(objects) > 0 {
		t.Fatalf("what succeeded at once is at the API server: %d", len(objects))
	}
	// The event stays undelivered while the test looks at it.
	n.endpoint.Answer(hooks, receiver.Answer{Status: 422})
	n.post("evt_3", "sale.created")
	out := n.see(viewer, []string{"evt_3", "Retrying"}, "events", "crm", url())
	if a, b, c := strings.Index(out, "evt_3"), strings.Index(out, "evt_2"), strings.Index(out, "evt_1"); a < 0 || a > b || b > c {
		t.Errorf("the newest is not first:\n%s", out)
	}
	out, _ = n.run(viewer, "events", "--event", "lead.created", url())
	if !strings.Contains(out, "evt_1") || strings.Contains(out, "evt_2") || strings.Contains(out, "evt_3") {
		t.Errorf("by the event's type:\n%s", out)
	}
	out, _ = n.run(viewer, "events", "--failed", url())
	if strings.Contains(out, "evt_1") || !strings.Contains(out, "evt_3") {
		t.Errorf("what failed:\n%s", out)
	}
	_, errOut := n.run(viewer, "events", "--limit", "1", url())
	if !strings.Contains(errOut, "see more with --limit") {
		t.Errorf("a part of the delivery log: %s", errOut)
	}
	out, _ = n.run(viewer, "event", "evt_1", url())
	for _, want := range []string{"lead.created", `"amount": 1.50`, "200 Succeeded", "1 attempt"} {
		if !strings.Contains(out, want) {
			t.Errorf("the event does not say %q:\n%s", want, out)
		}
	}
	// The beginning of the id suffices, too.
	n.endpoint.Answer(hooks)
	n.post("long_id_of_an_event", "lead.created")
	n.see(viewer, []string{"long_id_of_an_event"}, "events", url())
	if out, _ := n.run(viewer, "event", "long_id", url()); !strings.Contains(out, "long_id_of_an_event") {
		t.Errorf("by the beginning of its id:\n%s", out)
	}
	if out, _ := n.run(viewer, "describe", "crm", url()); !strings.Contains(out, "evt_1") || strings.Contains(out, "Last success:  never") {
		t.Errorf("the description:\n%s", out)
	}
	if out, _ := n.run(viewer, "list", url()); strings.Contains(out, "never") {
		t.Errorf("the list:\n%s", out)
	}
}

func TestFollow(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer := n.person("viewer", "view", false)
	n.post("evt_before", "lead.created")
	n.see(viewer, []string{"evt_before"}, "events", url())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errOut lockedBuffer
	command := n.command(ctx, viewer, "events", "crm", "--follow", url())
	command.Stdout, command.Stderr = &out, &errOut
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	shows := func(text string) {
		t.Helper()
		if !await(func() bool { return strings.Contains(out.String(), text) }) {
			t.Fatalf("%q is not shown:\n%s%s", text, out.String(), errOut.String())
		}
	}
	shows("evt_before")
	n.post("evt_logged", "lead.created")
	shows("evt_logged")
	n.endpoint.Answer(hooks, receiver.Answer{Status: 503, Times: 1})
	n.post("evt_failing", "lead.created")
	shows("evt_failing")
	n.post("evt_logged_again", "lead.created")
	shows("evt_logged_again")
	cancel()
	if err := command.Wait(); err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "evt_logged "); n != 1 {
		t.Errorf("evt_logged is shown %d times:\n%s", n, out.String())
	}
}

// lockedBuffer is a buffer that a process writes while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestRedeliverALoggedDelivery(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer, editor := n.person("viewer", "view", false), n.person("editor", "edit", false)
	n.post("evt_1", "lead.created")
	n.see(editor, []string{"evt_1"}, "events", url())
	// A viewer cannot redeliver.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	output, err := n.command(ctx, viewer, "redeliver", "evt_1", url()).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "may not patch postbackdeliveries.postback.dev in namespace "+n.namespace) {
		t.Errorf("a viewer: %v\n%s", err, output)
	}
	if objects := n.objects(); len(objects) > 0 {
		t.Errorf("a viewer has made %d PostbackDeliveries", len(objects))
	}
	out, _ := n.run(editor, "redeliver", "evt_1", "--wait", url())
	if !strings.Contains(out, "1 delivered, 0 not delivered") {
		t.Errorf("redelivered:\n%s", out)
	}
	requests, err := n.endpoint.Wait(ctx, hooks, 2)
	if err != nil || len(requests) != 2 || !bytes.Equal(requests[0].Body, requests[1].Body) || requests[0].Header.Get("Webhook-Id") != requests[1].Header.Get("Webhook-Id") {
		t.Fatalf("got %d requests, %v, of other bytes or another id", len(requests), err)
	}
	objects := n.objects()
	if len(objects) != 1 || objects[0].Status.AttemptCount != 2 || len(objects[0].Status.Attempts) != 2 || objects[0].Status.Phase != v1alpha1.DeliveryDelivered {
		t.Fatalf("there are %+v", objects)
	}
	// The delivery is in the delivery log and at the API server. It is shown once, with both attempts.
	out, _ = n.run(editor, "events", url())
	if strings.Count(out, "evt_1") != 1 {
		t.Errorf("it is shown more than once:\n%s", out)
	}
	if out, _ := n.run(editor, "redeliver", "evt_1", "--wait", url()); !strings.Contains(out, "1 delivered") {
		t.Errorf("once more:\n%s", out)
	}
	if !strings.Contains(dispatcher.Log(), `"audit":"DeliveryRestored"`) || !strings.Contains(dispatcher.Log(), `"user":"system:serviceaccount:`+n.namespace+`:editor"`) {
		t.Error("the log of the dispatcher does not say who had it restored")
	}
}

// A tenant sees no delivery of other tenants, whatever the query.
func TestTenantsSeeTheirOwn(t *testing.T) {
	one, other := newTenant(t), newTenant(t)
	one.postback("crm")
	other.postback("crm")
	viewer, all := one.person("viewer", "view", false), one.person("all", "view", true)
	one.post("evt_one", "lead.created")
	other.post("evt_other", "lead.created")
	one.see(all, []string{"evt_one", "evt_other"}, "events", "-A", url())
	one.see(viewer, []string{"evt_one"}, "events", url())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, args := range [][]string{{"events", "-A"}, {"events", "-n", other.namespace}, {"event", "evt_other", "-n", other.namespace}} {
		command := exec.CommandContext(ctx, filepath.Join(op.Dir, "kubectl-postback"), append(args, "--kubeconfig", viewer, url())...)
		if output, err := command.CombinedOutput(); err == nil || strings.Contains(string(output), "evt_other ") {
			t.Errorf("%v: %v\n%s", args, err, output)
		}
	}
}

// announce sets the URL of ingest on the intake's Lease until the test ends, as an administrator and the demo do.
func announce(t *testing.T, ingestURL string) {
	t.Helper()
	annotate := func(ctx context.Context, annotation string) {
		if out, errOut, err := cp.Kubectl(ctx, "", "-n", operator.Namespace, "annotate", "lease", v1alpha1.IntakeLeaseName, annotation); err != nil {
			t.Fatal(out, errOut, err)
		}
	}
	annotate(t.Context(), v1alpha1.IngestURLAnnotation+"="+ingestURL)
	t.Cleanup(func() { annotate(context.Background(), v1alpha1.IngestURLAnnotation+"-") })
}

// The Lease announces a delivery log, so users who cannot read it get an error.
func TestWhoCannotReadTheLogIsTold(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	n.post("evt_1", "lead.created")
	viewer := n.person("viewer", "view", false)
	// There is no port-forward, and the viewer may not create one.
	if errOut := n.incomplete(viewer, "events"); !strings.Contains(errOut, "name --ingest-url") || strings.Contains(errOut, "No events") {
		t.Errorf("without a way to a dispatcher: %s", errOut)
	}
	if errOut := n.incomplete(viewer, "event", "evt_1"); !strings.Contains(errOut, "could not be read") {
		t.Errorf("an event that may be in the delivery log: %s", errOut)
	}
	// The administrator announces the URL of ingest.
	announce(t, dispatcher.IngestURL())
	n.see(viewer, []string{"evt_1"}, "events")
	if out, errOut := n.run(viewer, "events"); errOut != "" {
		t.Errorf("who can read it is told %s\n%s", errOut, out)
	}
}

// A user with a client certificate in the kubeconfig, as from kind, k3s or kubeadm, sees every event without a flag.
func TestAClientCertificateReadsTheLog(t *testing.T) {
	other, err := op.StartDispatcher(t.Context(), "postback-dispatcher-tls", operator.WithTLS(), operator.WithArgs("--intake=jetstream", "--nats-url="+servers.URL()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := other.Terminate(context.Background()); err != nil {
			t.Error(err)
		}
	})
	n := newTenant(t)
	n.postback("crm")
	n.post("evt_1", "lead.created")
	// The URL replaces a port-forward, which needs a kubelet. "make demo INTAKE=jetstream KEEP=1" does the same.
	announce(t, other.IngestURL())
	n.see(cp.Kubeconfig, []string{"evt_1"}, "events")
	n.see(cp.Kubeconfig, []string{"evt_1", "Delivered"}, "event", "evt_1")
	n.see(cp.Kubeconfig, []string{"The delivery log can be read"}, "doctor")
	n.console(cp.Kubeconfig).see("/p/"+n.namespace+"/crm", "evt_1")
}

// While NATS is unavailable, the plugin shows the PostbackDeliveries.
func TestWithoutNATS(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer := n.person("viewer", "view", false)
	n.post("evt_1", "lead.created")
	n.see(viewer, []string{"evt_1"}, "events", url())
	if err := servers.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if errOut := n.incomplete(viewer, "events", url()); !strings.Contains(errOut, "could not be read") {
		t.Errorf("it says %s", errOut)
	}
	if err := servers.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.see(viewer, []string{"evt_1"}, "events", url())
}

// A dispatcher with the intake of the API server withdraws the announcement.
func TestBackToKubernetes(t *testing.T) {
	other, err := op.StartDispatcher(t.Context(), "postback-dispatcher-1")
	if err != nil {
		t.Fatal(err)
	}
	if !await(func() bool {
		return apierrors.IsNotFound(api.Get(t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: v1alpha1.IntakeLeaseName}, &coordinationv1.Lease{}))
	}) {
		t.Fatal("the Lease is still there")
	}
	if code, err := other.Terminate(t.Context()); code != 0 || err != nil {
		t.Errorf("it ends with %d, %v", code, err)
	}
}
