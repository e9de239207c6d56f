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
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/portallink"
)

func TestLinksAreForThoseWithTheRight(t *testing.T) {
	r := start(t, keys)
	acme, beta := partner(t, "links-acme"), partner(t, "links-beta")
	all, viewers := backend(t, acme), backend(t, acme, "viewer")
	const good = `{"role": "viewer"}`
	for _, test := range []struct {
		name, namespace, token, body string
		status                       int
		detail                       string
	}{
		{"with the right", acme, all, good, http.StatusCreated, ""},
		{"with the right for this role", acme, viewers, good, http.StatusCreated, ""},
		{"with the right for another role", acme, viewers, `{"role": "editor"}`, http.StatusForbidden, `postbackportallinks.postback.dev "editor"`},
		{"for another namespace", beta, all, good, http.StatusForbidden, "in namespace links-beta"},
		{"without a token", acme, "", good, http.StatusUnauthorized, "bearer token"},
		{"with an invented token", acme, "a.b.c", good, http.StatusUnauthorized, "does not accept the token"},
		{"of an unknown role", acme, all, `{"role": "admin"}`, http.StatusUnprocessableEntity, "viewer, editor, key-reader"},
		{"for too long", acme, all, `{"role": "viewer", "ttl": "13h"}`, http.StatusUnprocessableEntity, "from 10m to 12h"},
		{"for too short", acme, all, `{"role": "viewer", "ttl": "1m"}`, http.StatusUnprocessableEntity, "from 10m to 12h"},
		{"with an unknown field", acme, all, `{"role": "viewer", "user": "root"}`, http.StatusBadRequest, "unknown field"},
		{"with a path", "x/../kube-system", all, good, http.StatusNotFound, "NAMESPACE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := r.ask(http.MethodPost, portallink.Path(test.namespace), test.body, "Authorization", "Bearer "+test.token)
			if got.StatusCode != test.status || !strings.Contains(strings.ReplaceAll(got.body, `\"`, `"`), test.detail) {
				t.Errorf("answered with %s: %s", got.Status, got.body)
			}
		})
	}
	t.Run("without a ServiceAccount", func(t *testing.T) {
		if err := api.Delete(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: ServiceAccount("viewer")}}); err != nil {
			t.Fatal(err)
		}
		got := r.ask(http.MethodPost, portallink.Path(acme), good, "Authorization", "Bearer "+all)
		if got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.body, "no ServiceAccount postback-portal-viewer") {
			t.Errorf("answered with %s: %s", got.Status, got.body)
		}
	})
}

func TestCodeWorksOnce(t *testing.T) {
	one, other := start(t, keys), start(t, keys)
	acme := partner(t, "once-acme")
	token := backend(t, acme)
	code := one.link(token, acme, "viewer")
	var entered atomic.Int32
	var asking sync.WaitGroup
	for i := range 10 {
		asking.Go(func() {
			if got := []*replica{one, other}[i%2].open(code); got.StatusCode == http.StatusNoContent {
				entered.Add(1)
			}
		})
	}
	asking.Wait()
	if n := entered.Load(); n != 1 {
		t.Errorf("a code that ten used at once let %d in", n)
	}
	for _, r := range []*replica{one, other} {
		if got := r.open(code); got.StatusCode != http.StatusUnauthorized || len(got.Cookies()) > 0 || !strings.Contains(got.body, "used already") {
			t.Errorf("a code that was used is answered with %s: %s", got.Status, got.body)
		}
	}
	late := one.link(token, acme, "viewer")
	one.clock.SetTime(one.clock.Now().Add(linkLife))
	if got := one.open(late); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a code that is too old is answered with %s: %s", got.Status, got.body)
	}
	// A user who may write ConfigMaps, but has no key, cannot make a link.
	forged := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "postback-portal", Name: name("forged")}, Data: map[string]string{
		linkKey: `{"namespace": "` + acme + `", "role": "editor"}`,
	}}
	if err := api.Create(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	if got := one.open("forged"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a forged code is answered with %s: %s", got.Status, got.body)
	}
}

func TestLinksThatNobodyOpensGo(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "sweep-acme")
	code := r.link(backend(t, acme), acme, "viewer")
	stored := client.ObjectKey{Namespace: "postback-portal", Name: name(code)}
	if err := r.portal.door.links.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := api.Get(t.Context(), stored, &corev1.ConfigMap{}); err != nil {
		t.Errorf("a link that is young is gone: %v", err)
	}
	r.clock.SetTime(r.clock.Now().Add(linkLife + time.Minute))
	if err := r.portal.door.links.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := api.Get(t.Context(), stored, &corev1.ConfigMap{}); !apierrors.IsNotFound(err) {
		t.Errorf("a link that is old is there: %v", err)
	}
}

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

func TestForeignNamespaces(t *testing.T) {
	r := start(t, keys)
	acme, beta := partner(t, "bounds-acme"), partner(t, "bounds-beta")
	cookie := r.visitor(acme, "editor")
	r.get("/", cookie, "bounds-acme.example.com")
	path := "/p/" + beta + "/crm"
	const form = "state=Disabled&name=crm&url=https://evil.example.com&triggers=*&namespace=bounds-beta&delivery=x"
	for _, route := range []string{"/", "/new", path, path + "/d/x", path + "/d/x/body", path + "/d/x/curl"} {
		t.Run(route, func(t *testing.T) {
			if got := r.ask(http.MethodGet, route, "", "Cookie", cookie); strings.Contains(got.body, "bounds-beta.example.com") {
				t.Errorf("GET %s shows what is not theirs", route)
			}
		})
	}
	routes := []string{"/new"}
	for _, action := range []string{"test", "state", "again", "edit", "delete", "rotate", "secret", "yaml", "redeliver"} {
		routes = append(routes, path+"/do/"+action)
	}
	for _, route := range routes {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			got := r.ask(method, route, form, "Cookie", cookie, "Origin", "https://"+host)
			if strings.Contains(got.body, "bounds-beta.example.com") || route != "/new" && got.StatusCode < 400 {
				t.Errorf("%s %s is answered with %s", method, route, got.Status)
			}
		}
	}
	all := &v1alpha1.PostbackList{}
	if err := api.List(t.Context(), all, client.InNamespace(beta)); err != nil {
		t.Fatal(err)
	}
	if len(all.Items) != 1 || all.Items[0].Spec.URL != "https://bounds-beta.example.com/hooks" || all.Items[0].Generation != 1 || len(all.Items[0].Annotations) > 0 {
		t.Errorf("the other partner has %+v", all.Items)
	}
	// The pages use one namespace, and the token has no rights in another.
	for visit := range r.portal.door.visits.open {
		visitor := *r.portal.door.visits.config
		visitor.BearerToken = r.portal.door.visits.open[visit].Token
		clients, err := kubernetes.NewForConfig(&visitor)
		if err != nil {
			t.Fatal(err)
		}
		review, err := clients.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Group: "postback.dev", Resource: "postbacks", Namespace: beta}},
		}, metav1.CreateOptions{})
		if err != nil || review.Status.Allowed {
			t.Errorf("the token reads the namespace of another partner (%v)", err)
		}
	}
}

func TestRolesOfVisitors(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "roles-acme")
	path := "/p/" + acme + "/crm"
	viewer := r.visitor(acme, "viewer")
	r.get("/", viewer, "roles-acme.example.com")
	for _, form := range []string{"/do/state", "/do/edit", "/do/test", "/do/delete"} {
		t.Run(form, func(t *testing.T) {
			got := r.ask(http.MethodPost, path+form, "state=Disabled", "Cookie", viewer, "Origin", "https://"+host)
			if got.StatusCode != http.StatusForbidden || !strings.Contains(got.body, "it requires the right to") {
				t.Errorf("a viewer gets %s with %s", form, got.Status)
			}
		})
	}
	if got := r.ask(http.MethodGet, "/new", "", "Cookie", viewer); !strings.Contains(got.body, "You may not add Postbacks: it requires the right to create postbacks") {
		t.Error("a viewer is not told why there is nothing to add")
	}
	editor := r.open(r.link(backend(t, acme, "editor"), acme, "editor")).Cookies()[0]
	r.get("/", editor.Name+"="+editor.Value, "roles-acme.example.com")
	got := r.ask(http.MethodPost, path+"/do/state", "state=Paused", "Cookie", editor.Name+"="+editor.Value, "Origin", "https://"+host)
	p := &v1alpha1.Postback{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: acme, Name: "crm"}, p); err != nil || p.Spec.State != v1alpha1.PostbackPaused {
		t.Errorf("an editor paused, answered with %s, and the state is %q (%v): %s", got.Status, p.Spec.State, err, got.body)
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

func TestPortalItselfMayDoNothingElse(t *testing.T) {
	clients, err := kubernetes.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []authorizationv1.ResourceAttributes{
		{Verb: "list", Group: "postback.dev", Resource: "postbacks"},
		{Verb: "list", Group: "postback.dev", Resource: "postbackdeliveries"},
		{Verb: "create", Group: "postback.dev", Resource: "postbacks", Namespace: "default"},
		{Verb: "impersonate", Resource: "users"},
		{Verb: "get", Resource: "secrets", Namespace: "postback-portal"},
		{Verb: "list", Resource: "secrets"},
		{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "kube-system", Name: "namespace-controller"},
		{Verb: "create", Resource: "serviceaccounts", Namespace: "default"},
		{Verb: "create", Resource: "pods", Namespace: "postback-portal"},
		{Verb: "create", Resource: "configmaps", Namespace: "postback-system"},
		{Verb: "get", Resource: "configmaps", Namespace: "kube-system"},
		{Verb: "update", Resource: "configmaps", Namespace: "postback-portal"},
	} {
		t.Run(a.Verb+" "+a.Resource+" in "+a.Namespace, func(t *testing.T) {
			review, err := clients.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(),
				&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if review.Status.Allowed {
				t.Errorf("it may %s %s/%s %s in %q", a.Verb, a.Resource, a.Subresource, a.Name, a.Namespace)
			}
		})
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

func TestAnotherPartnersLinkDoesNotReplaceASession(t *testing.T) {
	r := start(t, keys)
	acme, beta := partner(t, "login-acme"), partner(t, "login-beta")
	cookie := r.visitor(acme, "editor")
	got := r.open(r.link(backend(t, beta), beta, "editor"), "Cookie", cookie)
	if got.StatusCode != http.StatusConflict || len(got.Cookies()) > 0 {
		t.Errorf("answered with %s: %s", got.Status, got.body)
	}
}

func TestFloods(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "flood-acme")
	cookie := r.visitor(acme, "viewer")
	refusedAfter := func(most int, ask func() answered) {
		t.Helper()
		for range most + 1 {
			if got := ask(); got.StatusCode == http.StatusTooManyRequests && got.Header.Get("Retry-After") != "" {
				return
			}
		}
		t.Errorf("%d requests are within the rate", most+1)
	}
	refusedAfter(addressBurst, func() answered { return r.open("x") })
	refusedAfter(sessionBurst, func() answered { return r.ask(http.MethodGet, "/none", "", "Cookie", cookie) })
	refusedAfter(linkBurst, func() answered {
		return r.ask(http.MethodPost, portallink.Path(acme), "", "Authorization", "Bearer x")
	})
}

func TestOpenPagesAreBounded(t *testing.T) {
	r := start(t, keys)
	v := r.portal.door.visits
	until := time.Now().Add(time.Hour)
	for i := range maxSessions {
		v.open[[32]byte{byte(i), byte(i >> 8), 1}] = &visit{session: session{Until: until}, end: func() {}, requests: 1}
	}
	if _, err := v.enter(session{Token: "one more"}, "", nil); err == nil {
		t.Error("more sessions than the bound are open")
	}
	clear(v.open)
	for i := range maxOfNamespace {
		v.open[[32]byte{byte(i), 2}] = &visit{session: session{Namespace: "greedy", Until: until}, end: func() {}, requests: 1}
	}
	if _, err := v.enter(session{Namespace: "greedy", Token: "one more"}, "", nil); !errors.Is(err, errFull) {
		t.Errorf("a namespace has more sessions than its bound: %v", err)
	}
	s := session{Namespace: "none", Token: "mine", Until: until}
	for i := range maxRequests + 1 {
		if _, err := v.enter(s, "", nil); (err != nil) != (i == maxRequests) {
			t.Errorf("request %d of a session: %v", i, err)
		}
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
