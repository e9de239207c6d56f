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

package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// makeSecrets creates the Secrets that Postbacks and PostbackSecrets refer to. learnSecrets reads them again.
func (r *secretsRun) makeSecrets() {
	r.t.Helper()
	certificate, key := newPair(r.t)
	for name, data := range map[string]map[string]string{
		"bearer-token":  {"token": "b/+e=" + rand.Text()},
		"basic-login":   {"username": "Aladdin", "password": `"op&n <s:s` + rand.Text()},
		"api-key":       {"key": `k&"<>/+\ ` + rand.Text()},
		"client-secret": {"secret": "c/l&+:" + rand.Text()},
		"vault":         {"secret": sign.KeyPrefix + base64.StdEncoding.EncodeToString([]byte(rand.Text())), "previous": sign.KeyPrefix + base64.StdEncoding.EncodeToString([]byte(rand.Text()))},
		"client":        {"tls.crt": certificate, "tls.key": key},
		"trust":         {"ca.crt": r.authority()},
		"broken-pem":    {"tls.crt": certificate, "tls.key": "-----BEGIN PRIVATE KEY-----\n" + rand.Text() + "!\n-----END PRIVATE KEY-----\n"},
		"bad-key":       {"secret": sign.KeyPrefix + rand.Text() + "!"},
		"bad-text":      {"header": "two\n" + rand.Text(), "token": "Bearer " + rand.Text(), "username": "a:" + rand.Text(), "password": rand.Text()},
	} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name}, StringData: data}
		if err := api.Create(r.t.Context(), secret); err != nil {
			r.t.Fatal(err)
		}
	}
	for name, spec := range map[string]string{
		"rotating": "{rotation: {overlap: 1h}}", "vault": "{source: External, secretName: vault}", "bad-key": "{source: External, secretName: bad-key}",
	} {
		r.kubectlWith("apiVersion: postback.dev/v1alpha1\nkind: PostbackSecret\nmetadata: {name: "+name+"}\nspec: "+spec+"\n", "create", "-f", "-")
	}
	r.secret("token of a URL", "")
}

// cases returns the Postbacks of the run.
func (r *secretsRun) cases() []postbackCase {
	query := "?token=" + r.search.secrets["token of a URL"] + "&signer="
	to := func(path, name string) string { return "  url: " + r.plain.URL + path + query + name + "\n" }
	const (
		bearer  = "  auth: {bearer: {secretKeyRef: {name: bearer-token, key: token}}}\n"
		header  = "  headers: [{name: X-Api-Key, valueFrom: {secretKeyRef: {name: api-key, key: key}}}]\n"
		trusted = "  tls: {caSecretRef: {name: trust, key: ca.crt}, clientCertificateSecretRef: {name: client}}\n"
	)
	oauth := func(query string) string {
		return "  auth: {oauth2: {tokenURL: '" + query + "', clientID: dispatcher, clientSecretRef: {name: client-secret, key: secret}}}\n"
	}
	return []postbackCase{
		{"bearer", to("/401/raw", "bearer") + bearer, v1alpha1.OutcomeRejected4xx, ""},
		{"basic", to("/500/json", "basic") + "  auth: {basic: {secretRef: {name: basic-login}}}\n", v1alpha1.OutcomeFailed5xx, ""},
		{"header", to("/302/query", "header") + header, v1alpha1.OutcomeRedirected, ""},
		{"header-raw", to("/200/raw", "header-raw") + header, v1alpha1.OutcomeSucceeded, ""},
		{"oauth", to("/401/base64", "") + oauth(r.plain.URL+"/token"), v1alpha1.OutcomeRejected4xx, ""},
		{"oauth-refused", to("/200/raw", "") + oauth(r.plain.URL+"/token?refuse"), v1alpha1.OutcomeAuthenticationFailed, ""},
		{"oauth-garbled", to("/200/raw", "") + oauth(r.garbled), v1alpha1.OutcomeAuthenticationFailed, ""},
		{"garbled", "  url: " + r.garbled + "/" + query + "\n" + bearer, v1alpha1.OutcomeInvalidResponse, ""},
		{"unsolicited", "  url: " + r.unsolicited + "/" + query + "\n" + bearer, v1alpha1.OutcomeSucceeded, ""},
		{"refused", "  url: http://" + receiver.Refusing(r.t) + "/" + query + "\n" + bearer, v1alpha1.OutcomeConnectionRefused, ""},
		{"client-key", "  url: " + r.secure.URL + "/403/raw" + query + "client-key\n" + header + trusted, v1alpha1.OutcomeRejected4xx, ""},
		{"untrusted", "  url: " + r.secure.URL + "/200/raw" + query + "\n" + header, v1alpha1.OutcomeTLSFailed, ""},
		{"vault", to("/422/raw", "vault") + "  secretRef: {name: vault}\n", v1alpha1.OutcomeRejected4xx, ""},
		{"rotating", to("/503/raw", "rotating") + "  secretRef: {name: rotating}\n", v1alpha1.OutcomeFailed5xx, ""},
		{"bad-pem", to("/200/raw", "") + "  tls: {clientCertificateSecretRef: {name: broken-pem}}\n", "", v1alpha1.InvalidTLSReason},
		{"bad-key", to("/200/raw", "") + "  secretRef: {name: bad-key}\n", "", v1alpha1.SecretNotReadyReason},
		{"bad-header", to("/200/raw", "") + strings.ReplaceAll(header, "name: api-key, key: key", "name: bad-text, key: header"), "", v1alpha1.InvalidHeaderReason},
		{"bad-token", to("/200/raw", "") + "  auth: {bearer: {secretKeyRef: {name: bad-text, key: token}}}\n", "", v1alpha1.InvalidAuthReason},
		{"bad-user", to("/200/raw", "") + "  auth: {basic: {secretRef: {name: bad-text}}}\n", "", v1alpha1.InvalidAuthReason},
	}
}

// refuseUserinfo tries a URL with a password, which the API refuses.
func (r *secretsRun) refuseUserinfo() {
	r.t.Helper()
	p := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "userinfo"},
		Spec:       v1alpha1.PostbackSpec{URL: "https://user:" + r.secret("password in a URL", "") + "@hooks.example.com/", Triggers: []v1alpha1.Trigger{"*"}},
	}
	if err := api.Create(r.t.Context(), p); err == nil {
		r.t.Error("a URL with a password is taken")
	}
}

// waitRouted waits until each Postback is Ready, or not Ready for the expected reason.
func (r *secretsRun) waitRouted(cases []postbackCase) {
	r.t.Helper()
	for _, c := range cases {
		if c.outcome != "" {
			r.waitReady(c.name)
			continue
		}
		eventually(r.t, func() error {
			ready := meta.FindStatusCondition(r.getPostback(c.name).Status.Conditions, v1alpha1.ReadyCondition)
			if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != c.reason {
				return fmt.Errorf("Postback %s is %+v, want %s", c.name, ready, c.reason)
			}
			return nil
		})
	}
}

func (r *secretsRun) rotate() {
	r.t.Helper()
	r.key("rotating/1")
	r.kubectl("annotate", "postbacksecret", "rotating", v1alpha1.RotateSecretAnnotation+"=1")
	r.kubectl("wait", "--for=jsonpath={.status.version}=2", "--timeout="+patience.String(), "postbacksecret/rotating")
	r.waitSignedWith(r.getPostback("rotating"), "rotating/2", "rotating/1")
}

// postAll posts one event for each Postback, and several for one of them to the replica with the proxy.
func (r *secretsRun) postAll(cases []postbackCase) {
	r.t.Helper()
	for _, c := range cases {
		r.postRaw(http.StatusAccepted, r.direct, r.namespace, `{"id":"evt_`+c.name+`","event":"case.`+c.name+`","data":{}}`, "Bearer "+r.token)
	}
	for i := range 3 {
		r.postRaw(http.StatusAccepted, r.proxied, r.namespace, fmt.Sprintf(`{"id":"evt_proxied_%d","event":"case.bearer","data":{}}`, i), "Bearer "+r.token)
	}
}

// postBadly makes every mistake that a producer can make with a token.
func (r *secretsRun) postBadly() {
	r.t.Helper()
	const good = `{"event":"case.bearer","data":{}}`
	bearer := "Bearer " + r.token
	wrong := "Bearer " + r.secret("made up token", "")
	for _, bad := range []struct {
		status          int
		namespace, body string
		authorization   []string
	}{
		{http.StatusUnauthorized, r.namespace, good, nil},
		{http.StatusUnauthorized, r.namespace, good, []string{wrong}},
		{http.StatusUnauthorized, r.namespace, good, []string{bearer + "x"}},
		{http.StatusUnauthorized, r.namespace, good, []string{"Basic " + r.token}},
		{http.StatusUnauthorized, r.namespace, good, []string{bearer, wrong}},
		{http.StatusForbidden, operator.Namespace, good, []string{bearer}},
		{http.StatusBadRequest, r.namespace, r.token, []string{bearer}},
		{http.StatusBadRequest, r.namespace, `{"id":"` + r.token + `","event":"` + r.token + `","data":{}}`, []string{bearer}},
		{http.StatusBadRequest, r.namespace, `{"` + r.token + `":1}`, []string{bearer}},
		{http.StatusBadRequest, url.PathEscape(r.token), good, []string{bearer}},
		{http.StatusNotFound, r.token + "/" + r.token, good, []string{bearer}},
	} {
		r.postRaw(bad.status, r.direct, bad.namespace, bad.body, bad.authorization...)
	}
}

// postRaw posts a body and keeps the whole response.
func (r *secretsRun) postRaw(want int, to *operator.Process, namespace, body string, authorization ...string) {
	r.t.Helper()
	address := to.IngestURL() + "/v1/namespaces/" + namespace + "/events?access_token=" + r.token
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header["Authorization"] = authorization
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want {
		r.t.Errorf("ingest answers %d, want %d (%v): %s", response.StatusCode, want, err, content)
	}
	fmt.Fprintln(&r.answers, response.Status, response.Header, string(content))
}

// waitAttempts waits until each delivery has the expected number and outcomes of attempts.
func (r *secretsRun) waitAttempts(cases []postbackCase, count int32) {
	r.t.Helper()
	eventually(r.t, func() error {
		deliveries := r.deliveries()
		for _, c := range cases {
			d := deliveries["evt_"+c.name]
			switch {
			case c.outcome == "" && d == nil:
			case d == nil || d.Status.AttemptCount < count:
				return fmt.Errorf("event evt_%s has too few attempts", c.name)
			default:
				for _, a := range d.Status.Attempts {
					if a.Outcome != c.outcome || a.StatusCode != nil && a.ResponseBody != "ok" && !strings.HasPrefix(a.ResponseBody, repeated) {
						r.t.Errorf("an attempt for %s is %+v", c.name, a)
					}
				}
			}
		}
		return proxyAnswers(deliveries, count)
	})
}

// proxyAnswers returns an error until the deliveries through the proxy have a number of attempts. The proxy answers
// the first attempts in its three ways, in any order, because a later event may be attempted first.
func proxyAnswers(deliveries map[string]*v1alpha1.PostbackDelivery, count int32) error {
	first := map[v1alpha1.Outcome]int{}
	for i := range 3 {
		d := deliveries[fmt.Sprintf("evt_proxied_%d", i)]
		if d == nil || len(d.Status.Attempts) < int(count) {
			return fmt.Errorf("event evt_proxied_%d has too few attempts: %+v", i, d)
		}
		first[d.Status.Attempts[0].Outcome]++
	}
	want := map[v1alpha1.Outcome]int{v1alpha1.OutcomeProxyFailed: 2, v1alpha1.OutcomeConnectionFailed: 1}
	if !maps.Equal(first, want) {
		return fmt.Errorf("the first attempts by the proxy ended with %v, want %v", first, want)
	}
	return nil
}
