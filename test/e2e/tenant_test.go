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

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const hooks = "/hooks"

// tenant is a namespace with an endpoint.
type tenant struct {
	t         *testing.T
	namespace string
	endpoint  *receiver.Receiver
	// token belongs to a ServiceAccount that may post events for the namespace. editor belongs to one that may
	// redeliver them; it is created on demand.
	token, editor string
	// producer is the HTTP client that posts events.
	producer *http.Client

	mu sync.Mutex
	// keys has every signing key that was ever in a Secret of the namespace, by Secret and version: "crm/2".
	keys map[string]string
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// newTenant creates a namespace and an endpoint, which are deleted at the end of the test. If the test fails, the
// operator's logs are shown.
func newTenant(t *testing.T) *tenant {
	t.Helper()
	// A program that ended by itself in an earlier test would fail this one: report that instead.
	if err := errors.Join(manager.EndedByItself(), dispatcher.EndedByItself()); err != nil {
		t.Fatal(err)
	}
	n := &tenant{t: t, keys: map[string]string{}, producer: http.DefaultClient}
	n.namespace = strings.Trim(notName.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.namespace}}
	if err := api.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.endpoint, err = receiver.Start(n.secrets); err != nil {
		t.Fatal(err)
	}
	if n.token, err = op.SenderToken(t.Context(), n.namespace); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			n.dump()
		}
		if err := client.IgnoreNotFound(api.Delete(context.Background(), namespace)); err != nil {
			t.Error(err)
		}
		if err := n.endpoint.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// dump prints the state after a failed test, without Secrets.
func (n *tenant) dump() {
	for namespace, kinds := range map[string]string{n.namespace: "pb,pbs,pbd,events", operator.Namespace: "leases"} {
		stdout, _, err := cp.Kubectl(context.Background(), "", "-n", namespace, "get", kinds, "-o", "yaml")
		_, _ = fmt.Fprintf(os.Stderr, "--- %s in %s (%v) ---\n%s\n", kinds, namespace, err, stdout)
	}
	op.DumpLogs(os.Stderr, logLines)
}

// secrets returns every key that is or was in a Secret of the namespace. A key that the operator invented or lost
// thus verifies nothing.
func (n *tenant) secrets() []receiver.Secret {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	list := &corev1.SecretList{}
	// While the API server is unavailable, the keys read earlier count.
	if err := api.List(ctx, list, client.InNamespace(n.namespace)); err == nil {
		n.learn(list.Items)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	known := make([]receiver.Secret, 0, len(n.keys))
	for _, name := range slices.Sorted(maps.Keys(n.keys)) {
		known = append(known, receiver.Secret{Name: name, Value: n.keys[name]})
	}
	return known
}

func (n *tenant) learn(secrets []corev1.Secret) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range secrets {
		s := &secrets[i]
		if key, ok := s.Data[v1alpha1.SigningKeyName]; ok {
			n.keys[s.Name+"/"+s.Annotations["postback.dev/version"]] = string(key)
		}
		for name, key := range s.Data {
			if version, ok := strings.CutPrefix(name, "previous-"); ok {
				n.keys[s.Name+"/"+version] = string(key)
			}
		}
	}
}

// key returns a signing key by the name of its Secret and its version, such as "crm/2".
func (n *tenant) key(name string) string {
	n.t.Helper()
	n.secrets()
	n.mu.Lock()
	defer n.mu.Unlock()
	key, ok := n.keys[name]
	if !ok {
		n.t.Fatalf("there is no key %s", name)
	}
	return key
}

// kubectl runs kubectl in the namespace and returns its output.
func (n *tenant) kubectl(args ...string) string {
	n.t.Helper()
	return n.kubectlWith("", args...)
}

func (n *tenant) kubectlWith(stdin string, args ...string) string {
	n.t.Helper()
	stdout, _, err := cp.Kubectl(n.t.Context(), stdin, append([]string{"-n", n.namespace}, args...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	return stdout
}

// postback applies a Postback for the endpoint, with further lines of its spec, and waits until it is Ready.
func (n *tenant) postback(name string, spec ...string) *v1alpha1.Postback {
	n.t.Helper()
	manifest := fmt.Sprintf("apiVersion: postback.dev/v1alpha1\nkind: Postback\nmetadata: {name: %s}\nspec:\n  url: %s\n", name, n.endpoint.URL(hooks))
	if !slices.ContainsFunc(spec, func(line string) bool { return strings.HasPrefix(line, "triggers:") }) {
		spec = append(spec, "triggers: ['*']")
	}
	n.kubectlWith(manifest+"  "+strings.Join(spec, "\n  ")+"\n", "apply", "-f", "-")
	n.waitReady(name)
	return n.getPostback(name)
}

func (n *tenant) waitReady(name string) {
	n.t.Helper()
	n.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "postback/"+name)
}

func (n *tenant) getPostback(name string) *v1alpha1.Postback {
	n.t.Helper()
	p := &v1alpha1.Postback{}
	if err := api.Get(n.t.Context(), client.ObjectKey{Namespace: n.namespace, Name: name}, p); err != nil {
		n.t.Fatal(err)
	}
	return p
}

// deliveries returns the deliveries of the namespace by event id: PostbackDeliveries, entries of the delivery log, and
// messages of the waiting stream.
// If a redelivery was requested for an entry, both exist, and the PostbackDelivery has the newer state.
func (n *tenant) deliveries() map[string]*v1alpha1.PostbackDelivery {
	n.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := api.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
		n.t.Fatal(err)
	}
	byID := map[string]*v1alpha1.PostbackDelivery{}
	for i := range list.Items {
		d := &list.Items[i]
		if byID[d.Spec.Event.ID] != nil {
			n.t.Errorf("event %s has two deliveries", d.Spec.Event.ID)
		}
		byID[d.Spec.Event.ID] = d
	}
	// A delivery enters the log before it leaves the waiting stream: read in this order, neither lacks it.
	waiting, err := op.InWaiting(n.t.Context(), n.namespace)
	if err != nil {
		n.t.Fatal(err)
	}
	logged, err := op.Logged(n.t.Context(), n.namespace)
	if err != nil {
		n.t.Fatal(err)
	}
	logged = append(logged, waiting...)
	for i := range logged {
		if d := &logged[i]; byID[d.Spec.Event.ID] == nil {
			byID[d.Spec.Event.ID] = d
		}
	}
	return byID
}

// waitPhase returns the delivery of an event once it is in a phase with a number of recorded attempts.
func (n *tenant) waitPhase(id string, phase v1alpha1.DeliveryPhase, attempts int32) *v1alpha1.PostbackDelivery {
	n.t.Helper()
	var d *v1alpha1.PostbackDelivery
	eventually(n.t, func() error {
		if d = n.deliveries()[id]; d == nil {
			return fmt.Errorf("there is no delivery of event %s", id)
		}
		if d.Status.Phase != phase || d.Status.AttemptCount != attempts {
			return fmt.Errorf("event %s is %s after %d attempts, not %s after %d", id, d.Status.Phase, d.Status.AttemptCount, phase, attempts)
		}
		return nil
	})
	return d
}

// wait returns the requests of the endpoint once it has received count of them.
func (n *tenant) wait(count int) []receiver.Request {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	requests, err := n.endpoint.Wait(ctx, hooks, count)
	if err != nil {
		n.t.Fatal(err)
	}
	return requests
}

// waitSignedWith waits until the dispatchers sign a Postback's events with the named keys.
func (n *tenant) waitSignedWith(p *v1alpha1.Postback, names ...string) {
	n.t.Helper()
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = n.key(name)
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	if err := op.WaitSignedWith(ctx, p.UID, values...); err != nil {
		n.t.Fatal(err)
	}
}

// gone returns nil if an object does not exist.
func gone(ctx context.Context, namespace, name string, object client.Object) error {
	err := api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%T %s/%s is there", object, namespace, name)
	}
}

// event is an event as a producer posts it.
type event struct {
	ID   string          `json:"id,omitempty"`
	Type string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

func lead(id string) event {
	return event{ID: id, Type: "lead.created", Data: json.RawMessage(`{"id":"` + id + `"}`)}
}

// reply is the response of ingest.
type reply struct {
	Status     int    `json:"-"`
	RetryAfter string `json:"-"`
	Type       string `json:"type"`
	Detail     string `json:"detail"`
	Events     []struct {
		ID         string `json:"id"`
		Deliveries []struct {
			Postback, Delivery, Result, Reason string
		} `json:"deliveries"`
	} `json:"events"`
}

// result returns the result of the first event for the first Postback.
func (r *reply) result() string {
	if len(r.Events) == 0 || len(r.Events[0].Deliveries) == 0 {
		return ""
	}
	return r.Events[0].Deliveries[0].Result
}

// tryPost posts events to a dispatcher.
func (n *tenant) tryPost(ctx context.Context, to *operator.Process, events ...event) (*reply, error) {
	body, err := json.Marshal(events)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.IngestURL()+"/v1/namespaces/"+n.namespace+"/events", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if n.token != "" {
		request.Header.Set("Authorization", "Bearer "+n.token)
	}
	response, err := n.producer.Do(request)
	if err != nil {
		return nil, errors.Join(err, to.EndedByItself())
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, errors.Join(err, to.EndedByItself())
	}
	r := &reply{Status: response.StatusCode, RetryAfter: response.Header.Get("Retry-After")}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("ingest answers %s: %q: %w", response.Status, content, err)
	}
	return r, nil
}

// post posts events, which must be accepted.
func (n *tenant) post(events ...event) *reply {
	n.t.Helper()
	r, err := n.tryPost(n.t.Context(), dispatcher, events...)
	if err != nil {
		n.t.Fatal(err)
	}
	if r.Status != http.StatusAccepted {
		n.t.Fatalf("ingest answers %+v", r)
	}
	return r
}

// eventually repeats a check until it returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	gomega.NewWithT(t).Eventually(check).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(gomega.Succeed())
}
