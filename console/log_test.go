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
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

func TestLogSaysSinceWhenItIsKept(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	p := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Name: "crm", CreationTimestamp: metav1.NewTime(now.Add(-24 * time.Hour))},
		Spec:       v1alpha1.PostbackSpec{History: &v1alpha1.History{Delivered: ptr.To[int32](2)}},
	}
	row := func(ago time.Duration) *feed.Row {
		return &feed.Row{Place: deliveries.Place{Created: now.Add(-24 * time.Hour)}, Phase: v1alpha1.DeliveryDelivered, Recent: []feed.Sample{{Attempt: waiting.Attempt{Time: now.Add(-ago)}, Duration: time.Second}}}
	}
	if got := noLonger(p, []*feed.Row{row(time.Hour)}, now); got != "" {
		t.Errorf("of one: %q", got)
	}
	const want = "Postback crm keeps the newest 2 delivered events (spec.history.delivered): what was delivered before 2026-03-10T10:00:01Z is no longer kept."
	if got := noLonger(p, []*feed.Row{row(time.Hour), row(2 * time.Hour)}, now); got != want {
		t.Errorf("of two: %q", got)
	}
}
