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
	"reflect"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestRulesOfANamespace(t *testing.T) {
	all := map[string]string{
		"hosts": "*", "acme.hosts": ".acme.example", "beta.hosts": ".beta.example", "limits.perSecond": "10", "acme.unknown": "x", "secrets": "shared", "acme.limits.perSecond": "5",
	}
	for namespace, want := range map[string]Rules{
		"acme":  {"hosts": ".acme.example", "limits.perSecond": "5", "secrets": "shared"},
		"gamma": {"hosts": "*", "limits.perSecond": "10", "secrets": "shared"},
	} {
		t.Run(namespace, func(t *testing.T) {
			if got := RulesOf(all, namespace); !reflect.DeepEqual(got, want) {
				t.Errorf("the rules are %v, want %v", got, want)
			}
		})
	}
}

func TestFieldsShowTheRules(t *testing.T) {
	for name, test := range map[string]struct {
		rules Rules
		want  []string
		no    string
	}{
		"no platform":          {nil, []string{"secret NAME key KEY", "Slack"}, "platform"},
		"a platform":           {Rules{}, []string{"Only your platform sets values from Secrets."}, "secret NAME key KEY"},
		"Secrets":              {Rules{"secrets": "token tls-*"}, []string{"Secrets that your platform allows: token, tls-*."}, "Only your platform"},
		"hosts":                {Rules{"hosts": "a.example .b.example"}, []string{"Hosts that your platform allows: a.example, .b.example."}, "sets this field"},
		"formats":              {Rules{"formats": "JSON"}, []string{`value="JSON"`}, "Slack"},
		"numbers":              {Rules{"limits.perSecond": "7", "timeout": "5s"}, []string{"At most 7, by your platform.", "At most 5s, by your platform."}, "sets this field"},
		"a field of platforms": {Rules{"platformFields": "filter"}, []string{"Your platform sets this field.", "readonly"}, "CEL over the event"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dialog{P: &v1alpha1.Postback{}, Form: url.Values{}, rules: test.rules}
			d.fields(nil)
			if page := rendered(t, "dialog-edit", d, test.want...); strings.Contains(page, test.no) {
				t.Errorf("the form has %q: %s", test.no, page)
			}
		})
	}
}

func TestRefusalsOfPoliciesStandAtTheirField(t *testing.T) {
	const policy = "ValidatingAdmissionPolicy 'postback-limits' with binding 'postback-limits' denied request: "
	for name, test := range map[string]struct{ message, field, want, above string }{
		"a field of the form": {policy + "spec.limits.perSecond: must be set to at most 10: it is 11", "limits.perSecond", "must be set to at most 10: it is 11", ""},
		"another field":       {policy + "spec.auth: only the platform may change it", "", "", "spec.auth: only the platform may change it"},
		"no field":            {policy + "no params found", "", "", policy + "no params found"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dialog{P: &v1alpha1.Postback{}, Form: url.Values{}}
			d.fields(nil)
			d.fail(&apierrors.StatusError{ErrStatus: metav1.Status{Message: "forbidden: " + test.message, Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Message: test.message}}}}})
			if d.Errors[test.field] != test.want || d.Error != test.above {
				t.Errorf("the fields have %v, the form %q", d.Errors, d.Error)
			}
		})
	}
}
