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

package console

import (
	"net/url"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// rendered renders a template with data, and checks that the result contains the wanted texts.
func rendered(t *testing.T, name string, data any, wanted ...string) string {
	t.Helper()
	content, err := render(name, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range wanted {
		if !strings.Contains(string(content), want) {
			t.Errorf("%s does not say %q:\n%s", name, want, content)
		}
	}
	return string(content)
}

func TestAddEndsWithTheKeyAndTheNextSteps(t *testing.T) {
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "crm"}}
	p.Spec.URL, p.Spec.Triggers = "https://example.com", []v1alpha1.Trigger{"lead.created", "sale.*"}
	rendered(t, "dialog-added", &dialog{P: p, Show: true, Secret: "whsec_abc", to: "/p/acme/crm"},
		"crm is added", "whsec_abc", `href="/p/acme/crm/do/test"`, `href="/p/acme/crm"`, "<code>sale.*</code>")
	rendered(t, "dialog-added", &dialog{P: p, Show: true, Error: "no key yet"}, "no key yet")
}

func TestRotationSaysWhenTheOldKeyEnds(t *testing.T) {
	now := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	key := &v1alpha1.PostbackSecret{}
	if !oldKeyEnds(nil, now).IsZero() || !oldKeyEnds(key, now).IsZero() {
		t.Error("an old key signs where there is none")
	}
	key.Status.PreviousExpiryTime = ptr.To(metav1.NewTime(now.Add(time.Hour)))
	if got := oldKeyEnds(key, now); !got.Equal(now.Add(time.Hour)) {
		t.Errorf("the old key ends at %s", got)
	}
	if !oldKeyEnds(key, now.Add(2*time.Hour)).IsZero() {
		t.Error("a key that ended signs")
	}
	d := &dialog{P: &v1alpha1.Postback{}, Show: true, Form: url.Values{}, OldKeyEnds: now.Add(time.Hour)}
	rendered(t, "dialog-rotate", d, "The old key signs beside it until", "2026-11-28T11:00:00Z")
	d.OldKeyEnds = time.Time{}
	rendered(t, "dialog-rotate", d, "the old key signs no longer")
}

func TestBadNamesAreExplained(t *testing.T) {
	for name, test := range map[string]struct{ field, namespace, name, want string }{
		"none":              {"name", "acme", "", "is required"},
		"upper case":        {"name", "acme", "Acme CRM", "use lower-case letters"},
		"too long":          {"name", "acme", strings.Repeat("a", 64), "at most 63 characters"},
		"dots":              {"namespace", "acme.crm", "", "use lower-case letters"},
		"without namespace": {"namespace", "", "crm", "is required"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dialog{P: &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: test.namespace, Name: test.name}}, Form: url.Values{}}
			d.fields(nil)
			if _, err := doCreate(t.Context(), nil, d); err == nil || !strings.Contains(d.Errors[test.field], test.want) {
				t.Errorf("%v, %v", err, d.Errors)
			}
		})
	}
}

func TestLogNamesEachStatusAndWhyItWaits(t *testing.T) {
	now := time.Now()
	for phase, test := range map[v1alpha1.DeliveryPhase]struct {
		wait wait
		want string
	}{
		v1alpha1.DeliveryDelivered: {wait{}, `<span class="row-next"></span>`},
		v1alpha1.DeliveryFailed:    {wait{}, `<span class="row-next"></span>`},
		v1alpha1.DeliveryPending:   {wait{Why: waiting.Why{Reason: waiting.Paused, Sentence: "Postback crm is paused."}}, `title="Postback crm is paused.">paused</span>`},
		v1alpha1.DeliveryRetrying:  {wait{Why: waiting.Why{Reason: waiting.Scheduled, Next: now.Add(time.Hour)}, Ahead: true}, "data-until"},
	} {
		t.Run(string(phase), func(t *testing.T) {
			row := &feed.Row{Event: "lead.created", EventID: "evt_1", Phase: phase, Place: deliveries.Place{Created: now}}
			rendered(t, "row", logRow{Row: row, Phase: phaseOf(phase), Wait: test.wait}, "</svg>"+string(phase)+"</span>", test.want)
		})
	}
	for _, reason := range []waiting.Reason{
		waiting.NoPostback, waiting.NoRoute, waiting.NoDispatcher, waiting.Paused, waiting.Disabled, waiting.RetryAfter,
		waiting.Gone, waiting.CircuitOpen, waiting.Scheduled, waiting.InTurn, waiting.APIServerUnavailable,
	} {
		t.Run(string(reason), func(t *testing.T) {
			if (wait{Why: waiting.Why{Reason: reason}}).Word() == "" {
				t.Errorf("%s has no word", reason)
			}
		})
	}
}
