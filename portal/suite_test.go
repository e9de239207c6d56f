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
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/portallink"
	"github.com/postback-dev/postback-operator/portal/openid"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/issuer"
)

const (
	host     = "portal.example.com"
	clientID = "postback"
	patience = time.Minute
)

var (
	cp  *controlplane.ControlPlane
	api client.Client
	// own is the configuration of the portal's ServiceAccount.
	own *rest.Config
	// login is the issuer that the API server trusts for the client clientID.
	login *issuer.Issuer
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	var err error
	if login, err = issuer.Start(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "start the issuer:", err)
		os.Exit(1)
	}
	os.Exit(controlplane.RunTestsWith(m, controlplane.Options{Authentication: login.Authentication(clientID)}, func(c *controlplane.ControlPlane) {
		cp = c
		if err := install(context.Background()); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "install the portal:", err)
			os.Exit(1)
		}
	}))
}

// install applies config/portal like a user whose cluster has the operator's namespace.
func install(ctx context.Context) error {
	if _, _, err := cp.Kubectl(ctx, "", "create", "namespace", "postback-system"); err != nil {
		return err
	}
	_, stderr, err := cp.Kubectl(ctx, "", "apply", "-k", "../config/portal")
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr)
	}
	if api, err = cp.Client(); err != nil {
		return err
	}
	own, err = cp.ServiceAccountConfig(ctx, "postback-portal", "postback-portal")
	return err
}

// partner makes a partner's namespace, with the sample's ServiceAccounts and a Postback named crm.
func partner(t *testing.T, name string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := api.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-n", name, "-f", "../config/samples/portal_partner.yaml"); err != nil {
		t.Fatal(err, stderr)
	}
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "crm"}}
	p.Spec.URL, p.Spec.Triggers = "https://"+name+".example.com/hooks", []v1alpha1.Trigger{"*"}
	if err := api.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Delete(context.Background(), namespace); err != nil {
			t.Error(err)
		}
	})
	return name
}

// backend returns the token of a ServiceAccount that may request links for a namespace, with the given roles or with
// all.
func backend(t *testing.T, namespace string, roles ...string) string {
	t.Helper()
	name := "backend" + strings.Join(roles, "-")
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}},
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{Resource}, Verbs: []string{"create"}, ResourceNames: roles,
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: name}},
		},
	} {
		if err := api.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	config, err := cp.ServiceAccountConfig(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return config.BearerToken
}

// replica is one replica of the portal, behind a proxy that terminates TLS.
type replica struct {
	t      *testing.T
	portal *Portal
	server *httptest.Server
	clock  *clocktesting.FakePassiveClock
	log    *logged
}

// logged collects the log of a replica.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) write(prefix, args string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintln(&l.text, prefix, args)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const keys = "0123456789abcdef0123456789abcdef"

// start starts a replica with session keys.
func start(t *testing.T, sessionKeys string) *replica {
	t.Helper()
	return startWith(t, sessionKeys, openid.Options{})
}

// startWith starts a replica with an issuer.
func startWith(t *testing.T, sessionKeys string, provider openid.Options) *replica {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(sessionKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &replica{t: t, clock: clocktesting.NewFakePassiveClock(time.Now()), log: &logged{}}
	portal, err := New(own, Options{
		URL: "https://" + host, PlainHTTP: true, Namespace: "postback-portal", Installation: "postback-system", SessionKeyFile: file, Clock: r.clock, OpenID: provider,
		Log: logr.New(funcr.New(r.log.write, funcr.Options{Verbosity: 1}).GetSink()),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.portal, r.server = portal, httptest.NewServer(portal.Handler())
	t.Cleanup(r.stop)
	return r
}

func (r *replica) stop() {
	r.portal.door.visits.stop()
	r.server.Close()
}

// answered is a response whose body was read.
type answered struct {
	*http.Response
	body string
}

// ask sends a request. headers are alternating names and values.
func (r *replica) ask(method, path, body string, headers ...string) answered {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Host = host
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(headers); i += 2 {
		if request.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			request.Host = headers[i+1]
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answered{response, string(content)}
}

// link requests a link like a backend, and returns its code.
func (r *replica) link(token, namespace, role string) string {
	r.t.Helper()
	got := r.ask(http.MethodPost, portallink.Path(namespace), fmt.Sprintf(`{"role": %q, "ttl": "1h"}`, role), "Authorization", "Bearer "+token)
	before, after, found := strings.Cut(got.body, `"url":"https://`+host+"/signin#")
	if got.StatusCode != http.StatusCreated || !found {
		r.t.Fatalf("a link is answered with %s: %s%s", got.Status, before, after)
	}
	code, _, _ := strings.Cut(after, `"`)
	return code
}

// open exchanges a code like the sign-in page.
func (r *replica) open(code string, headers ...string) answered {
	r.t.Helper()
	return r.ask(http.MethodPost, signInPath, "code="+code, append([]string{"Origin", "https://" + host}, headers...)...)
}

// visitor signs in with a new link, and returns the cookie.
func (r *replica) visitor(namespace, role string) string {
	r.t.Helper()
	got := r.open(r.link(backend(r.t, namespace), namespace, role))
	if got.StatusCode != http.StatusNoContent || len(got.Cookies()) != 1 {
		r.t.Fatalf("a code is answered with %s: %s", got.Status, got.body)
	}
	cookie := got.Cookies()[0]
	return cookie.Name + "=" + cookie.Value
}

// get waits until a page contains a text.
func (r *replica) get(path, cookie, text string) {
	r.t.Helper()
	gomega.NewWithT(r.t).Eventually(func() string { return r.ask(http.MethodGet, path, "", "Cookie", cookie).body }).
		WithTimeout(patience).WithPolling(100 * time.Millisecond).Should(gomega.ContainSubstring(text))
}
