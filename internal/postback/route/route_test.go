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

package route

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func sample(uid types.UID) *Route {
	return &Route{
		Namespace: "partner-acme", Name: "crm", UID: uid, Generation: 3, URL: "https://crm.example.com/hooks",
		Triggers: []v1alpha1.Trigger{"lead.created", "sale.*"}, State: v1alpha1.PostbackEnabled,
		Signatures: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub}, Keys: []string{"whsec_c2VjcmV0"},
		Timeout: metav1.Duration{Duration: 10 * time.Second}, MaxPending: 10,
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		trigger, event string
		want           bool
	}{
		{"lead.created", "lead.created", true},
		{"lead.created", "lead.create", false},
		{"lead.created", "lead.created.twice", false},
		{"lead.created", "Lead.created", false},
		{"sale.*", "sale.created", true},
		{"sale.*", "sale.refund.created", true},
		{"sale.*", "sale", false},
		{"sale.*", "sale.", false},
		{"sale.*", "sales.created", false},
		{"sale.refund.*", "sale.created", false},
		{"*", "anything.at.all", true},
		{"", "lead.created", false},
		{"lead*", "lead.created", false},
	}
	for _, test := range tests {
		t.Run(test.trigger+" and "+test.event, func(t *testing.T) {
			if got := matches(v1alpha1.Trigger(test.trigger), test.event); got != test.want {
				t.Errorf("matches(%q, %q) = %t", test.trigger, test.event, got)
			}
		})
	}
}

func FuzzMatches(f *testing.F) {
	f.Add("sale.*", "sale.created")
	f.Add("*", "x")
	f.Add("a.b", "a.b")
	f.Fuzz(func(t *testing.T, trigger, event string) {
		got := matches(v1alpha1.Trigger(trigger), event)
		want := trigger == event || trigger == "*" ||
			strings.HasSuffix(trigger, ".*") && len(event) >= len(trigger) && strings.HasPrefix(event, strings.TrimSuffix(trigger, "*"))
		if got != want {
			t.Errorf("matches(%q, %q) = %t, want %t", trigger, event, got, want)
		}
	})
}

func TestSecretRoundTrip(t *testing.T) {
	want := sample("u1")
	secret, err := want.ToSecret("postback-system")
	if err != nil {
		t.Fatal(err)
	}
	again, err := want.ToSecret("postback-system")
	if err != nil || !SameData(secret, again) {
		t.Error("equal routes give different data")
	}
	got, err := FromSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	if got.Key() != want.Key() || got.Keys[0] != want.Keys[0] || got.Timeout != want.Timeout || len(got.Triggers) != 2 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFromSecretRefusesWithoutShowingKeys(t *testing.T) {
	const key = "whsec_dG9wc2VjcmV0"
	tests := map[string]func(*corev1.Secret){
		"no data":      func(s *corev1.Secret) { s.Data = nil },
		"no JSON":      func(s *corev1.Secret) { s.Data[dataKey] = []byte(`{"keys":["` + key + `"`) },
		"wrong type":   func(s *corev1.Secret) { s.Data[dataKey] = []byte(`{"keys":"` + key + `"}`) },
		"no key":       func(s *corev1.Secret) { s.Data[dataKey] = []byte(`{"namespace":"a","name":"b","uid":"u1"}`) },
		"no identity":  func(s *corev1.Secret) { s.Data[dataKey] = []byte(`{"keys":["` + key + `"]}`) },
		"other's name": func(s *corev1.Secret) { s.Name = SecretName("u2") },
		"no timeout": func(s *corev1.Secret) {
			s.Data[dataKey] = []byte(`{"namespace":"a","name":"b","uid":"u1","keys":["` + key + `"]}`)
		},
		"not an object": func(s *corev1.Secret) { s.Data[dataKey] = []byte(`"` + key + `"`) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			secret, err := sample("u1").ToSecret("postback-system")
			if err != nil {
				t.Fatal(err)
			}
			spoil(secret)
			_, err = FromSecret(secret)
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "dG9wc2VjcmV0") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	index := NewIndex()
	index.Set(sample("u1"))
	other := sample("u2")
	other.Triggers = []v1alpha1.Trigger{"*"}
	index.Set(other)
	if got := len(index.Match("partner-acme", "lead.created")); got != 2 {
		t.Errorf("%d routes for lead.created, want 2", got)
	}
	if got := len(index.Match("partner-acme", "commission.created")); got != 1 {
		t.Errorf("%d routes for commission.created, want 1", got)
	}
	if got := len(index.Match("partner-other", "lead.created")); got != 0 {
		t.Errorf("%d routes in a foreign namespace", got)
	}
	changed := sample("u1")
	changed.Triggers = []v1alpha1.Trigger{"commission.created"}
	index.Set(changed)
	if got := len(index.Match("partner-acme", "lead.created")); got != 1 {
		t.Errorf("%d routes for lead.created after a change, want 1", got)
	}
	index.Delete("u1")
	index.Delete("u1")
	index.Delete("u2")
	if len(index.byUID) != 0 || len(index.byNamespace) != 0 {
		t.Error("deleted routes are still there")
	}
}

func TestDeliveriesReachOnlyTheirOwnNamespace(t *testing.T) {
	index := NewIndex()
	index.Set(sample("u1"))
	ref := v1alpha1.PostbackReference{Name: "crm", UID: "u1"}
	if index.Of("partner-acme", ref) == nil {
		t.Error("a delivery does not find its route")
	}
	if index.Of("partner-mallory", ref) != nil {
		t.Error("a delivery uses the keys of another namespace")
	}
	if index.Of("partner-acme", v1alpha1.PostbackReference{Name: "other", UID: "u1"}) != nil ||
		index.Of("partner-acme", v1alpha1.PostbackReference{Name: "crm", UID: "u2"}) != nil {
		t.Error("a delivery uses the route of another Postback")
	}
}

func TestChangedRouteIsTold(t *testing.T) {
	var told []string
	w := &Watch{index: NewIndex(), changed: func(r *Route) { told = append(told, r.URL) }, loaded: map[string]string{}}
	secret := func(url string) *corev1.Secret {
		r := sample("u1")
		r.URL = url
		secret, err := r.ToSecret("postback-system")
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	w.delete(secret("https://never.example")) // It was never in the index.
	w.set(secret("https://one.example"))
	w.set(secret("https://two.example"))
	w.delete(secret("https://two.example"))
	if want := []string{"https://one.example", "https://two.example", "https://two.example"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}

func TestLoadedIsTheHighest(t *testing.T) {
	w := &Watch{index: NewIndex(), changed: func(*Route) {}, loaded: map[string]string{}}
	if got := w.Loaded(); got != "" {
		t.Errorf("Loaded() = %q without routes", got)
	}
	add := func(uid types.UID, version string) *corev1.Secret {
		secret, err := sample(uid).ToSecret("postback-system")
		if err != nil {
			t.Fatal(err)
		}
		secret.ResourceVersion = version
		w.set(secret)
		return secret
	}
	add("u1", "9")
	highest := add("u2", "10")
	if got := w.Loaded(); got != "10" {
		t.Errorf("Loaded() = %q, want 10", got)
	}
	w.delete(highest)
	if got := w.Loaded(); got != "9" {
		t.Errorf("Loaded() = %q after a deletion, want 9", got)
	}
	broken := add("u1", "11")
	broken.Data = nil
	broken.ResourceVersion = "12"
	w.set(broken)
	if w.index.byUID["u1"] == nil || w.Loaded() != "11" {
		t.Error("a broken route replaced the last good one")
	}
}
