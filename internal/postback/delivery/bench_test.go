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

package delivery

import (
	"encoding/json"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// BenchmarkRecord applies an attempt to a delivery and encodes it, as each write of the status does.
func BenchmarkRecord(b *testing.B) {
	target := &route.Route{Generation: 1}
	for _, outcome := range []v1alpha1.Outcome{v1alpha1.OutcomeSucceeded, v1alpha1.OutcomeTimeout} {
		b.Run(string(outcome), func(b *testing.B) {
			for b.Loop() {
				d := &v1alpha1.PostbackDelivery{}
				Apply(d, target, v1alpha1.Attempt{Time: metav1.NewMicroTime(time.Now()), Outcome: outcome}, Request{})
				if _, err := json.Marshal(d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
