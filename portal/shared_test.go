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
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// scrape returns the metrics as Prometheus gets them.
func scrape(t *testing.T) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	metricsHandler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return recorder.Body.String()
}

// apiServerMetric returns the sum of the series of a metric of the API server that have the labels.
func apiServerMetric(t *testing.T, name string, labels map[string]string) float64 {
	t.Helper()
	client, err := rest.HTTPClientFor(cp.Config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, cp.Config.Host+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, m := range families[name].GetMetric() {
		if hasLabels(m, labels) {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, labels map[string]string) bool {
	found := 0
	for _, label := range m.GetLabel() {
		if want, ok := labels[label.GetName()]; ok && label.GetValue() == want {
			found++
		}
	}
	return found == len(labels)
}

// pollEvery is the interval at which the tests look again.
const pollEvery = 100 * time.Millisecond

// watches returns the number of watches of deliveries of one namespace at the API server.
func watches(t *testing.T) float64 {
	t.Helper()
	return apiServerMetric(t, "apiserver_longrunning_requests", map[string]string{"verb": "WATCH", "resource": "postbackdeliveries", "scope": "namespace"})
}

// follow opens a live page, and returns a function that waits for a text.
func (r *replica) follow(path, cookie string) (see func(text string)) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	r.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Host = host
	request.Header.Set("Cookie", cookie)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		r.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("a live page is answered with %s", response.Status)
	}
	lines := make(chan string, 1000)
	go func() {
		defer response.Body.Close()
		defer close(lines)
		reader := bufio.NewReader(response.Body)
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	return func(text string) {
		r.t.Helper()
		patient, tick := time.After(patience), time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					r.t.Fatalf("the live page ended before %q", text)
				}
				if strings.Contains(line, text) {
					return
				}
			case <-tick.C: // Pages are not drawn more often than once a second.
				r.clock.SetTime(r.clock.Now().Add(time.Second))
			case <-patient:
				r.t.Fatalf("the live page does not show %q", text)
			}
		}
	}
}

func addPostback(t *testing.T, namespace, name string) {
	t.Helper()
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.URL, p.Spec.Triggers = "https://"+name+".example.com/hooks", []v1alpha1.Trigger{"*"}
	if err := api.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// TestVisitorsOfANamespaceShareItsWatches: the API server has one watch for all of them. When the visitor whose token
// opened it leaves, the pages of the others stay current.
func TestVisitorsOfANamespaceShareItsWatches(t *testing.T) {
	g := gomega.NewWithT(t)
	r := start(t, keys)
	acme := partner(t, "shared-acme")
	token := backend(t, acme)
	before := watches(t)
	sign := func(role string) string {
		got := r.open(r.link(token, acme, role)).Cookies()[0]
		return got.Name + "=" + got.Value
	}
	first := sign("editor")
	r.follow("/live", first)("shared-acme.example.com")
	others := []string{sign("viewer"), sign("viewer"), sign("key-reader")}
	var see []func(string)
	for _, cookie := range others {
		page := r.follow("/live", cookie)
		page("shared-acme.example.com")
		see = append(see, page)
	}
	if got := watches(t) - before; got != 1 {
		t.Errorf("%d visitors have %v watches of deliveries", len(others)+1, got)
	}
	if got := r.ask(http.MethodPost, signOutPath, "", "Cookie", first, "Origin", ownOrigin); got.StatusCode != http.StatusOK {
		t.Fatal(got.Status)
	}
	addPostback(t, acme, "later")
	for _, page := range see {
		page("later.example.com")
	}
	g.Eventually(func() float64 { return watches(t) - before }).WithTimeout(patience).Should(gomega.Equal(1.0))
	for _, cookie := range others {
		r.ask(http.MethodPost, signOutPath, "", "Cookie", cookie, "Origin", ownOrigin)
	}
	g.Eventually(func() float64 { return watches(t) - before }).WithTimeout(patience).Should(gomega.Equal(0.0))
}

// TestSharedDataNeedsARight: a visitor without the right to list one of the kinds sees nothing of what the others share.
func TestSharedDataNeedsARight(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "review-acme")
	token := backend(t, acme)
	editor := r.open(r.link(token, acme, "editor")).Cookies()[0]
	r.get("/", editor.Name+"="+editor.Value, "review-acme.example.com")
	// This viewer may list all kinds but one.
	if err := api.Delete(t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: ServiceAccount("viewer")}}); err != nil {
		t.Fatal(err)
	}
	allow(t, acme, ServiceAccount("viewer"), shown[:3]...)
	viewer := r.open(r.link(token, acme, "viewer")).Cookies()[0]
	for _, path := range []string{"/", "/live", "/p/" + acme + "/crm", "/p/" + acme + "/crm/live"} {
		got := r.ask(http.MethodGet, path, "", "Cookie", viewer.Name+"="+viewer.Value)
		if got.StatusCode != http.StatusUnauthorized || strings.Contains(got.body, "review-acme.example.com") {
			t.Errorf("GET %s is answered with %s: %s", path, got.Status, got.body)
		}
	}
}

// allow lets a ServiceAccount read kinds of a namespace.
func allow(t *testing.T, namespace, account string, resources ...string) {
	t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "some"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: resources, Verbs: []string{"get", "list", "watch"},
	}}}
	if err := api.Create(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	if err := api.Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "some"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "some"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	}); err != nil {
		t.Fatal(err)
	}
}

// TestLenders: a request carries the token of a visit that is there and that the API server accepts.
func TestLenders(t *testing.T) {
	for name, test := range map[string]struct {
		// refuse are the tokens that the API server refuses, in the namespace of the visits.
		visits, refuse []string
		status         int
		err            error
		lends          string
	}{
		"one visit":            {visits: []string{"a"}, status: http.StatusOK, lends: "a"},
		"nobody":               {err: errNoVisitor},
		"the only one refused": {visits: []string{"a"}, refuse: []string{"a"}, status: http.StatusForbidden},
		"one of two refused":   {visits: []string{"a", "b"}, refuse: []string{"a"}, status: http.StatusOK, lends: "b"},
		"all of many refused":  {visits: []string{"a", "b", "c", "d", "e"}, refuse: []string{"a", "b", "c", "d", "e"}, status: http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shared{visits: map[*visit]bool{}}
			for _, token := range test.visits {
				v := &visit{session: session{Token: token}, bearer: &bearer{token: token}}
				v.ctx, v.end = context.WithCancel(t.Context())
				defer v.end()
				s.join(v)
			}
			asked := 0
			transport := s.wrap(roundTripper(func(r *http.Request) (*http.Response, error) {
				asked++
				status := http.StatusOK
				for _, token := range test.refuse {
					if r.Header.Get("Authorization") == "Bearer "+token {
						status = http.StatusForbidden
					}
				}
				return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(""))}, nil
			}))
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			response, err := transport.RoundTrip(request)
			if !errors.Is(err, test.err) || asked > maxLenders {
				t.Fatalf("%v, after %d requests", err, asked)
			}
			if err != nil {
				return
			}
			defer response.Body.Close()
			if response.StatusCode != test.status {
				t.Errorf("the answer is %d, want %d", response.StatusCode, test.status)
			}
			if lends := s.lender; (lends == nil) != (test.lends == "") || lends != nil && lends.Token != test.lends {
				t.Errorf("the lender is %+v, want %q", lends, test.lends)
			}
			if request.Header.Get("Authorization") != "" {
				t.Error("the request of the caller got a token")
			}
		})
	}
}

// TestALoanEndsWithTheVisit: a watch with the token of a visitor who left does not go on.
func TestALoanEndsWithTheVisit(t *testing.T) {
	s := &shared{visits: map[*visit]bool{}}
	v := &visit{session: session{Token: "a"}, bearer: &bearer{token: "a"}}
	v.ctx, v.end = context.WithCancel(t.Context())
	s.join(v)
	var sent context.Context
	response, err := s.wrap(roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = r.Context()
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})).RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if sent.Err() != nil {
		t.Fatal("the request ended before the visit")
	}
	v.end()
	if s.leave(v) != 0 || s.lender != nil {
		t.Errorf("the lender is %v", s.lender)
	}
	<-sent.Done()
	if !errors.Is(sent.Err(), context.Canceled) {
		t.Error(sent.Err())
	}
}
