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

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

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
			t.Run(method+" "+route, func(t *testing.T) {
				got := r.ask(method, route, form, "Cookie", cookie, "Origin", "https://"+host)
				if strings.Contains(got.body, "bounds-beta.example.com") || route != "/new" && got.StatusCode < 400 {
					t.Errorf("%s %s is answered with %s", method, route, got.Status)
				}
			})
		}
	}
	all := &v1alpha1.PostbackList{}
	if err := api.List(t.Context(), all, client.InNamespace(beta)); err != nil {
		t.Fatal(err)
	}
	if len(all.Items) != 1 || all.Items[0].Spec.URL != "https://bounds-beta.example.com/hooks" || all.Items[0].Generation != 1 || len(all.Items[0].Annotations) > 0 {
		t.Errorf("the other partner has %+v", all.Items)
	}
	// The pages use one namespace, and the visitor's account has no rights in another.
	config, err := cp.ServiceAccountConfig(t.Context(), acme, ServiceAccount("editor"))
	if err != nil {
		t.Fatal(err)
	}
	visitor, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	may := func(namespace string) bool {
		t.Helper()
		review, err := visitor.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Group: "postback.dev", Resource: "postbacks", Namespace: namespace}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
	if !may(acme) || may(beta) {
		t.Errorf("the account reads its own namespace: %t, that of another partner: %t", may(acme), may(beta))
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
