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

package verify

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

var sent = []byte(`{"id":"evt_1","event":"lead.created","data":{"a":1}}`)

// signed returns a request with the dispatcher's signatures.
func signed(t *testing.T) Request {
	t.Helper()
	signer, err := sign.New(sign.DefaultDubHeader)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	schemes := []v1alpha1.SignatureScheme{v1alpha1.SignatureDub, v1alpha1.SignatureStandardWebhooks}
	if err := signer.Sign(header, schemes, []string{secret}, sign.Request{ID: "evt_1", Time: now, Body: sent}); err != nil {
		t.Fatal(err)
	}
	return Request{Header: header, Body: append([]byte(nil), sent...)}
}

func TestCheck(t *testing.T) {
	set := func(name string, f func(string) string) func(*Request) {
		return func(r *Request) { r.Header.Set(name, f(r.Header.Get(name))) }
	}
	body := func(text string) func(*Request) { return func(r *Request) { r.Body = []byte(text) } }
	const valid = "valid"
	tests := map[string]struct {
		change func(*Request)
		secret string
		at     time.Duration
		// standard and dub are parts of the reasons, or "valid".
		standard, dub string
	}{
		"as it came":               {standard: valid, dub: valid},
		"another secret":           {secret: "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=", standard: "no signature fits", dub: "no signature fits"},
		"secret without prefix":    {secret: strings.TrimPrefix(secret, "whsec_"), standard: "lost its prefix whsec_", dub: "lost its prefix whsec_"},
		"secret with a line break": {secret: secret + "\n", standard: "white space around", dub: "white space around"},
		"another body":             {change: body(`{"id":"evt_2"}`), standard: "no signature fits", dub: "no signature fits"},
		"body with a line break":   {change: body(string(sent) + "\n"), standard: "line break at its end that was not sent", dub: "line break at its end"},
		"body written again": {
			change: body("{\n \"id\": \"evt_1\",\n \"event\": \"lead.created\", \"data\": {\"a\": 1}}"), standard: "parsed and written again", dub: "parsed and written again",
		},
		"body with a byte order mark": {change: body("\xef\xbb\xbf" + string(sent)), standard: "byte order mark", dub: "byte order mark"},
		"two mistakes": {
			change: body(string(sent) + "\n"), secret: strings.TrimPrefix(secret, "whsec_"), standard: "prefix whsec_; and the body has a line break", dub: "prefix whsec_; and the body",
		},
		"old":           {at: 6 * time.Minute, standard: "6m0s old, and 5m0s are allowed", dub: valid},
		"in the future": {at: -6 * time.Minute, standard: "6m0s in the future", dub: valid},
		"no webhook headers": {change: func(r *Request) {
			for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
				r.Header.Del(name)
			}
		}, standard: "there are no headers webhook-*", dub: valid},
		"no id":            {change: func(r *Request) { r.Header.Del("webhook-id") }, standard: "missing: webhook-id", dub: valid},
		"another id":       {change: set("webhook-id", func(string) string { return "evt_2" }), standard: "no signature fits", dub: valid},
		"no number":        {change: set("webhook-timestamp", func(string) string { return now.String() }), standard: "not a number", dub: valid},
		"version lost":     {change: set("webhook-signature", func(s string) string { return s[len("v1,"):] }), standard: "lost its prefix v1,", dub: valid},
		"other version":    {change: set("webhook-signature", func(s string) string { return "v1a" + s[len("v1"):] }), standard: "no signature of version v1", dub: valid},
		"list":             {change: set("webhook-signature", func(s string) string { return "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32)) + " " + s }), standard: valid, dub: valid},
		"no dub":           {change: func(r *Request) { r.Header.Del("Dub-Signature") }, standard: valid, dub: "no header Dub-Signature"},
		"dub in base64":    {change: set("Dub-Signature", rebased), standard: valid, dub: "is base64"},
		"dub with prefix":  {change: set("Dub-Signature", func(s string) string { return "sha256=" + s }), standard: valid, dub: "not 64 hexadecimal digits"},
		"dub upper case":   {change: set("Dub-Signature", strings.ToUpper), standard: valid, dub: "upper case"},
		"dub by raw bytes": {change: func(r *Request) { keyed(r, 4) }, standard: valid, dub: "what the base64 of the secret stands for"},
		"dub unprefixed":   {change: func(r *Request) { keyed(r, 1) }, standard: valid, dub: "the key is the secret without whsec_"},
		"text as key":      {change: textKey, standard: "the key is the text of the secret", dub: valid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := signed(t)
			if test.change != nil {
				test.change(&r)
			}
			if test.secret == "" {
				test.secret = secret
			}
			results, err := Check(r, test.secret, now.Add(test.at), Tolerance)
			if err != nil || len(results) != 2 {
				t.Fatal(results, err)
			}
			for i, want := range []string{test.standard, test.dub} {
				got := results[i]
				if got.Valid != (want == valid) || !got.Valid && !strings.Contains(got.Reason, want) || got.Valid != (got.Reason == "") || got.Valid != (got.Remedy == "") {
					t.Errorf("%+v, want %s", got, want)
				}
			}
		})
	}
}

func rebased(signature string) string {
	digest, err := hex.DecodeString(signature)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(digest)
}

// keyed signs by the scheme Dub with the key of a mistake.
func keyed(r *Request, mistaken int) {
	keys := dubKeys(secret)
	r.Header.Set("Dub-Signature", hex.EncodeToString(sum(keys[min(mistaken, len(keys)-1)].bytes, r.Body)))
}

// textKey signs by Standard Webhooks with the text of the secret, not its decoded bytes.
func textKey(r *Request) {
	message := append([]byte("evt_1."+strconv.FormatInt(now.Unix(), 10)+"."), r.Body...)
	r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(sum([]byte(secret), message)))
}

// With tolerance 0, an old request is valid.
func TestCheckWithoutTime(t *testing.T) {
	results, err := Check(signed(t), secret, now.AddDate(1, 0, 0), 0)
	if err != nil || !results[0].Valid {
		t.Errorf("%+v, %v", results, err)
	}
	if _, err := Check(signed(t), " \n", now, 0); err == nil {
		t.Error("an empty secret is no error")
	}
}
