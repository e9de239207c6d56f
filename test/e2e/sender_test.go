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
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// postAs posts an event for a namespace with a token, or without one if it is "".
func postAs(t *testing.T, namespace, token, id string) *reply {
	t.Helper()
	n := &tenant{t: t, namespace: namespace, token: token, producer: http.DefaultClient}
	r, err := n.tryPost(t.Context(), dispatcher, lead(id))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// resigned returns a token with other times, signed by the API server's key, because TokenRequest issues no token for
// less than ten minutes.
func resigned(t *testing.T, token string, issued, expires time.Time) string {
	t.Helper()
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	claims["iat"], claims["nbf"], claims["exp"] = issued.Unix(), issued.Unix(), expires.Unix()
	if payload, err = json.Marshal(claims); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(cp.Dir, "tokens.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}

// TestSendersAreAskedWhoTheyAre tries accepted and refused credentials, with tokens of the real API server.
func TestSendersAreAskedWhoTheyAre(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	now := time.Now()
	valid := resigned(t, n.token, now.Add(-time.Hour), now.Add(time.Hour))
	for name, tt := range map[string]struct {
		namespace, token string
		status           int
		kind, detail     string
	}{
		"without a token":         {n.namespace, "", 401, "unauthenticated", "Authorization: Bearer <token>"},
		"made up":                 {n.namespace, "abc", 401, "unauthenticated", "does not accept the token"},
		"of another signature":    {n.namespace, n.token + "x", 401, "unauthenticated", "does not accept the token"},
		"expired long ago":        {n.namespace, resigned(t, n.token, now.Add(-2*time.Hour), now.Add(-time.Hour)), 401, "unauthenticated", "The token expired at 20"},
		"for another namespace":   {operator.Namespace, n.token, 403, "forbidden", "system:serviceaccount:" + n.namespace + ":" + operator.Sender + " may not create postbackevents.postback.dev in namespace " + operator.Namespace},
		"signed anew, still good": {n.namespace, valid, 202, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := postAs(t, tt.namespace, tt.token, "evt_1")
			if got.Status != tt.status || tt.kind != "" && got.Type != "urn:postback:problem:"+tt.kind || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %+v", got)
			}
		})
	}
	n.wait(1)
	for _, token := range []string{n.token, valid} {
		if strings.Contains(dispatcher.Log(), token) {
			t.Error("a token is in the log")
		}
	}
}

// TestForbiddenSenderIsToldWhatToGrant runs the command that the refusal names; then the producer may post. Soon
// after its ServiceAccount is deleted, it may not.
func TestForbiddenSenderIsToldWhatToGrant(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	n.kubectl("create", "serviceaccount", "shop")
	token := strings.TrimSpace(n.kubectl("create", "token", "shop"))
	got := postAs(t, n.namespace, token, "evt_1")
	_, command, ok := strings.Cut(got.Detail, "kubectl ")
	if got.Status != http.StatusForbidden || !ok {
		t.Fatalf("got %+v", got)
	}
	if _, _, err := cp.Kubectl(t.Context(), "", strings.Fields(strings.Replace(command, "NAME", "shop", 1))...); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if got := postAs(t, n.namespace, token, "evt_1"); got.Status != http.StatusAccepted {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	n.wait(1)
}

// TestCloudEventsFromEndToEnd posts in binary mode as a Knative Broker, and receives as one.
func TestCloudEventsFromEndToEnd(t *testing.T) {
	n := newTenant(t)
	n.postback("passed", "format: CloudEvents", "filter: event.data.amount > 5")
	e := cloudevents.New()
	e.SetID("order 1")
	e.SetSource("/shop/orders")
	e.SetType("sale.created")
	e.SetExtension("traceparent", "00-ab")
	for _, amount := range []int{5, 7} {
		e.SetID(fmt.Sprintf("order %d", amount))
		if err := e.SetData(cloudevents.ApplicationJSON, map[string]int{"amount": amount}); err != nil {
			t.Fatal(err)
		}
		request, err := cehttp.NewHTTPRequestFromEvent(t.Context(), dispatcher.IngestURL()+"/v1/namespaces/"+n.namespace+"/events", e)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+n.token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusAccepted || len(body) > 0 {
			t.Fatalf("answers %s %q, %v", response.Status, body, err)
		}
	}
	got := n.wait(1)[0]
	var received cloudevents.Event
	if err := json.Unmarshal(got.Body, &received); err != nil {
		t.Fatal(err)
	}
	if received.ID() != "order 7" || received.Source() != "/shop/orders" || received.Extensions()["traceparent"] != "00-ab" || string(received.Data()) != `{"amount":7}` {
		t.Errorf("received %s", got.Body)
	}
	if contentType := got.Header.Get("Content-Type"); !strings.HasPrefix(contentType, cloudevents.ApplicationCloudEventsJSON) {
		t.Errorf("received as %s", contentType)
	}
	n.waitAllDelivered(1)
	if all := n.deliveries(); len(all) != 1 || all[got.ID()].Spec.Format != v1alpha1.FormatCloudEvents {
		t.Errorf("%d deliveries", len(all))
	}
}

// TestSendersRole asks the API server which events a producer may post, as the dispatcher does: "kubectl auth can-i"
// cannot ask about a resource that exists only in roles.
func TestSendersRole(t *testing.T) {
	n := newTenant(t)
	sender := "system:serviceaccount:" + n.namespace + ":" + operator.Sender
	for _, tt := range []struct {
		user, verb, resource, namespace string
		want                            bool
	}{
		{sender, "create", "postbackevents", n.namespace, true},
		{sender, "create", "postbackevents", operator.Namespace, false},
		{sender, "get", "postbackevents", n.namespace, false},
		{sender, "create", "postbackdeliveries", n.namespace, false},
		{sender, "get", "postbacks", n.namespace, false},
		{dispatcherUser, "create", "postbackevents", n.namespace, false},
		{managerUser, "create", "postbackevents", n.namespace, false},
	} {
		t.Run(tt.user+" may "+tt.verb+" "+tt.resource+" in "+tt.namespace, func(t *testing.T) {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: tt.user,
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: tt.namespace, Verb: tt.verb, Group: v1alpha1.GroupVersion.Group, Resource: tt.resource,
				},
			}}
			// The API server learns of the new RoleBinding by a watch. It is in force once the first request is allowed.
			eventually(t, func() error {
				asked := review.DeepCopy()
				if err := api.Create(t.Context(), asked); err != nil {
					return err
				}
				if asked.Status.Allowed != tt.want {
					return fmt.Errorf("%s may %s %s in %s: %t, want %t", tt.user, tt.verb, tt.resource, tt.namespace, asked.Status.Allowed, tt.want)
				}
				return nil
			})
		})
	}
}
