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

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestPodsAreRestricted(t *testing.T) {
	deployment := &appsv1.Deployment{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: "postback-portal", Name: "postback-portal"}, deployment); err != nil {
		t.Fatal(err)
	}
	if *deployment.Spec.Replicas != 2 {
		t.Errorf("there are %d replicas", *deployment.Spec.Replicas)
	}
	// The namespace enforces the Pod security standard "restricted".
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "postback-portal", Name: "one"}, Spec: deployment.Spec.Template.Spec}
	if err := api.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Error(err)
	}
	pod.Spec.Containers[0].SecurityContext = nil
	if err := api.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("a Pod without restrictions: %v", err)
	}
}

func TestRequestsOfOthers(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "others-acme")
	cookie := r.visitor(acme, "editor")
	r.get("/", cookie, "others-acme.example.com")
	const own = "https://" + host
	for _, test := range []struct {
		name, method, path string
		headers            []string
		status             int
	}{
		{"own page", "GET", "/", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"no cookie", "GET", "/", []string{"Cookie", ""}, 401},
		{"another name", "GET", "/", []string{"Host", "evil.example"}, 421},
		{"link elsewhere", "GET", "/", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"page of a sibling", "GET", "/", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"form elsewhere", "POST", "/new", []string{"Origin", "https://evil.example"}, 403},
		{"form over HTTP", "POST", "/new", []string{"Origin", "http://" + host}, 403},
		{"form of a sandbox", "POST", "/new", []string{"Origin", "null"}, 403},
		{"form without origin", "POST", "/new", nil, 403},
		{"sign-in elsewhere", "POST", signInPath, []string{"Origin", "https://evil.example"}, 403},
		{"sign-out elsewhere", "POST", signOutPath, []string{"Origin", "https://evil.example"}, 403},
		{"page of sign-in from elsewhere", "GET", signInPath, []string{"Sec-Fetch-Site", "cross-site"}, 200},
		{"redirect", "GET", "//evil.example/", nil, 307},
		{"backslash", "GET", "/%5Cevil.example", nil, 404},
		{"own form", "POST", "/p/" + acme + "/none/do/state", []string{"Origin", own}, 404},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := r.ask(test.method, test.path, "", append([]string{"Cookie", cookie}, test.headers...)...)
			if got.StatusCode != test.status || strings.HasPrefix(got.Header.Get("Location"), "//") || strings.Contains(got.Header.Get("Location"), ":") {
				t.Errorf("answered with %s, want %d; Location %q", got.Status, test.status, got.Header.Get("Location"))
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Strict-Transport-Security": hsts} {
				if got.Header.Get(name) != want {
					t.Errorf("%s is %q", name, got.Header.Get(name))
				}
			}
			if policy := got.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'self'") || strings.Contains(policy, "unsafe") {
				t.Errorf("the policy is %q", policy)
			}
		})
	}
	out := r.ask(http.MethodPost, signOutPath, "", "Cookie", cookie, "Origin", own)
	if out.StatusCode != http.StatusOK || len(out.Cookies()) != 1 || out.Cookies()[0].MaxAge >= 0 || len(r.portal.door.visits.present()) > 0 {
		t.Errorf("a sign-out is answered with %s and %v", out.Status, out.Cookies())
	}
}

func TestLogOfAStreamIsSaidToBeMissing(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "stream-acme")
	// config/rbac grants this right to every account.
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-f", "../config/rbac/users/ingest-ca.yaml"); err != nil {
		t.Fatal(err, stderr)
	}
	if err := api.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: r.portal.options.Installation, Name: v1alpha1.IntakeLeaseName, Annotations: map[string]string{v1alpha1.IntakeAnnotation: v1alpha1.IntakeJetStream},
	}}); err != nil {
		t.Fatal(err)
	}
	r.get("/", r.visitor(acme, "viewer"), "the portal shows PostbackDeliveries only")
}

func TestNoSecretIsLogged(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "quiet-acme")
	token := backend(t, acme)
	code := r.link(token, acme, "viewer")
	got := r.open(code)
	if len(got.Cookies()) != 1 {
		t.Fatal(got.body)
	}
	cookie := got.Cookies()[0].Value
	var s session
	if !r.portal.door.sealer.open(purposeSession, "", cookie, &s) || s.Token == "" {
		t.Fatal("the session has no token")
	}
	stored := &corev1.ConfigMapList{}
	if err := api.List(t.Context(), stored, client.InNamespace("postback-portal")); err != nil {
		t.Fatal(err)
	}
	text := r.log.String() + fmt.Sprint(stored.Items)
	if !strings.Contains(text, "Signed in") || !strings.Contains(text, "Link made") {
		t.Errorf("the log is %s", text)
	}
	for what, secret := range map[string]string{"code": code, "cookie": cookie, "token of the visitor": s.Token, "token of the backend": token, "key": keys} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s is in the log or in a ConfigMap", what)
		}
	}
}
