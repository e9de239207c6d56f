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

package waiting

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

const (
	// MaxRecent is the number of newest attempts from which an endpoint's health follows.
	MaxRecent = 20
	// someFailures is the least number of failures among MaxRecent attempts that causes a warning.
	someFailures = 5
)

// SomeAttemptsFail is the reason of a Health with failures among successes.
const SomeAttemptsFail = "SomeAttemptsFail"

// Attempt is the part of an attempt that shows the health of the endpoint.
type Attempt struct {
	Time    time.Time
	Outcome v1alpha1.Outcome
	// Status is the HTTP status code, or 0.
	Status int32
	// RetryAfter says that the endpoint asked for a pause.
	RetryAfter bool
}

// AttemptOf returns the part of an attempt that shows the health of the endpoint.
func AttemptOf(a *v1alpha1.Attempt) Attempt {
	return Attempt{Time: a.Time.Time, Outcome: a.Outcome, Status: ptr.Deref(a.StatusCode, 0), RetryAfter: a.RetryAfterTime != nil}
}

// Succeeded reports whether the endpoint accepted the event.
func (a Attempt) Succeeded() bool { return a.Outcome == v1alpha1.OutcomeSucceeded }

// Recent are the newest attempts of a Postback, at most 20, newest first.
type Recent []Attempt

// Add inserts an attempt in order of time. It ignores interrupted attempts, which say nothing about the endpoint.
func (r *Recent) Add(a Attempt) {
	if a.Outcome == v1alpha1.OutcomeInterrupted || len(*r) == MaxRecent && !a.Time.After((*r)[MaxRecent-1].Time) {
		return
	}
	at, _ := slices.BinarySearchFunc(*r, a, func(a, b Attempt) int { return b.Time.Compare(a.Time) })
	*r = slices.Insert(*r, at, a)
	*r = (*r)[:min(len(*r), MaxRecent)]
}

// Since drops the attempts before t.
func (r *Recent) Since(t time.Time) {
	*r = slices.DeleteFunc(*r, func(a Attempt) bool { return a.Time.Before(t) })
}

// Grade says how good or bad a fact is.
type Grade string

// Grades. Neutral facts are neither good nor bad.
const (
	Good    Grade = "good"
	Neutral Grade = "calm"
	Warning Grade = "warn"
	Bad     Grade = "bad"
)

// Health is the health of an endpoint. The zero value means that it is not known.
type Health struct {
	Grade Grade
	// Reason is a reason of the condition EndpointHealthy, an Outcome, or SomeAttemptsFail.
	Reason string
	// Sentence describes the health for users.
	Sentence string
}

// HealthOf returns the health of a Postback's endpoint. If the condition EndpointHealthy is False, it decides.
// Otherwise recent decides, which must not lack a success.
func HealthOf(p *v1alpha1.Postback, recent Recent) Health {
	condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.EndpointHealthyCondition)
	if condition != nil && condition.Status == metav1.ConditionFalse {
		return Health{Bad, condition.Reason, condition.Message}
	}
	worst, failures := recent.commonFailure()
	switch {
	case failures == MaxRecent:
		return Health{Bad, worst.cause(), fmt.Sprintf("None of the newest %d attempts succeeded; most recent: %s.", MaxRecent, recent[0].result())}
	case failures > 0 && failures == len(recent):
		return Health{Bad, worst.cause(), "No attempt on record succeeded; most recent: " + recent[0].result() + "."}
	case failures >= someFailures:
		return Health{Warning, SomeAttemptsFail, fmt.Sprintf("%d of the newest %d attempts failed; most common: %s.", failures, len(recent), worst.result())}
	case condition != nil && condition.Status == metav1.ConditionUnknown:
		return Health{Neutral, condition.Reason, condition.Message}
	case condition != nil:
		return Health{Good, condition.Reason, condition.Message}
	case len(recent) > 0:
		return Health{Good, v1alpha1.EndpointRespondingReason, "The endpoint accepts events."}
	}
	return Health{}
}

// Note returns one text of the health and of the reason why deliveries wait. If both say the same, it says it once.
func (h Health) Note(why Why) string {
	if why.Reason == RetryAfter && h.Reason == v1alpha1.ThrottledReason || why.Reason == Gone && h.Reason == string(v1alpha1.OutcomeGone) {
		return why.Sentence
	}
	return strings.TrimSpace(h.Sentence + " " + why.Sentence)
}

// commonFailure returns the newest failure with the most frequent cause, and the number of all failures.
func (r Recent) commonFailure() (worst Attempt, failures int) {
	counts, most := map[string]int{}, 0
	for _, a := range slices.Backward(r) {
		if a.Succeeded() {
			continue
		}
		failures++
		counts[a.cause()]++
		if n := counts[a.cause()]; n >= most {
			worst, most = a, n
		}
	}
	return worst, failures
}

func (a Attempt) cause() string { return delivery.Cause(a.Outcome, a.Status, a.RetryAfter) }

func (a Attempt) result() string { return delivery.Result(a.Outcome, a.Status) }
