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

package verifiers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

const eventID = "evt_1"

var (
	current  = secret('c')
	previous = secret('p')
	foreign  = secret('f')
)

// sent returns a request as an endpoint receives it from the dispatcher, signed with keys at a time.
func sent(t *testing.T, keys []string, at time.Time, content []byte) request {
	t.Helper()
	received := request{Headers: map[string]string{}}
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		received.Body, _ = io.ReadAll(r.Body)
		for name, values := range r.Header {
			received.Headers[name] = strings.Join(values, ", ")
		}
	}))
	defer endpoint.Close()
	sender := newSender(t, clocktesting.NewFakePassiveClock(at))
	attempt := sender.Send(t.Context(), &route.Route{
		URL: endpoint.URL, Keys: keys, Timeout: metav1.Duration{Duration: 10 * time.Second},
		Signatures: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub, v1alpha1.SignatureStandardWebhooks},
	}, delivery(eventID, content))
	if attempt.Outcome != v1alpha1.OutcomeSucceeded {
		t.Fatalf("send: %s: %s", attempt.Outcome, attempt.Message)
	}
	if string(received.Body) != string(content) {
		t.Fatal("the endpoint got other bytes than were sent")
	}
	return received
}

// but returns a copy of the request with changed headers, where "" removes a header, and with the secrets that a
// receiver knows.
func (r request) but(headers map[string]string, secrets ...string) request {
	r.Headers = maps.Clone(r.Headers)
	for name, value := range headers {
		r.Headers[name] = value
		if value == "" {
			delete(r.Headers, name)
		}
	}
	r.Secrets = append([]string{}, secrets...)
	return r
}

// These are header names in the spelling of Go's server.
const (
	dub       = "Dub-Signature"
	id        = "Webhook-Id"
	timestamp = "Webhook-Timestamp"
	standard  = "Webhook-Signature"
)

const (
	ok                = "ok"
	dubRefuses        = "refused: Dub: "
	standardRefuses   = "refused: StandardWebhooks: "
	refusedForNothing = "refused: not signed"
)

type testCase struct {
	name    string
	request request
	// want is the beginning of the answer.
	want string
}

// accepted returns requests that a receiver must accept.
func accepted(t *testing.T) []testCase {
	t.Helper()
	now := time.Now()
	var cases []testCase
	for _, u := range unusual {
		cases = append(cases, testCase{"body: " + u.name, sent(t, []string{current}, now, body(eventID, u.data)).but(nil, current), ok})
	}
	cases = append(cases, testCase{"body: 256 KiB", sent(t, []string{current}, now, body(eventID, longData(t))).but(nil, current), ok})

	plain := body(eventID, `{"a":1}`)
	overlap := sent(t, []string{current, previous}, now, plain)
	onlyStandard := map[string]string{dub: ""}
	return append(cases,
		testCase{"overlap: receiver knows the current secret", overlap.but(nil, current), ok},
		testCase{"overlap: receiver knows the previous secret", overlap.but(onlyStandard, previous), ok},
		testCase{"overlap: receiver knows both", overlap.but(nil, previous, current), ok},
		testCase{"a secret without its prefix, for Standard Webhooks", overlap.but(onlyStandard, strings.TrimPrefix(current, "whsec_")), ok},
		testCase{"signed nearly 5 minutes ago", sent(t, []string{current}, now.Add(-4*time.Minute), plain).but(nil, current), ok},
		testCase{"signed nearly 5 minutes ahead", sent(t, []string{current}, now.Add(4*time.Minute), plain).but(nil, current), ok},
	)
}

// refused returns requests that a receiver must refuse.
func refused(t *testing.T) []testCase {
	t.Helper()
	now := time.Now()
	plain := body(eventID, `{"amount":100}`)
	good := sent(t, []string{current}, now, plain)
	changed := good
	changed.Body = []byte(strings.Replace(string(plain), "100", "900", 1))
	spaced := good
	spaced.Body = append([]byte(" "), plain...)
	overlap := sent(t, []string{current, previous}, now, plain)
	old := sent(t, []string{current}, now.Add(-6*time.Minute), plain)
	ahead := sent(t, []string{current}, now.Add(6*time.Minute), plain)
	onlyDub := map[string]string{standard: "", id: "", timestamp: ""}
	onlyStandard := map[string]string{dub: ""}
	signature := func(value string) map[string]string { return map[string]string{dub: "", standard: value} }
	bare := strings.TrimPrefix(current, "whsec_")
	return []testCase{
		{"changed body, Dub", changed.but(onlyDub, current), dubRefuses},
		{"changed body, Standard Webhooks", changed.but(onlyStandard, current), standardRefuses},
		{"body with a space before it, Dub", spaced.but(onlyDub, current), dubRefuses},
		{"body with a space before it, Standard Webhooks", spaced.but(onlyStandard, current), standardRefuses},
		{"wrong secret, Dub", good.but(onlyDub, foreign), dubRefuses},
		{"wrong secret, Standard Webhooks", good.but(onlyStandard, foreign), standardRefuses},
		{"no secret", good.but(onlyStandard), standardRefuses},
		{"a secret without its prefix, Dub", good.but(onlyDub, bare), dubRefuses},
		{"old timestamp", old.but(onlyStandard, current), standardRefuses},
		{"timestamp in the future", ahead.but(onlyStandard, current), standardRefuses},
		{"timestamp made new", old.but(map[string]string{dub: "", timestamp: good.Headers[timestamp]}, current), standardRefuses},
		{"timestamp that is no number", good.but(map[string]string{dub: "", timestamp: "now"}, current), standardRefuses},
		{"no timestamp", good.but(map[string]string{dub: "", timestamp: ""}, current), standardRefuses},
		{"another id", good.but(map[string]string{dub: "", id: "evt_2"}, current), standardRefuses},
		{"no id", good.but(map[string]string{dub: "", id: ""}, current), standardRefuses},
		{"truncated signature, Dub", good.but(map[string]string{standard: "", dub: good.Headers[dub][:63]}, current), dubRefuses},
		{"upper-case signature, Dub", good.but(map[string]string{standard: "", dub: strings.ToUpper(good.Headers[dub])}, current), dubRefuses},
		{"truncated signature, Standard Webhooks", good.but(signature(good.Headers[standard][:len(good.Headers[standard])-1]), current), standardRefuses},
		{"signature without its version", good.but(signature(strings.TrimPrefix(good.Headers[standard], "v1,")), current), standardRefuses},
		{"signature of another version", good.but(signature(strings.Replace(good.Headers[standard], "v1,", "v2,", 1)), current), standardRefuses},
		{"overlap: previous secret, Dub", overlap.but(onlyDub, previous), dubRefuses},
		{"overlap: neither secret", overlap.but(onlyStandard, foreign), standardRefuses},
		{"not signed", good.but(map[string]string{dub: "", standard: ""}, current), refusedForNothing},
	}
}

func TestReceiversVerifyWhatIsSent(t *testing.T) {
	cases := append(accepted(t), refused(t)...)
	ran := 0
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			check := l.check(t, receiversDir(t))
			ran++
			runCases(t, startProgram(t, check, l.encode), cases)
		})
	}
	if ran == 0 {
		t.Error("none of the receivers' programs ran: install node, python3 or go")
	}
	t.Run("upstream Standard Webhooks library", func(t *testing.T) {
		var known []testCase
		for _, c := range cases {
			if c.request.Headers[standard] != "" {
				known = append(known, c)
			}
		}
		runCases(t, upstream{}, known)
	})
}

func runCases(t *testing.T, v verifier, cases []testCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := v.check(c.request)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// During the overlap the header has one signature for each key, the current one first.
func TestOverlapSignsWithEachKey(t *testing.T) {
	r := sent(t, []string{current, previous}, time.Now(), body(eventID, `{}`))
	if signatures := strings.Split(r.Headers[standard], " "); len(signatures) != 2 {
		t.Errorf("webhook-signature has %d signatures, want 2", len(signatures))
	}
	if strings.Contains(r.Headers[dub], " ") {
		t.Error("Dub-Signature has more than one signature")
	}
}

// Convoy's simple signature is the hexadecimal HMAC of the body, with the secret as the key. A receiver that verifies
// it needs no change if the scheme Dub uses that header: see docs/migrating/from-convoy.md.
func TestConvoyReceiversVerifyARenamedHeader(t *testing.T) {
	signer, err := sign.New("X-Convoy-Signature")
	if err != nil {
		t.Fatal(err)
	}
	header, content := http.Header{}, body(eventID, `{"amount":100}`)
	request := sign.Request{ID: eventID, Time: time.Now(), Body: content}
	if err := signer.Sign(header, []v1alpha1.SignatureScheme{v1alpha1.SignatureDub}, []string{current}, request); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(current))
	mac.Write(content)
	if got, want := header.Get("X-Convoy-Signature"), hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("X-Convoy-Signature is %q, want %q", got, want)
	}
}

// newSender returns a Sender that may connect to loopback.
func newSender(t *testing.T, c clock.PassiveClock) *send.Sender {
	t.Helper()
	out, err := egress.New(egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	return send.New(send.Options{Signer: newSigner(t), UserAgent: "Postback/test", Clock: c, Egress: out})
}

func delivery(eventID string, body []byte) *v1alpha1.PostbackDelivery {
	return &v1alpha1.PostbackDelivery{Spec: v1alpha1.PostbackDeliverySpec{Event: v1alpha1.EventReference{ID: eventID}, Body: string(body)}}
}

func newSigner(t *testing.T) *sign.Signer {
	t.Helper()
	signer, err := sign.New(sign.DefaultDubHeader)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
