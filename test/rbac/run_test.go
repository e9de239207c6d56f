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

package rbac

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const (
	hooks = "/hooks"
	// failures in a row open the circuit.
	failures = 5
)

// run is one life of a manager and a dispatcher, with its own namespace.
type run struct {
	t                   *testing.T
	manager, dispatcher *operator.Process
	endpoint            *receiver.Receiver
	namespace, token    string
}

// begin starts both programs for a namespace, or for a new one if it is "". The programs need not become ready.
func begin(t *testing.T, namespace string) *run {
	t.Helper()
	deleteLeases(t)
	if namespace == "" {
		made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "partner-"}}
		if err := api.Create(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		namespace = made.Name
	}
	r := &run{t: t, namespace: namespace}
	var err error
	if r.token, err = op.SenderToken(t.Context(), r.namespace); err != nil {
		t.Fatal(err)
	}
	if r.endpoint, err = receiver.Start(func() []receiver.Secret { return nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.endpoint.Close() })
	// Lists are used where the API server does not stream them (KEP-3157), as in Kubernetes 1.33.
	options := []operator.Option{operator.WithoutReady(), operator.WithEnv("KUBE_FEATURE_WatchListClient=false")}
	if r.manager, err = op.StartManager(t.Context(), "manager-"+r.namespace, append(options, operator.WithArgs("--allow-plain-http"))...); err != nil {
		t.Fatal(err)
	}
	if r.dispatcher, err = op.StartDispatcher(t.Context(), "dispatcher-"+r.namespace, append(options, operator.WithArgs("--max-finished-deliveries=1"))...); err != nil {
		t.Fatal(err)
	}
	return r
}

// end ends both programs. A program that lacks rights may have ended by itself.
func (r *run) end() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), patience)
	defer cancel()
	for _, p := range []*operator.Process{r.dispatcher, r.manager} {
		if !p.Running() {
			continue
		}
		if _, err := p.Terminate(ctx); err != nil {
			r.t.Error(err)
		}
	}
	// The next manager must find nothing of this run.
	if err := api.DeleteAllOf(ctx, &v1alpha1.Postback{}, client.InNamespace(r.namespace)); err != nil {
		r.t.Error(err)
	}
	list := &v1alpha1.PostbackList{}
	if err := api.List(ctx, list, client.InNamespace(r.namespace)); err != nil {
		r.t.Error(err)
	}
	for i := range list.Items {
		if err := r.update(ctx, &list.Items[i], func() { list.Items[i].Finalizers = nil }); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *run) logOf(program string) string {
	if program == "manager" {
		return r.manager.Log()
	}
	return r.dispatcher.Log()
}

func (r *run) logs() string { return r.manager.Log() + r.dispatcher.Log() }

// use needs every right of the two programs. A Postback with its own key is declared, and gets an event, a test
// event, a new key and a redelivery. An old delivery is pruned, the endpoint is in trouble, and the Postback is
// deleted. use returns an error if ctx ends before a step is done.
func (r *run) use(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"have the certificate of ingest mended", r.mendCertificate},
		{"declare a Postback", r.declare},
		{"post an event, which the endpoint refuses", func(ctx context.Context) error { return r.post(ctx, "evt_1", failures+2) }},
		{"redeliver it", r.redeliver},
		{"have the endpoint found in trouble", r.trouble},
		{"rotate the key, and send a test event", r.ask},
		{"redeliver all", r.redeliverSince},
		{"find the statistics written", r.statistics},
		{"delete the Postback", r.remove},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// until waits until a check is true.
func (r *run) until(ctx context.Context, check func(context.Context) (bool, error)) error {
	return wait.PollUntilContextCancel(ctx, polling, true, check)
}

func (r *run) postback(ctx context.Context) (*v1alpha1.Postback, error) {
	p := &v1alpha1.Postback{}
	return p, api.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: "crm"}, p)
}

// update changes an object and writes it to the API server.
func (r *run) update(ctx context.Context, object client.Object, change func()) error {
	before, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("copy of %T", object)
	}
	change()
	return api.Patch(ctx, object, client.MergeFrom(before))
}

func (r *run) annotate(ctx context.Context, object client.Object, annotations map[string]string) error {
	return r.update(ctx, object, func() {
		all := object.GetAnnotations()
		if all == nil {
			all = map[string]string{}
		}
		for name, value := range annotations {
			all[name] = value
		}
		object.SetAnnotations(all)
	})
}

// mendCertificate makes the manager recreate all objects of the certificate, and then repair one of them.
func (r *run) mendCertificate(ctx context.Context) error {
	bundle := &corev1.ConfigMap{}
	bundle.Namespace, bundle.Name = operator.Namespace, v1alpha1.IngestCAName
	complete := func(ctx context.Context) (bool, error) {
		err := api.Get(ctx, client.ObjectKeyFromObject(bundle), bundle)
		return err == nil && bundle.Data[v1alpha1.CABundleKey] != "", client.IgnoreNotFound(err)
	}
	if err := client.IgnoreNotFound(api.Delete(ctx, bundle)); err != nil {
		return err
	}
	for _, spoil := range []func() error{
		func() error { return nil },
		func() error { return r.update(ctx, bundle, func() { bundle.Data = map[string]string{"other": "x"} }) },
	} {
		if err := spoil(); err != nil {
			return err
		}
		// The manager watches the Secrets, and checks the ConfigMap at the same time.
		for _, name := range []string{v1alpha1.IngestCertificateName, v1alpha1.IngestCAName} {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operator.Namespace, Name: name}}
			if err := client.IgnoreNotFound(api.Delete(ctx, secret)); err != nil {
				return err
			}
		}
		if err := r.until(ctx, complete); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) declare(ctx context.Context) error {
	p := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "crm"},
		Spec: v1alpha1.PostbackSpec{
			URL: r.endpoint.URL(hooks), Triggers: []v1alpha1.Trigger{"*"},
			History: &v1alpha1.History{Delivered: ptr.To[int32](0)},
		},
	}
	if err := api.Create(ctx, p); err != nil {
		return err
	}
	return r.until(ctx, func(ctx context.Context) (bool, error) {
		p, err := r.postback(ctx)
		return err == nil && meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ReadyCondition), err
	})
}

// post posts an event, and waits for the first attempt. This many attempts fail.
func (r *run) post(ctx context.Context, id string, failures int) error {
	seen := len(r.endpoint.Requests(hooks))
	r.endpoint.Answer(hooks, receiver.Times(failures, http.StatusServiceUnavailable))
	err := r.until(ctx, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.dispatcher.IngestURL()+"/v1/namespaces/"+r.namespace+"/events",
			bytes.NewBufferString(`{"id": "`+id+`", "event": "lead.created", "data": {}}`))
		if err != nil {
			return false, err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+r.token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil // The dispatcher is not ready yet.
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return response.StatusCode == http.StatusAccepted, err
	})
	if err != nil {
		return err
	}
	_, err = r.endpoint.Wait(ctx, hooks, seen+1)
	return err
}

// statistics waits until the dispatcher has written statistics.
func (r *run) statistics(ctx context.Context) error {
	return r.until(ctx, func(ctx context.Context) (bool, error) {
		err := api.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: "crm"}, &v1alpha1.PostbackStatistics{})
		return err == nil, client.IgnoreNotFound(err)
	})
}

func (r *run) deliveries(ctx context.Context) ([]v1alpha1.PostbackDelivery, error) {
	list := &v1alpha1.PostbackDeliveryList{}
	return list.Items, api.List(ctx, list, client.InNamespace(r.namespace))
}

// redeliver requests a redelivery, and waits for its attempt.
func (r *run) redeliver(ctx context.Context) error {
	all, err := r.deliveries(ctx)
	if err != nil || len(all) == 0 {
		return errors.Join(errors.New("there is no delivery"), err)
	}
	n := len(r.endpoint.Requests(hooks))
	if err := r.annotate(ctx, &all[0], map[string]string{v1alpha1.RedeliverAnnotation: strconv.Itoa(n)}); err != nil {
		return err
	}
	_, err = r.endpoint.Wait(ctx, hooks, n+1)
	return err
}

// trouble requests attempts until enough have failed that the condition EndpointHealthy is False.
func (r *run) trouble(ctx context.Context) error {
	for range failures {
		if err := r.redeliver(ctx); err != nil {
			return err
		}
	}
	return r.until(ctx, func(ctx context.Context) (bool, error) {
		p, err := r.postback(ctx)
		return err == nil && meta.IsStatusConditionFalse(p.Status.Conditions, v1alpha1.EndpointHealthyCondition), err
	})
}

func (r *run) ask(ctx context.Context) error {
	p, err := r.postback(ctx)
	if err != nil {
		return err
	}
	err = r.annotate(ctx, p, map[string]string{v1alpha1.RotateSecretAnnotation: "1", v1alpha1.SendTestAnnotation: "lead.created/1"})
	if err != nil {
		return err
	}
	return r.until(ctx, func(ctx context.Context) (bool, error) {
		p, err := r.postback(ctx)
		return err == nil && p.Status.LastHandledRotateSecret == "1" && p.Status.LastHandledSendTest == "lead.created/1", err
	})
}

// redeliverSince returns once everything is delivered, and one of the two deliveries is deleted because the cluster
// keeps only one.
func (r *run) redeliverSince(ctx context.Context) error {
	r.endpoint.Answer(hooks)
	// A success closes the circuit.
	if err := r.redeliver(ctx); err != nil {
		return err
	}
	if err := r.post(ctx, "evt_2", 1); err != nil {
		return err
	}
	p, err := r.postback(ctx)
	if err != nil {
		return err
	}
	if err := r.annotate(ctx, p, map[string]string{v1alpha1.RedeliverSinceAnnotation: "1h/1"}); err != nil {
		return err
	}
	return r.until(ctx, func(ctx context.Context) (bool, error) {
		all, err := r.deliveries(ctx)
		if err != nil || len(all) > 1 {
			return false, err
		}
		p, err := r.postback(ctx)
		return err == nil && p.Status.Redelivery != nil && p.Status.Redelivery.CompletionTime != nil, err
	})
}

func (r *run) remove(ctx context.Context) error {
	p, err := r.postback(ctx)
	if err != nil {
		return err
	}
	if err := api.Delete(ctx, p); err != nil {
		return err
	}
	return r.until(ctx, func(ctx context.Context) (bool, error) {
		_, err := r.postback(ctx)
		return client.IgnoreNotFound(err) == nil && err != nil, client.IgnoreNotFound(err)
	})
}
