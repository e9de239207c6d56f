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
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestCookies(t *testing.T) {
	one, other, stranger, rotated := start(t, keys), start(t, keys), start(t, strings.Repeat("x", minKey)), start(t, strings.Repeat("y", minKey)+"\n"+keys)
	acme := partner(t, "cookie-acme")
	got := one.open(one.link(backend(t, acme), acme, "viewer"))
	if len(got.Cookies()) != 1 {
		t.Fatalf("a code is answered with %s: %s", got.Status, got.body)
	}
	c := got.Cookies()[0]
	if c.Name != "__Host-postback" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge < 3500 || c.MaxAge > 3600 || len(c.Value) > 3800 {
		t.Errorf("the cookie is %s", c)
	}
	cookie := c.Name + "=" + c.Value
	one.get("/", cookie, "cookie-acme.example.com")
	one.stop()
	// Any replica accepts the session, and also one with rotated keys.
	other.get("/", cookie, "cookie-acme.example.com")
	rotated.get("/", cookie, "cookie-acme.example.com")
	middle := len(cookie) / 2
	for name, wrong := range map[string]string{
		"changed": cookie[:middle] + string(cookie[middle]^1) + cookie[middle+1:], "cut": cookie[:middle], "empty": c.Name + "=", "none": "",
		"twice": cookie + "; " + cookie, "without the prefix": "postback=" + c.Value,
	} {
		t.Run(name, func(t *testing.T) {
			if got := other.ask(http.MethodGet, "/", "", "Cookie", wrong); got.StatusCode != http.StatusUnauthorized || strings.Contains(got.body, "crm") {
				t.Errorf("a cookie that is %s is answered with %s", name, got.Status)
			}
		})
	}
	if got := stranger.ask(http.MethodGet, "/", "", "Cookie", cookie); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a cookie of another key is answered with %s", got.Status)
	}
	other.clock.SetTime(other.clock.Now().Add(time.Hour))
	if got := other.ask(http.MethodGet, "/", "", "Cookie", cookie); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("an expired cookie is answered with %s", got.Status)
	}
}

func TestDeletedServiceAccountEndsSessions(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "revoked-acme")
	cookie := r.visitor(acme, "viewer")
	r.get("/", cookie, "revoked-acme.example.com")
	if err := api.Delete(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: ServiceAccount("viewer")}}); err != nil {
		t.Fatal(err)
	}
	// A visitor with an open live page sends no further requests.
	v := r.portal.door.visits
	held, err := v.enter(v.present()[0].session, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	gomega.NewWithT(t).Eventually(func() int {
		r.clock.SetTime(r.clock.Now().Add(time.Minute + time.Second))
		v.sweep(t.Context())
		return len(v.present())
	}).WithTimeout(patience).WithPolling(time.Second).Should(gomega.BeZero(), "the watches of a deleted ServiceAccount go on")
	if !r.clock.Now().Before(held.Until) || held.ctx.Err() == nil {
		t.Errorf("the page of a deleted ServiceAccount lasts until its token expires")
	}
	if got := r.ask(http.MethodGet, "/", "", "Cookie", cookie); got.StatusCode != http.StatusUnauthorized || strings.Contains(got.body, "example.com/hooks") {
		t.Errorf("its session is answered with %s", got.Status)
	}
}

func TestAnotherPartnersLinkDoesNotReplaceASession(t *testing.T) {
	r := start(t, keys)
	acme, beta := partner(t, "login-acme"), partner(t, "login-beta")
	cookie := r.visitor(acme, "editor")
	got := r.open(r.link(backend(t, beta), beta, "editor"), "Cookie", cookie)
	if got.StatusCode != http.StatusConflict || len(got.Cookies()) > 0 {
		t.Errorf("answered with %s: %s", got.Status, got.body)
	}
}
