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

package route

import (
	"strings"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// matches reports whether a trigger selects an event type. "sale.*" selects "sale.created" and "sale.refund.created",
// not "sale"; "*" selects every type.
func matches(trigger v1alpha1.Trigger, eventType string) bool {
	pattern := string(trigger)
	if pattern == "*" || pattern == eventType {
		return true
	}
	prefix, ok := strings.CutSuffix(pattern, "*")
	return ok && strings.HasSuffix(prefix, ".") && len(eventType) > len(prefix) && strings.HasPrefix(eventType, prefix)
}

// Subscribed reports whether any of the triggers selects an event type.
func Subscribed(triggers []v1alpha1.Trigger, eventType string) bool {
	for _, trigger := range triggers {
		if matches(trigger, eventType) {
			return true
		}
	}
	return false
}
