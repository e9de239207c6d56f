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

package lane

import (
	"fmt"
	"net/http"

	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

// Health is how an endpoint fares.
type Health struct {
	Healthy bool
	Reason  string
	Message string
}

// Report is called with each change of an endpoint's health. It must not block, and must not call Lanes.
type Report func(r *route.Route, h Health)

// failingAfter is the number of failures in a row, of whatever kind, after which an endpoint is not healthy.
const failingAfter = tripAfter

// trouble reports whether an attempt says that the endpoint cannot take events now, rather than that it does not want
// this one. Only that opens the circuit: an endpoint that rejects some events must go on getting the others.
func trouble(a *v1alpha1.Attempt) bool {
	switch a.Outcome {
	case v1alpha1.OutcomeRejected4xx:
		code := ptr.Deref(a.StatusCode, 0)
		return code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
	case v1alpha1.OutcomeSucceeded, v1alpha1.OutcomeRedirected, v1alpha1.OutcomeGone, v1alpha1.OutcomeUnexpectedStatus,
		v1alpha1.OutcomeInvalidRequest, v1alpha1.OutcomeInterrupted:
		return false
	default:
		return true
	}
}

// health returns the health of an endpoint, as far as it is known, after an attempt that ended with an outcome.
func (l *lane) health(last v1alpha1.Outcome) (Health, bool) {
	switch {
	case l.gone != 0:
		return Health{false, v1alpha1.EndpointGoneReason, fmt.Sprintf("The endpoint answered 410 (Gone): deliveries wait. "+
			"Change spec, or annotate a PostbackDelivery with %s, to try again.", v1alpha1.RedeliverAnnotation)}, true
	case !l.breaker.closed():
		return Health{false, v1alpha1.CircuitOpenReason, fmt.Sprintf("Attempts fail one after the other, at last with %s: "+
			"deliveries wait while one at a time probes the endpoint.", last)}, true
	case l.failures >= failingAfter:
		return Health{false, v1alpha1.EndpointFailingReason, fmt.Sprintf("Attempts fail one after the other, at last with %s: "+
			"see the PostbackDeliveries in phase Retrying.", last)}, true
	case last == v1alpha1.OutcomeSucceeded:
		return Health{true, v1alpha1.EndpointRespondingReason, "The endpoint takes events."}, true
	}
	return Health{}, false
}
