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

package upgrade

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestUpgrade writes the objects of each released version into etcd, starts the present programs, and checks that
// they complete the work.
func TestUpgrade(t *testing.T) {
	folders, err := filepath.Glob("testdata/v*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("there is no recording: %v", err)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			u := takeOver(t, folder)
			u.driveToCompletion()
			u.checkPostbacks()
			u.checkKeys()
			u.checkDeliveries()
			u.checkRequests()
			if answer := u.send("evt_second", "lead.created"); !strings.Contains(answer, `"postback":"delivered"`) || strings.Count(answer, `"Duplicate"`) < 8 {
				t.Errorf("an event that the version stored, sent again: %s", answer)
			}
		})
	}
}

// upgrade is a cluster that the present programs have taken over.
type upgrade struct {
	*cluster

	postbacks  map[string]*v1alpha1.Postback
	deliveries map[string]*v1alpha1.PostbackDelivery
	secrets    map[string]*corev1.Secret
	began      time.Time
}

func takeOver(t *testing.T, folder string) *upgrade {
	t.Helper()
	u := &upgrade{
		cluster: newCluster(t), postbacks: map[string]*v1alpha1.Postback{}, deliveries: map[string]*v1alpha1.PostbackDelivery{}, secrets: map[string]*corev1.Secret{},
	}
	recorded, err := read(folder)
	u.must(err)
	moved, err := recorded.moved(u.endpoint.Address())
	u.must(err)
	for _, object := range moved.Objects {
		u.must(u.remember(object))
	}
	u.must(moved.store(t.Context(), u.cp))
	u.began = time.Now()
	u.start("1")
	return u
}

// remember keeps a recorded object in its Go type, and gives the endpoint its keys.
func (u *upgrade) remember(object *unstructured.Unstructured) error {
	into := map[string]client.Object{"Postback": &v1alpha1.Postback{}, "PostbackDelivery": &v1alpha1.PostbackDelivery{}, "Secret": &corev1.Secret{}}[object.GetKind()]
	if into == nil {
		return nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into); err != nil {
		return fmt.Errorf("%s %s is none any more: %w", object.GetKind(), object.GetName(), err)
	}
	switch o := into.(type) {
	case *v1alpha1.Postback:
		u.postbacks[o.Name] = o
	case *v1alpha1.PostbackDelivery:
		u.deliveries[o.Name] = o
	case *corev1.Secret:
		if o.Namespace != tenant {
			return nil
		}
		u.secrets[o.Name] = o
		u.mu.Lock()
		defer u.mu.Unlock()
		for name, value := range o.Data {
			if strings.HasPrefix(string(value), "whsec_") {
				u.keys = append(u.keys, receiver.Secret{Name: o.Name + "/" + name, Value: string(value)})
			}
		}
	}
	return nil
}

// driveToCompletion waits until everything that may be delivered is. It then enables the paused Postback and changes
// the gone one, and waits for the rest.
func (u *upgrade) driveToCompletion() {
	u.t.Helper()
	u.waitReady()
	waits := []string{"paused", "gone"}
	u.eventually(func() error { return u.delivered(func(name string) bool { return !slices.Contains(waits, name) }) })
	for _, path := range waits {
		if came := u.endpoint.Requests("/" + path); len(came) > 0 {
			u.t.Errorf("%s was sent before anybody let it go", path)
		}
	}
	u.kubectl("", "-n", tenant, "patch", "postback", "paused", "--type=merge", "--patch", `{"spec":{"state":"Enabled"}}`)
	u.kubectl("", "-n", tenant, "patch", "postback", "gone", "--type=merge", "--patch", `{"spec":{"displayName":"It is back"}}`)
	u.eventually(func() error { return u.delivered(func(string) bool { return true }) })
	u.eventually(u.asked)
	u.waitReady()
}

func (u *upgrade) waitReady() {
	u.t.Helper()
	u.kubectl("", "-n", tenant, "wait", "--for=condition=Ready", "--timeout="+patience.String(), "postback", "--all")
}

// delivered returns an error if a recorded delivery of the selected Postbacks is not delivered, or if its requested
// redelivery is not.
func (u *upgrade) delivered(of func(postback string) bool) error {
	for _, d := range u.cluster.deliveries() {
		if recorded := u.deliveries[d.Name]; recorded == nil || !of(d.Spec.PostbackRef.Name) {
			continue
		}
		if d.Status.Phase != v1alpha1.DeliveryDelivered || d.Annotations[v1alpha1.RedeliverAnnotation] != d.Status.LastHandledRedeliver {
			return fmt.Errorf("%s is %s after %d attempts", d.Name, d.Status.Phase, d.Status.AttemptCount)
		}
	}
	return nil
}

// asked returns an error if a request on a Postback or PostbackSecret is unhandled.
func (u *upgrade) asked() error {
	var errs []error
	if n := len(u.cluster.deliveries()) - len(u.deliveries); n != 1 {
		errs = append(errs, fmt.Errorf("%d test events were stored", n))
	}
	shared := &v1alpha1.PostbackSecret{}
	if err := u.api.Get(u.t.Context(), client.ObjectKey{Namespace: tenant, Name: "shared"}, shared); err != nil {
		return err
	}
	if shared.Status.Version != 2 || shared.Status.PreviousVersion != 1 {
		errs = append(errs, fmt.Errorf("the key of PostbackSecret shared is version %d", shared.Status.Version))
	}
	failed := &v1alpha1.Postback{}
	if err := u.api.Get(u.t.Context(), client.ObjectKey{Namespace: tenant, Name: "failed"}, failed); err != nil {
		return err
	}
	if !meta.IsStatusConditionTrue(failed.Status.Conditions, v1alpha1.RedeliveryCondition) {
		errs = append(errs, errors.New("the redelivery of Postback failed is not complete"))
	}
	return errors.Join(errs...)
}

// checkPostbacks checks that each Postback has kept its fields, and has the same single route.
func (u *upgrade) checkPostbacks() {
	u.t.Helper()
	for name, recorded := range u.postbacks {
		present := &v1alpha1.Postback{}
		u.must(u.api.Get(u.t.Context(), client.ObjectKeyFromObject(recorded), present))
		want, got := recorded.Spec, present.Spec
		switch name {
		case "paused":
			want.State = v1alpha1.PostbackEnabled
		case "gone":
			want.DisplayName = got.DisplayName
		}
		if diff := cmp.Diff(want, got); diff != "" || present.UID != recorded.UID {
			u.t.Errorf("Postback %s, %s and now %s (-recorded +present):\n%s", name, recorded.UID, present.UID, diff)
		}
		if !meta.IsStatusConditionTrue(present.Status.Conditions, "Ready") {
			u.t.Errorf("Postback %s is not Ready: %+v", name, present.Status.Conditions)
		}
	}
	routes := &corev1.SecretList{}
	u.must(u.api.List(u.t.Context(), routes, client.InNamespace(operator.Namespace), client.MatchingFields{"type": string(route.SecretType)}))
	if len(routes.Items) != len(u.postbacks) {
		u.t.Errorf("%d Postbacks have %d routes", len(u.postbacks), len(routes.Items))
	}
}

// checkKeys checks that the keys are the recorded ones, and that a replaced key keeps signing.
func (u *upgrade) checkKeys() {
	u.t.Helper()
	for name, recorded := range u.secrets {
		present := &corev1.Secret{}
		u.must(u.api.Get(u.t.Context(), client.ObjectKeyFromObject(recorded), present))
		want := recorded.Data
		if name == "shared-signing" { // Its rotation was requested.
			want = map[string][]byte{"secret": present.Data["secret"], "previous-1": recorded.Data["secret"]}
		}
		if diff := cmp.Diff(want, present.Data); diff != "" {
			u.t.Errorf("Secret %s has other data than recorded", name)
		}
	}
	lease := u.kubectl("", "-n", operator.Namespace, "get", "lease", "postback-dispatcher-retries", "-o", "jsonpath={.spec.holderIdentity}")
	if !strings.HasPrefix(lease, "postback-dispatcher-1") {
		u.t.Errorf("the retries are owned by %q", lease)
	}
}

// checkDeliveries checks that each delivery continues: with the same body, and with the recorded attempts before the
// new ones.
func (u *upgrade) checkDeliveries() {
	u.t.Helper()
	for name, recorded := range u.deliveries {
		present := &v1alpha1.PostbackDelivery{}
		err := u.api.Get(u.t.Context(), client.ObjectKeyFromObject(recorded), present)
		if apierrors.IsNotFound(err) {
			u.t.Errorf("%s is gone", name)
			continue
		}
		u.must(err)
		if diff := cmp.Diff(recorded.Spec, present.Spec); diff != "" {
			u.t.Errorf("%s (-recorded +present):\n%s", name, diff)
		}
		before := recorded.Status.AttemptCount
		if diff := cmp.Diff(recorded.Status.Attempts, present.Status.Attempts[:before], cmpopts.EquateEmpty()); diff != "" {
			u.t.Errorf("the log of %s (-recorded +present):\n%s", name, diff)
		}
		came := u.requestsOf(present)
		if int(present.Status.AttemptCount-before) != len(came) {
			u.t.Errorf("%s had %d attempts and has %d, but %d requests came", name, before, present.Status.AttemptCount, len(came))
		}
		for _, attempt := range recorded.Status.Attempts {
			if at := attempt.RetryAfterTime; at != nil && len(came) > 0 && came[0].Time.Before(at.Time) {
				u.t.Errorf("%s was sent at %s, and the endpoint had asked to be left alone until %s", name, came[0].Time, at)
			}
		}
	}
}

func (u *upgrade) requestsOf(d *v1alpha1.PostbackDelivery) []receiver.Request {
	return slices.DeleteFunc(u.endpoint.Requests("/"+d.Spec.PostbackRef.Name), func(r receiver.Request) bool { return r.ID() != d.Spec.Event.ID })
}

// checkRequests checks the endpoint's requests: they have the recorded bytes, keys and credentials.
func (u *upgrade) checkRequests() {
	u.t.Helper()
	checked := 0
	for _, d := range u.deliveries {
		postback := u.postbacks[d.Spec.PostbackRef.Name]
		key := postback.Status.SecretName
		for _, r := range u.requestsOf(d) {
			checked++
			if string(r.Body) != d.Spec.Body {
				u.t.Errorf("event %s of %s came as\n%s\nnot\n%s", r.ID(), postback.Name, r.Body, d.Spec.Body)
			}
			if !slices.Contains(r.StandardWebhooks, key+"/secret") {
				u.t.Errorf("event %s of %s does not verify with the recorded key, but with %v", r.ID(), postback.Name, r.StandardWebhooks)
			}
			if postback.Name == "delivered" && !slices.Contains(r.StandardWebhooks, key+"/previous-1") {
				u.t.Errorf("event %s is not signed with the key that is being replaced, but with %v", r.ID(), r.StandardWebhooks)
			}
		}
	}
	if checked < len(u.deliveries)/2 {
		u.t.Errorf("%d requests came for %d deliveries", checked, len(u.deliveries))
	}
	for _, r := range u.endpoint.Requests("/cloudevents") {
		if user, _, _ := basicAuth(&r); user != "acme" || r.Header.Get("X-Colour") != "blue" || r.Header.Get("X-Tenant") != "acme" {
			u.t.Errorf("the headers are %v", r.Header)
		}
	}
}

func basicAuth(r *receiver.Request) (user, password string, ok bool) {
	return (&http.Request{Header: r.Header}).BasicAuth()
}

// TestShift: times are shifted and keep their precision.
func TestShift(t *testing.T) {
	const by = 25 * time.Hour
	for name, test := range map[string]struct{ text, want string }{
		"a time":                   {"2026-11-26T19:48:02Z", "2026-11-27T20:48:02Z"},
		"a time with microseconds": {"2026-11-26T19:48:02.100200Z", "2026-11-27T20:48:02.100200Z"},
		"a time in a sentence":     {"until 2026-12-31T23:00:00Z, or so", "until 2027-01-02T00:00:00Z, or so"},
		"parts of a time":          {"evt_2026-11-26 is none, nor is 19:48Z", "evt_2026-11-26 is none, nor is 19:48Z"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := shift(test.text, by); got != test.want {
				t.Errorf("%s: got %s, want %s", test.text, got, test.want)
			}
		})
	}
}
