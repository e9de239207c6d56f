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

package access

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// The kinds of questions.
const (
	reviewOfTokens = "TokenReview"
	reviewOfRights = "SubjectAccessReview"
)

var reviewsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "postback_ingest_reviews_total",
	Help: "Questions to the Kubernetes API server who a caller is (TokenReview) and what they may do (SubjectAccessReview), " +
		"by whether it answered. What is remembered is not asked.",
}, []string{"review", "answered"})

func init() {
	metrics.Registry.MustRegister(reviewsTotal)
	for _, kind := range []string{reviewOfTokens, reviewOfRights} {
		reviewsTotal.WithLabelValues(kind, "true")
		reviewsTotal.WithLabelValues(kind, "false")
	}
}

func countReview(kind string, err error) {
	answered := "true"
	if err != nil {
		answered = "false"
	}
	reviewsTotal.WithLabelValues(kind, answered).Inc()
}
