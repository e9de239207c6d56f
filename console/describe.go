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
	"net/url"
	"strings"
	"unicode"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// label is a text with a colour: good, warn, bad, or calm.
type label struct {
	Kind, Text, Why string
}

// stateOf returns the label of spec.state.
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

// words splits a reason into words: "SecretNotFound" is "Secret not found".
func words(reason string) string {
	var b strings.Builder
	runes := []rune(reason)
	for i, r := range runes {
		upper, next := unicode.IsUpper(r), i+1 < len(runes) && unicode.IsUpper(runes[i+1])
		if i > 0 && (unicode.IsDigit(r) || upper && (!unicode.IsUpper(runes[i-1]) || !next && i+1 < len(runes))) {
			b.WriteByte(' ')
			// An abbreviation keeps its capitals.
			if !next {
				r = unicode.ToLower(r)
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// titleOf returns the display name of a Postback, or else its name.
func titleOf(p *v1alpha1.Postback) string {
	if p.Spec.DisplayName != "" {
		return p.Spec.DisplayName
	}
	return p.Name
}

// hostOf returns the host of the endpoint. It quotes no part of an invalid URL, which may hold a token.
func hostOf(p *v1alpha1.Postback) string {
	if u, err := url.Parse(p.Spec.URL); err == nil && u.Host != "" {
		return u.Host
	}
	return "no valid URL"
}

// phaseOf returns the label of a delivery's phase.
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
