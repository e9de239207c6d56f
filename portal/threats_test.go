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
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/guard"
	"github.com/postback-dev/postback-operator/internal/portallink"
)

const ownOrigin = "https://" + host

// inline is code or style in a page, instead of in a file.
var inline = regexp.MustCompile(`(?i)<script(?:\s+[^>]*)?>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:`)

// pagesOf returns paths of the portal, for a namespace with a Postback named crm.
func pagesOf(namespace string) []string {
	path := "/p/" + namespace + "/crm"
	return []string{
		"/", "/new", "/none", signInPath, signOutPath, portallink.Path(namespace), path, path + "?q=%3Cscript%3E", path + "/d/none", path + "/d/none/body", path + "/d/none/curl",
		path + "/do/test", path + "/do/state", path + "/do/again", path + "/do/edit", path + "/do/delete", path + "/do/rotate", path + "/do/secret", path + "/do/yaml", path + "/do/redeliver",
	}
}

// TestEveryAnswerIsPrivate: no answer may be cached, framed or sniffed, or holds inline code, for any visitor.
func TestEveryAnswerIsPrivate(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "private-acme")
	cookie := r.visitor(acme, "editor")
	r.get("/", cookie, "private-acme.example.com")
	for _, path := range pagesOf(acme) {
		for name, headers := range map[string][]string{
			"a visitor": {"Cookie", cookie, "Origin", ownOrigin}, "nobody": {"Origin", ownOrigin}, "another site": {"Cookie", cookie, "Origin", "https://evil.example"}, "another host": {"Cookie", cookie, "Host", "evil.example"},
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
				t.Run(method+" "+path+" of "+name, func(t *testing.T) {
					r.clock.SetTime(r.clock.Now().Add(time.Second))
					got := r.ask(method, path, "preview=yes", headers...)
					policy := got.Header.Get("Content-Security-Policy")
					for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self'; style-src 'self';"} {
						if !strings.Contains(policy, part) {
							t.Errorf("the policy is %q", policy)
						}
					}
					for header, want := range map[string]string{
						"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Strict-Transport-Security": hsts,
						"Access-Control-Allow-Origin": "", "Cross-Origin-Resource-Policy": "same-origin",
					} {
						if got.Header.Get(header) != want {
							t.Errorf("%s: %s", header, got.Header.Get(header))
						}
					}
					if found := inline.FindString(got.body); found != "" {
						t.Errorf("the page holds %q", found)
					}
					if name != "a visitor" && strings.Contains(got.body, "private-acme.example.com") {
						t.Error("it shows the Postback")
					}
				})
			}
		}
	}
}

// TestSignInBeginsAnotherSession: a session that was there before a sign-in, such as one that somebody planted, is not continued.
func TestSignInBeginsAnotherSession(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "fixation-acme")
	token := backend(t, acme)
	first := r.open(r.link(token, acme, "viewer")).Cookies()[0]
	second := r.open(r.link(token, acme, "viewer"), "Cookie", first.Name+"="+first.Value).Cookies()[0]
	var before, after session
	if !r.portal.door.sealer.open(purposeSession, "", first.Value, &before) || !r.portal.door.sealer.open(purposeSession, "", second.Value, &after) {
		t.Fatal("a cookie holds no session")
	}
	if first.Value == second.Value || before.Token == after.Token {
		t.Error("the session of before continues")
	}
	planted := r.open(r.link(token, acme, "viewer"), "Cookie", cookieName+"=planted").Cookies()
	if len(planted) != 1 || planted[0].Value == "planted" {
		t.Errorf("a planted cookie is answered with %v", planted)
	}
}

// TestFormsMakeNoHeaders: the content of a form or a path adds no header, and leads to no other server.
func TestFormsMakeNoHeaders(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "headers-acme")
	cookie := r.visitor(acme, "editor")
	r.get("/", cookie, "headers-acme.example.com")
	path := "/p/" + acme + "/crm"
	const evil = "%0d%0aSet-Cookie:%20evil=1%0d%0aLocation:%20https://evil.example"
	for name, test := range map[string]struct{ path, form string }{
		"the state":               {path + "/do/state", "state=Paused" + evil},
		"the type of a test":      {path + "/do/test", "type=lead.created" + evil},
		"the name":                {"/new", "name=x" + evil + "&url=https://x.example&triggers=*"},
		"a name with slashes":     {"/new", "name=//evil.example/&url=https://x.example&triggers=*"},
		"a delivery":              {path + "/do/redeliver", "delivery=x" + evil},
		"a delivery with slashes": {path + "/do/redeliver", "delivery=../../evil"},
		"the path":                {path + "/do/state" + evil, "state=Paused"},
		"the query":               {path + "/do/state?next=https://evil.example&to=//evil.example", "state=Nothing"},
		"the sign-out":            {signOutPath + "?next=https://evil.example", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.ask(http.MethodPost, test.path, test.form, "Cookie", cookie, "Origin", ownOrigin, "X-Fragment", "dialog")
			for header, values := range got.Header {
				if header != "Location" && header != "Set-Cookie" && strings.Contains(strings.Join(values, " "), "evil") {
					t.Errorf("%s: %q", header, values)
				}
			}
			if to := got.Header.Get("Location"); to != "" && !strings.HasPrefix(to, "/p/") {
				t.Errorf("it leads to %q", to)
			}
			for _, c := range got.Cookies() {
				if c.Name != cookieName {
					t.Errorf("the cookie %s is set", c)
				}
			}
		})
	}
}

// TestLargeRequestsAreRefused: a request takes a bounded part of the memory.
func TestLargeRequestsAreRefused(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "large-acme")
	token := backend(t, acme, "viewer")
	cookie := r.visitor(acme, "editor")
	r.get("/", cookie, "large-acme.example.com")
	large := strings.Repeat("x", 2<<20)
	for name, got := range map[string]answered{
		"a form":  r.ask(http.MethodPost, "/new", "url="+large, "Cookie", cookie, "Origin", ownOrigin),
		"a code":  r.ask(http.MethodPost, signInPath, "code="+large, "Origin", ownOrigin),
		"a grant": r.ask(http.MethodPost, portallink.Path(acme), `{"role": "`+large+`"}`, "Authorization", "Bearer "+token),
	} {
		t.Run(name, func(t *testing.T) {
			if got.StatusCode != http.StatusBadRequest {
				t.Errorf("%s of 2 MiB is answered with %s", name, got.Status)
			}
		})
	}
}

// TestKeysAreShownOnRequestOnly: a key is in the answer to a form of the portal's own page, and in no other answer.
func TestKeysAreShownOnRequestOnly(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "keys-acme")
	const key = "whsec_c2hvd24tb24tcmVxdWVzdC1vbmx5"
	if err := api.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: "crm"}, StringData: map[string]string{v1alpha1.SigningKeyName: key},
	}); err != nil {
		t.Fatal(err)
	}
	crm := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: "crm"}}
	if err := api.Status().Patch(t.Context(), crm, client.RawPatch(types.MergePatchType, []byte(`{"status": {"secretName": "crm"}}`))); err != nil {
		t.Fatal(err)
	}
	cookie := r.visitor(acme, "key-reader")
	path := "/p/" + acme + "/crm"
	r.get(path+"/do/secret", cookie, "Show")
	for _, page := range pagesOf(acme) {
		t.Run(page, func(t *testing.T) {
			if got := r.ask(http.MethodGet, page, "", "Cookie", cookie); strings.Contains(got.body, key) {
				t.Error("the page shows the key")
			}
		})
	}
	if got := r.ask(http.MethodPost, path+"/do/secret", "", "Cookie", cookie, "Origin", "https://evil.example"); strings.Contains(got.body, key) {
		t.Error("a page of another site gets the key")
	}
	if got := r.ask(http.MethodPost, path+"/do/secret", "", "Cookie", cookie, "Origin", ownOrigin); !strings.Contains(got.body, key) {
		t.Errorf("the form is answered with %s: %s", got.Status, got.body)
	}
	editor := r.open(r.link(backend(t, acme, "editor"), acme, "editor")).Cookies()[0]
	if got := r.ask(http.MethodPost, path+"/do/secret", "", "Cookie", editor.Name+"="+editor.Value, "Origin", ownOrigin); strings.Contains(got.body, key) {
		t.Error("an editor without the right sees the key")
	}
}

// TestPartnersAreFlowsOfTheirOwn: the API server queues the requests of each ServiceAccount as a flow of its own.
func TestPartnersAreFlowsOfTheirOwn(t *testing.T) {
	acme := partner(t, "flow-acme")
	config, err := cp.ServiceAccountConfig(t.Context(), acme, ServiceAccount("editor"))
	if err != nil {
		t.Fatal(err)
	}
	visitor, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/apis/postback.dev/v1alpha1/namespaces/"+acme+"/postbacks", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := visitor.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	flows := &flowcontrolv1.FlowSchemaList{}
	if err := api.List(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
	for i := range flows.Items {
		flow := &flows.Items[i]
		if string(flow.UID) != response.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID) {
			continue
		}
		if flow.Spec.DistinguisherMethod == nil || flow.Spec.DistinguisherMethod.Type != flowcontrolv1.FlowDistinguisherMethodByUserType {
			t.Errorf("the FlowSchema %s puts all users into one flow", flow.Name)
		}
		level := &flowcontrolv1.PriorityLevelConfiguration{}
		if err := api.Get(t.Context(), client.ObjectKey{Name: flow.Spec.PriorityLevelConfiguration.Name}, level); err != nil {
			t.Fatal(err)
		}
		if level.Spec.Limited == nil || level.Spec.Limited.LimitResponse.Queuing == nil {
			t.Errorf("the level %s does not queue", level.Name)
		}
		return
	}
	t.Errorf("the answer %s names no FlowSchema: %v", response.Status, response.Header)
}

// TestNamesOfOthersReachNothing: forms and paths of an editor's own Postback name a delivery, a Postback and a key of another partner.
func TestNamesOfOthersReachNothing(t *testing.T) {
	r := start(t, keys)
	acme, beta := partner(t, "names-acme"), partner(t, "names-beta")
	foreign := &v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{Namespace: beta, Name: "evt-beta", Labels: map[string]string{v1alpha1.PostbackLabel: "crm"}}}
	foreign.Spec = v1alpha1.PostbackDeliverySpec{
		PostbackRef: v1alpha1.PostbackReference{Name: "crm", UID: "3f2a4b4e-0000-4000-8000-000000000001"}, Format: v1alpha1.FormatJSON, Body: `{"of": "beta"}`,
		Event: v1alpha1.EventReference{ID: "evt_beta", Type: "lead.created", CreatedAt: metav1.NowMicro()},
	}
	if err := api.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	cookie := r.visitor(acme, "editor")
	r.get("/", cookie, "names-acme.example.com")
	own := "/p/" + acme + "/crm"
	for name, test := range map[string]struct{ method, path, form string }{
		"a delivery":                   {http.MethodGet, own + "/d/evt-beta", ""},
		"the body of a delivery":       {http.MethodGet, own + "/d/evt-beta/body", ""},
		"the command of a delivery":    {http.MethodGet, own + "/d/evt-beta/curl", ""},
		"a redelivery":                 {http.MethodPost, own + "/do/redeliver", "delivery=evt-beta"},
		"a redelivery with a slash":    {http.MethodPost, own + "/do/redeliver", "delivery=../../names-beta/postbackdeliveries/evt-beta"},
		"a redelivery of a namespace":  {http.MethodPost, own + "/do/redeliver", "delivery=evt-beta&namespace=names-beta"},
		"a Postback in their place":    {http.MethodPost, "/new", "name=planted&preview=yes&namespace=names-beta&url=https://evil.example/&triggers=*"},
		"a Postback in an escaped one": {http.MethodPost, "/new", "name=../../names-beta/postbacks/planted&url=https://evil.example/&triggers=*"},
		"an escaped path":              {http.MethodPost, "/p/" + acme + "%2f..%2f" + beta + "/crm/do/state", "state=Disabled"},
		"the query":                    {http.MethodPost, own + "/do/state?namespace=names-beta", "state=Enabled"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.ask(test.method, test.path, test.form, "Cookie", cookie, "Origin", ownOrigin)
			if strings.Contains(got.body, "evt_beta") || strings.Contains(got.body, "names-beta.example.com") || strings.Contains(got.body, "namespace: names-beta") {
				t.Errorf("the answer shows it: %s", got.body)
			}
		})
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign); err != nil || len(foreign.Annotations) > 0 {
		t.Errorf("the delivery of the other partner has %v (%v)", foreign.Annotations, err)
	}
	all := &v1alpha1.PostbackList{}
	if err := api.List(t.Context(), all, client.InNamespace(beta)); err != nil || len(all.Items) != 1 || all.Items[0].Generation != 1 {
		t.Errorf("the other partner has %v (%v)", all.Items, err)
	}
}

// TestStaticFilesHoldNothingPrivate: scripts and styles are the same for everybody.
func TestStaticFilesHoldNothingPrivate(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "static-acme")
	cookie := r.visitor(acme, "viewer")
	for _, file := range []string{"console.js", "console.css", "icon.svg"} {
		t.Run(file, func(t *testing.T) {
			with, without := r.ask(http.MethodGet, guard.StaticPath+file, "", "Cookie", cookie), r.ask(http.MethodGet, guard.StaticPath+file, "")
			if with.StatusCode != http.StatusOK || with.body != without.body || len(with.Cookies()) > 0 {
				t.Errorf("%s is answered with %s and %s", file, with.Status, without.Status)
			}
		})
	}
	for name, path := range map[string]string{
		"above the folder": guard.StaticPath + "../console.go", "above the folder, escaped": guard.StaticPath + "%2e%2e/console.go", "the folder": guard.StaticPath,
	} {
		t.Run(name, func(t *testing.T) {
			if got := r.ask(http.MethodGet, path, ""); got.StatusCode == http.StatusOK {
				t.Errorf("GET %s is answered with %s", path, got.Status)
			}
		})
	}
}
