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
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rules are a platform's rules for the Postbacks of one namespace. The API server enforces them, and the form
// explains them. Without a platform they are nil.
type Rules map[string]string

// RulesOf returns the rules for a namespace: its own rules, and the general ones that they do not replace.
func RulesOf(all map[string]string, namespace string) Rules {
	rules := Rules{}
	for name, value := range all {
		own, isOwn := strings.CutPrefix(name, namespace+".")
		_, replaced := all[namespace+"."+name]
		switch {
		case isOwn && ruleNames[own]:
			rules[own] = value
		case ruleNames[name] && !replaced:
			rules[name] = value
		}
	}
	return rules
}

// ruleNames are the rules in config/portal/policies. A rule with the path of a field as its name holds the field's
// highest value.
var ruleNames = map[string]bool{
	"secrets": true, "hosts": true, "deniedHosts": true, "schemes": true, "formats": true, "platformFields": true,
	"limits.maxConcurrent": true, "limits.perSecond": true, "limits.maxPending": true, "retry.maxAttempts": true, "retry.giveUpAfter": true,
	"history.delivered": true, "history.failed": true, "history.ttl": true, "timeout": true,
}

// apply returns a field of the form with the values that the rules permit, and with hints that explain them.
func (r Rules) apply(f field) field {
	if r == nil {
		return f
	}
	hint := func(format string, values ...any) {
		f.Hint = strings.TrimSpace(f.Hint + " " + fmt.Sprintf(format, values...))
	}
	top, _, _ := strings.Cut(f.Path, ".")
	if slices.Contains(strings.Fields(r["platformFields"]), top) {
		f.Fixed, f.Hint = true, "Your platform sets this field."
		return f
	}
	secrets := strings.Join(strings.Fields(r["secrets"]), ", ")
	switch {
	case f.Path == "url" && r["hosts"] != "" && !slices.Contains(strings.Fields(r["hosts"]), "*"):
		hint("Hosts that your platform allows: %s.", strings.Join(strings.Fields(r["hosts"]), ", "))
	case f.Path == "format" && r["formats"] != "":
		allowed := strings.Fields(r["formats"])
		f.Options = slices.DeleteFunc(slices.Clone(f.Options), func(c choice) bool { return !slices.Contains(allowed, c.Value) })
	case f.Path == "headers" && secrets == "":
		f.Placeholder, f.Hint = "X-Tenant: acme", "One per line. Only your platform sets values from Secrets. A value that stays [hidden] is unchanged."
	case f.Path == "headers":
		hint("Secrets that your platform allows: %s.", secrets)
	case f.Path == "secretRef.name" && secrets == "":
		hint("Only your platform sets another one.")
	case f.Path == "secretRef.name":
		hint("Names that your platform allows: %s.", secrets)
	case r[f.Path] != "":
		hint("At most %s, by your platform.", r[f.Path])
	}
	return f
}

// refusedField is the end of an answer of an admission policy, which begins with the path of a field.
var refusedField = regexp.MustCompile(`denied request: ((?:spec|metadata)\.[A-Za-z.]+): (.+)$`)

// causeOf returns the path of the field of a cause, or "", and its message. Policies name the field in the message.
func causeOf(cause metav1.StatusCause) (path, message string) {
	if cause.Field != "" {
		return cause.Field, strings.TrimPrefix(cause.Message+" ", "Invalid value: ")
	}
	if found := refusedField.FindStringSubmatch(cause.Message); found != nil {
		return found[1], found[2]
	}
	return "", cause.Message
}
