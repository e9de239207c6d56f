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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// withCredentials returns a Postback with credentials as plain values.
func withCredentials() *v1alpha1.Postback {
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "crm", UID: "1"}}
	p.Spec.URL = "https://example.com/hooks?list=1&access_token=s3cret-query"
	p.Spec.Headers = []v1alpha1.Header{{Name: "X-Tenant", Value: ptr.To("acme")}, {Name: "x-api-key", Value: ptr.To("secret s3cret key mine")}}
	return p
}

func TestPagesHideCredentials(t *testing.T) {
	p := withCredentials()
	sheet := &sheet{Path: "/p/acme/crm"}
	sheet.fill(p, &v1alpha1.PostbackDelivery{})
	edit := &dialog{P: p, Path: "/p/acme/crm/do/edit", Form: url.Values{}}
	prepareEdit(nil, edit)
	for name, page := range map[string]string{
		"the sheet of an event":     rendered(t, "sheet", sheet, "access_token=[hidden]", "x-api-key", "hidden: ", "acme"),
		"the head of a page":        rendered(t, "head", head{P: p}, "list=1&amp;access_token=[hidden]"),
		"the form":                  rendered(t, "dialog-edit", edit, "access_token=[hidden]", "x-api-key: [hidden]", "X-Tenant: acme"),
		"the end of adding":         rendered(t, "dialog-added", &dialog{P: p, Show: true, Secret: "whsec_abc"}, "access_token=[hidden]"),
		"the host of an impossible": hostOf(&v1alpha1.Postback{Spec: v1alpha1.PostbackSpec{URL: "https:/?token=s3cret"}}),
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(page, "s3cret") {
				t.Errorf("%s shows a credential:\n%s", name, page)
			}
		})
	}
	if !found(p, label{}, "list=1") || found(p, label{}, "s3cret") {
		t.Error("the search does not look through the URL as it is shown")
	}
}

func TestCopyOfAURLIsWhole(t *testing.T) {
	p := withCredentials()
	if head := rendered(t, "head", head{P: p}); strings.Contains(head, "data-copy=") {
		t.Error("a URL is copied with a hidden part")
	}
	p.Spec.URL = "https://example.com/hooks"
	rendered(t, "head", head{P: p}, `data-copy="https://example.com/hooks"`)
}

func TestFormKeepsHiddenValues(t *testing.T) {
	value := func(name, text string) any { return map[string]any{"name": name, "value": text} }
	for name, test := range map[string]struct {
		form url.Values
		want map[string]any
		// wrong is the field with an error.
		wrong string
	}{
		"untouched":         {url.Values{}, map[string]any{}, ""},
		"another header":    {url.Values{"headers": {"X-API-Key: [hidden]"}}, map[string]any{"headers": []any{value("X-API-Key", "secret s3cret key mine")}}, ""},
		"a new value":       {url.Values{"headers": {"x-api-key: new"}}, map[string]any{"headers": []any{value("x-api-key", "new")}}, ""},
		"a name without":    {url.Values{"headers": {"X-Token: [hidden]"}}, nil, "headers"},
		"a new URL":         {url.Values{"url": {"https://example.com/?access_token=new"}}, map[string]any{"url": "https://example.com/?access_token=new"}, ""},
		"a URL half hidden": {url.Values{"url": {"https://example.org/?access_token=[hidden]"}}, nil, "url"},
	} {
		t.Run(name, func(t *testing.T) {
			p := withCredentials()
			d := &dialog{P: p, Form: test.form}
			before := valuesOf(&p.Spec)
			d.fields(before)
			patch, err := d.changes(before)
			if !reflect.DeepEqual(patch, test.want) || (err != nil) != (test.wrong != "") || test.wrong != "" && !strings.Contains(d.Errors[test.wrong], "[hidden]") {
				t.Errorf("it saves %v (%v: %v)", patch, err, d.Errors)
			}
		})
	}
}
