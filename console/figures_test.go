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
	"context"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

// The figures come from the PostbackStatistics: 200 deliveries and 10 failures of two attempts each. Few
// PostbackDeliveries are kept.
func TestFiguresAreOfTheStatistics(t *testing.T) {
	now := time.Date(2026, 11, 28, 9, 31, 0, 0, time.UTC)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	meta := metav1.ObjectMeta{Namespace: "acme", Name: "crm"}
	objects := []client.Object{
		&v1alpha1.Postback{ObjectMeta: meta, Spec: v1alpha1.PostbackSpec{URL: "https://example.com", Triggers: []v1alpha1.Trigger{"*"}}},
		&v1alpha1.PostbackStatistics{ObjectMeta: meta, LastSuccessTime: &metav1.MicroTime{Time: now}, LastUpdateTime: metav1.NewMicroTime(now), Hours: []v1alpha1.StatisticsHour{{
			Time: metav1.NewTime(now.Truncate(time.Hour)), Delivered: 200, Failed: 10, Durations: []int64{0, 220},
			Outcomes: []v1alpha1.OutcomeCount{{Outcome: v1alpha1.OutcomeSucceeded, Count: 200}, {Outcome: v1alpha1.OutcomeFailed5xx, Count: 20}},
		}}},
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Watch: func(ctx context.Context, api client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
			asked := &client.ListOptions{}
			if asked.ApplyOptions(options); asked.Raw != nil && asked.Raw.SendInitialEvents != nil {
				// An API server without streaming lists answers like this.
				return nil, apierrors.NewInvalid(schema.GroupKind{}, "sendInitialEvents", nil)
			}
			return api.Watch(ctx, list, options...)
		},
	}).Build()
	f := feed.New(api, "acme", nil)
	changes := f.Subscribe()
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(ctx) }()
	t.Cleanup(func() { end(); <-ended })
	key := types.NamespacedName{Namespace: "acme", Name: "crm"}
	for {
		if _, known := f.Statistics(key); known && f.Status().Loading == "" {
			break
		}
		select {
		case <-changes.C:
		case <-ctx.Done():
			t.Fatalf("not loaded: %+v", f.Status())
		}
	}
	c := &Console{feed: f, clock: testingclock.NewFakeClock(now)}
	page, err := render("figures", c.head(f.Postback(key), actions{}, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`90<small>%</small>`, "200 of 220 attempts succeeded", "200 of 210 finished deliveries succeeded", "Counted <time",
		"Attempts in the last 24 hours: 200 succeeded, 20 failed", "Latency in the last 24 hours: median about",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
	if card := c.card(f.Postback(key)); !card.LastSuccess.Equal(now) || !strings.Contains(string(card.Spark), "200 attempts succeeded, 20 failed") {
		t.Errorf("%s %s", card.LastSuccess, card.Spark)
	}
}

// Counts lag behind the log, so the page shows no rate without counts.
func TestNothingCounted(t *testing.T) {
	page, err := render("figures", head{Traffic: trafficOf(statistics.Counts{}, true, nil), Span: 24 * time.Hour, Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(page); strings.Contains(text, "of 0") || strings.Contains(text, "Counted") || !strings.Contains(text, "No attempts counted in the last 24 hours") {
		t.Errorf("%s", page)
	}
}

// Without a finished delivery, the page has no figure of finished deliveries.
func TestNothingFinished(t *testing.T) {
	page, err := render("figures", head{Traffic: traffic{Attempts: 1}, Span: 24 * time.Hour, Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(page); strings.Contains(text, "finished") || !strings.Contains(text, "0 of 1 attempts succeeded") {
		t.Errorf("%s", page)
	}
}

// Counts that cannot be read are not shown as zero.
func TestUnknownFigures(t *testing.T) {
	shown := trafficOf(statistics.Counts{}, false, context.DeadlineExceeded)
	page, err := render("figures", head{Traffic: shown, Span: time.Hour, Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(page), "of 0 attempts") || !strings.Contains(string(page), "The statistics cannot be read") {
		t.Errorf("%s", page)
	}
}
