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

package format

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// BenchmarkBody renders the body of an event with 1.5 KB of data.
func BenchmarkBody(b *testing.B) {
	e := &event.Event{
		ID: "evt_1", Type: "lead.created", CreatedAt: time.Now(),
		Data: fmt.Appendf(nil, `{"lead":{"name":%q}}`, strings.Repeat("x", 1500)),
	}
	for _, f := range []v1alpha1.PayloadFormat{v1alpha1.FormatJSON, v1alpha1.FormatCloudEvents, v1alpha1.FormatSlack} {
		b.Run(string(f), func(b *testing.B) {
			for b.Loop() {
				if _, err := Body(f, "tenant", e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
