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
	"strconv"

	"github.com/postback-dev/postback-operator/internal/metric"
)

// Kinds of reviews: values of the metric's label.
const (
	reviewOfTokens = "TokenReview"
	reviewOfRights = "SubjectAccessReview"
)

var reviewsTotal = metric.Dispatcher.Counters("postback_ingest_reviews_total",
	"Reviews of producers by the Kubernetes API server: of their tokens (TokenReview) and their rights (SubjectAccessReview), "+
		"by whether it answered. Cached answers do not count.",
	metric.Values("review", reviewOfTokens, reviewOfRights), metric.Values("answered", "true", "false"))

func countReview(kind string, err error) {
	reviewsTotal.WithLabelValues(kind, strconv.FormatBool(err == nil)).Inc()
}
