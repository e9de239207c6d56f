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

package portal

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestFormExplainsTheRules: the form shows the rules of the platform, and a refusal of the API server at its field.
func TestFormExplainsTheRules(t *testing.T) {
	acme := partner(t, "form-acme")
	rules := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "postback-system", Name: rulesName}}
	patch := fmt.Sprintf(`{"data": {"%[1]s.hosts": ".acme.example", "%[1]s.formats": "JSON", "form-beta.hosts": "secret.beta.example", "limits.perSecond": "50"}}`, acme)
	if err := api.Patch(t.Context(), rules, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
	r := start(t, keys)
	cookie := r.visitor(acme, "editor")
	r.get("/new", cookie, "Hosts that your platform allows: .acme.example.")
	form := r.ask(http.MethodGet, "/new", "", "Cookie", cookie).body
	if strings.Contains(form, "Slack") || strings.Contains(form, "beta") || !strings.Contains(form, "At most 50, by your platform.") || !strings.Contains(form, "Only your platform sets values from Secrets.") {
		t.Errorf("the form is %s", form)
	}
	for field, test := range map[string]struct{ value, why string }{
		"url":            {"url=https://evil.example/", "the host evil.example is not among those that this namespace may use"},
		"headers":        {"url=https://crm.acme.example/&headers=X-Token: secret foreign key k", "you may not send the Secret foreign"},
		"secretRef.name": {"url=https://crm.acme.example/&secretRef.name=foreign", "you may not sign with the PostbackSecret foreign"},
	} {
		t.Run(field, func(t *testing.T) {
			// The API server applies a new rule a moment later.
			gomega.NewWithT(t).Eventually(func() string {
				return r.ask(http.MethodPost, "/new", "name=crm2&preview=yes&triggers=*&limits.perSecond=5&"+test.value, "Cookie", cookie, "Origin", "https://"+host).body
			}).WithTimeout(patience).WithPolling(200 * time.Millisecond).Should(gomega.ContainSubstring(
				`<span id="f-` + field + `" class="error" role="alert">` + test.why))
		})
	}
}
