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

package httpapi

import (
	"strconv"

	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/metric"
)

var reviewsTotal = metric.Dispatcher.Counters("postback_ingest_reviews_total",
	"Reviews of producers by the Kubernetes API server: of their tokens (TokenReview) and their rights (SubjectAccessReview), "+
		"by whether it answered. Cached answers do not count.",
	metric.Values("review", access.ReviewOfTokens, access.ReviewOfRights), metric.Values("answered", "true", "false"))

// CountReview counts a review in the metrics.
func CountReview(kind string, answered bool) {
	reviewsTotal.WithLabelValues(kind, strconv.FormatBool(answered)).Inc()
}
