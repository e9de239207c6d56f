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

package plugin

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

func TestViewsHideCredentials(t *testing.T) {
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "crm"}}
	p.Spec.URL = "https://example.com/hooks?list=1&access_token=s3cret-query"
	p.Spec.Headers = []v1alpha1.Header{{Name: "X-Tenant", Value: ptr.To("acme")}, {Name: "COOKIE", Value: ptr.To("s3cret-cookie")}}
	p.Spec.Auth = &v1alpha1.Authentication{OAuth2: &v1alpha1.OAuth2ClientCredentials{TokenURL: "https://login.example.com/?key=s3cret-key", ClientID: "us"}}
	for name, show := range map[string]func(*env, *bytes.Buffer){
		"describe": func(_ *env, out *bytes.Buffer) { (&description{out: out}).postback(p) },
		"event": func(e *env, _ *bytes.Buffer) {
			(&eventOptions{env: e}).print(p, &v1alpha1.PostbackDelivery{}, waiting.Why{})
		},
		"set url": func(e *env, _ *bytes.Buffer) {
			e.sayURLs(p.Spec.URL, "https://example.com/new?list=1&access_token=s3cret-new")
		},
		"listen": func(e *env, _ *bytes.Buffer) {
			(&listenOptions{env: e}).printRequest(httptest.NewRequest(http.MethodPost, "/hooks?list=1&access_token=s3cret", http.NoBody), nil, nil, reply{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, _ := genericiooptions.NewTestIOStreams()
			show(&env{IOStreams: streams, clock: testingclock.NewFakeClock(time.Unix(0, 0))}, out)
			text := out.String()
			if strings.Contains(text, "s3cret") || !strings.Contains(text, "list=1&access_token=[hidden]") {
				t.Errorf("it shows\n%s", text)
			}
		})
	}
}
