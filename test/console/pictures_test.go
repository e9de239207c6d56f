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
	"bytes"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

// partner describes a Postback of the pictures.
type partner struct {
	name, title, host string
	triggers          []v1alpha1.Trigger
	state             v1alpha1.PostbackState
	events            int
	// failing means that one of this many events is not accepted at first; 0 means none.
	failing int
}

var partners = []partner{
	{"crm", "Acme CRM", "hooks.acme.example", []v1alpha1.Trigger{"lead.created", "sale.*"}, "", 64, 9},
	{"warehouse", "Warehouse", "in.warehouse.example", []v1alpha1.Trigger{"sale.created", "sale.refunded"}, "", 30, 3},
	{"analytics", "Analytics pipeline", "events.analytics.example", []v1alpha1.Trigger{"*"}, "", 40, 0},
	{"payouts", "Partner payouts", "payouts.example", []v1alpha1.Trigger{"commission.created", "commission.paid", "sale.*", "lead.created"}, v1alpha1.PostbackPaused, 12, 0},
	{"legacy", "Legacy bridge", "bridge.legacy.example", []v1alpha1.Trigger{"lead.created"}, v1alpha1.PostbackDisabled, 0, 0},
}

// TestPictures takes the pictures of the documentation in the folder $POSTBACK_PICTURES. It checks that each page
// fits and is accessible in every size and colour scheme.
func TestPictures(t *testing.T) {
	n := newTenant(t)
	for i := range partners {
		n.partner(&partners[i])
	}
	p := openConsole(t, cp.Config, n.namespace)
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		for width, height := range map[int64]int64{1440: 900, 390: 1500} {
			p.size(width, height)
			p.tour(n.path("crm"), func(name string) {
				what := fmt.Sprintf("%s-%s-%d", name, scheme, width)
				p.fits(what)
				p.whole(what, ".scope-namespace, #phases a, .row-event > span, .row em")
				// Colours do not depend on the width, and the layout does not depend on the colours: two checks
				// suffice.
				if scheme == "light" || width == 1440 {
					p.accessible(what)
				}
				p.keep(what)
			})
		}
	}
	if os.Getenv("POSTBACK_PICTURES") == "" {
		return
	}
	// Take the pictures of the documentation.
	p.size(1280, 800)
	for scheme, suffix := range map[string]string{"light": "", "dark": "-dark"} {
		p.scheme(scheme)
		p.tour(n.path("crm"), func(name string) { p.keep(name + suffix) })
	}
}

// tour visits the pages of a Postback and calls take at each.
func (p *page) tour(path string, take func(name string)) {
	p.t.Helper()
	p.open("/")
	p.see(".card", "Acme CRM")
	take("list")
	p.open(path)
	p.see(".row", "evt_")
	take("log")
	p.click(".row:has(.code.c5) > a")
	p.see("#sheet .timeline", "503")
	take("sheet")
	p.click(".sheet-close")
	p.click("a[href$='/do/edit']")
	p.see("#dialog-title", "Edit crm")
	take("edit")
	p.click("#dialog [data-cancel]")
	p.click("summary.button")
	take("menu")
}

// keep writes a picture if the folder is set.
func (p *page) keep(name string) {
	p.t.Helper()
	dir := os.Getenv("POSTBACK_PICTURES")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), small(p.t, p.shot()), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// small compresses a picture as much as possible, which Chromium does not.
func small(t *testing.T, picture []byte) []byte {
	t.Helper()
	decoded, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, decoded); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// partner creates a Postback with a day of history.
func (n *tenant) partner(a *partner) {
	n.t.Helper()
	p := n.postback(a.name, func(s *v1alpha1.PostbackSpec) {
		s.URL, s.Triggers, s.DisplayName, s.State = "https://"+a.host+"/postback", a.triggers, a.title, a.state
		s.History = &v1alpha1.History{Delivered: ptr.To[int32](1000)}
	})
	counted := &v1alpha1.PostbackStatistics{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
	counted.StartTime, counted.LastUpdateTime = metav1.NewTime(time.Now().Add(-24*time.Hour)), metav1.NowMicro()
	counted.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Postback", Name: p.Name, UID: p.UID}}
	types := []string{"sale.created", "lead.created", "sale.refunded", "lead.created", "commission.created"}
	for i := range a.events {
		eventType := types[i%len(types)]
		d := delivery(p, fmt.Sprintf("evt_%08x", uint32(i+1)*2654435761), fmt.Sprintf(
			`{"id":"evt_%08x","event":%q,"createdAt":"2026-11-25T10:00:00.000Z","data":{"customer":{"id":"cus_%d","email":"ada@example.com","country":"PT"},"sale":{"amount":%d,"currency":"EUR","invoiceId":"inv_%d"}}}`,
			uint32(i+1)*2654435761, eventType, 100+i, 4900+i*137, 7000+i))
		d.Spec.Event.Type = eventType
		if err := api.Create(n.t.Context(), d); err != nil {
			n.t.Fatal(err)
		}
		began := time.Now().Add(-time.Duration((a.events-i)*(a.events-i)) * 18 * time.Second)
		if a.state == v1alpha1.PostbackPaused && i > 3 {
			continue
		}
		d.Status = history(began, i, a.failing > 0 && i%a.failing == a.failing-1, i > a.events-12)
		if err := api.Status().Update(n.t.Context(), d); err != nil {
			n.t.Fatal(err)
		}
		count(counted, &d.Status)
	}
	if err := api.Create(n.t.Context(), counted); err != nil {
		n.t.Fatal(err)
	}
}

// count adds the attempts of a delivery to statistics, as the dispatcher does.
func count(s *v1alpha1.PostbackStatistics, d *v1alpha1.PostbackDeliveryStatus) {
	for i := range d.Attempts {
		a := &d.Attempts[i]
		began := a.Time.Truncate(time.Hour)
		at := slices.IndexFunc(s.Hours, func(h v1alpha1.StatisticsHour) bool { return h.Time.Time.Equal(began) })
		if at < 0 {
			at = len(s.Hours)
			s.Hours = append(s.Hours, v1alpha1.StatisticsHour{Time: metav1.NewTime(began), Durations: make([]int64, len(v1alpha1.AttemptDurationBounds)+1)})
		}
		h := &s.Hours[at]
		h.Durations[statistics.DurationClass(a.Duration.Duration)]++
		if a.Outcome == v1alpha1.OutcomeSucceeded {
			h.Delivered++
			s.LastSuccessTime = ptr.To(metav1.NewMicroTime(a.Time.Time))
		}
		of := slices.IndexFunc(h.Outcomes, func(o v1alpha1.OutcomeCount) bool { return o.Outcome == a.Outcome })
		if of < 0 {
			of = len(h.Outcomes)
			h.Outcomes = append(h.Outcomes, v1alpha1.OutcomeCount{Outcome: a.Outcome})
		}
		h.Outcomes[of].Count++
	}
}

// history returns the status of a delivery. It is delivered on the first attempt, or, if fails is true, on the third,
// which a recent delivery still waits for.
func history(began time.Time, i int, fails, recent bool) v1alpha1.PostbackDeliveryStatus {
	took := time.Duration(80+i*37%140+i%11*i%90) * time.Millisecond
	status := v1alpha1.PostbackDeliveryStatus{Phase: v1alpha1.DeliveryDelivered, ObservedGeneration: 1}
	if fails {
		for k, wait := range []time.Duration{0, 12 * time.Second} {
			status.Attempts = append(status.Attempts, v1alpha1.Attempt{
				Number: int32(k + 1), Time: metav1.NewMicroTime(began.Add(wait)), Duration: metav1.Duration{Duration: 3 * took},
				Outcome: v1alpha1.OutcomeFailed5xx, StatusCode: ptr.To[int32](503), RemoteIP: "203.0.113.7",
				Message: "the endpoint answered 503 Service Unavailable", ResponseBody: `{"error":"maintenance","retry":true}`,
			})
		}
		began = began.Add(160 * time.Second)
	}
	if fails && recent {
		status.Phase, status.NextAttemptTime = v1alpha1.DeliveryRetrying, ptr.To(metav1.NewMicroTime(time.Now().Add(28*time.Minute)))
	} else {
		status.Attempts = append(status.Attempts, v1alpha1.Attempt{
			Number: int32(len(status.Attempts) + 1), Time: metav1.NewMicroTime(began), Duration: metav1.Duration{Duration: took},
			Outcome: v1alpha1.OutcomeSucceeded, StatusCode: ptr.To[int32](200), RemoteIP: "203.0.113.7", ResponseBody: `{"ok":true}`,
		})
		status.CompletionTime = ptr.To(metav1.NewMicroTime(began.Add(took)))
	}
	status.AttemptCount = int32(len(status.Attempts))
	status.Round = v1alpha1.DeliveryRound{Attempts: status.AttemptCount}
	return status
}
