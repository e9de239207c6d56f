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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
