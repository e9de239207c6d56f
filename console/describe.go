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
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
)

// label is a word in a colour: good, warn, bad, or calm.
type label struct {
	Kind, Text, Why string
}

// stateOf says what the spec asks for.
func stateOf(p *v1alpha1.Postback) label {
	switch state := p.Spec.GetState(); state {
	case v1alpha1.PostbackPaused:
		return label{"warn", "Paused", "Events are stored and wait."}
	case v1alpha1.PostbackDisabled:
		return label{"calm", "Disabled", "New events are skipped."}
	default:
		return label{"good", string(state), "Events are delivered."}
	}
}

// healthOf says how a Postback fares, the worst first. The operator sets EndpointHealthy only once there was trouble, so until
// then the attempts of its log tell.
func healthOf(p *v1alpha1.Postback, rows []*feed.Row) label {
	conditions := p.Status.Conditions
	healthy := meta.FindStatusCondition(conditions, v1alpha1.EndpointHealthyCondition)
	ready := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition)
	switch {
	case !p.DeletionTimestamp.IsZero():
		return label{"warn", "Being deleted", "It goes as soon as its route is gone."}
	case meta.IsStatusConditionTrue(conditions, v1alpha1.StalledCondition):
		return label{"bad", words(reason(ready)), message(ready)}
	case healthy != nil && healthy.Status == metav1.ConditionFalse:
		return label{"bad", endpointWords[healthy.Reason], healthy.Message}
	case ready == nil || p.Status.ObservedGeneration < p.Generation:
		return label{"calm", "Starting", "The operator has not said anything about it yet."}
	case ready.Status != metav1.ConditionTrue:
		return label{"warn", words(ready.Reason), ready.Message}
	}
	newest, succeeded := feed.Newest(rows)
	switch {
	case newest.Outcome != "" && !newest.Succeeded():
		return failing(newest, succeeded)
	case healthy != nil && healthy.Status == metav1.ConditionTrue:
		return label{"good", "Healthy", healthy.Message}
	}
	return label{"good", "Ready", ready.Message}
}

// failing says that the newest attempt failed; without any that succeeded that is worse.
func failing(newest feed.Sample, succeeded bool) label {
	why := "The newest attempt failed: " + answerOf(newest) + "."
	if succeeded {
		return label{"warn", "Failing", why}
	}
	return label{"bad", "Failing", why + " None of those on record succeeded."}
}

// answerOf returns what came of an attempt: what the endpoint answered, or else why it did not.
func answerOf(s feed.Sample) string {
	if s.Status == 0 {
		return words(string(s.Outcome))
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", s.Status, http.StatusText(int(s.Status))))
}

var endpointWords = map[string]string{
	v1alpha1.CircuitOpenReason:     "Endpoint down",
	v1alpha1.EndpointGoneReason:    "Endpoint gone",
	v1alpha1.EndpointFailingReason: "Endpoint failing",
}

func reason(c *metav1.Condition) string {
	if c == nil {
		return "Stalled"
	}
	return c.Reason
}

func message(c *metav1.Condition) string {
	if c == nil {
		return ""
	}
	return c.Message
}

// words parts a reason into words: "SecretNotFound" is "Secret not found".
func words(reason string) string {
	var b strings.Builder
	runes := []rune(reason)
	for i, r := range runes {
		upper, next := unicode.IsUpper(r), i+1 < len(runes) && unicode.IsUpper(runes[i+1])
		if i > 0 && (unicode.IsDigit(r) || upper && (!unicode.IsUpper(runes[i-1]) || !next && i+1 < len(runes))) {
			b.WriteByte(' ')
			// An abbreviation stays as it is.
			if !next {
				r = unicode.ToLower(r)
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// titleOf returns what people call a Postback.
func titleOf(p *v1alpha1.Postback) string {
	if p.Spec.DisplayName != "" {
		return p.Spec.DisplayName
	}
	return p.Name
}

// hostOf returns the host of the endpoint, of the URL in force if there is one.
func hostOf(p *v1alpha1.Postback) string {
	if u, err := url.Parse(p.Spec.URL); err == nil && u.Host != "" {
		return u.Host
	}
	return p.Spec.URL
}

// phaseOf returns how a delivery fares.
func phaseOf(phase v1alpha1.DeliveryPhase) label {
	switch phase {
	case v1alpha1.DeliveryDelivered:
		return label{"good", "Delivered", "The endpoint has answered with 2xx."}
	case v1alpha1.DeliveryRetrying:
		return label{"warn", "Retrying", "The newest attempt failed. It will be tried again."}
	case v1alpha1.DeliveryFailed:
		return label{"bad", "Failed", "It will not be tried again unless somebody asks."}
	default:
		return label{"calm", "Pending", "No attempt is on record yet."}
	}
}
