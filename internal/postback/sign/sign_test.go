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

package sign_test

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

const (
	currentKey  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	previousKey = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs="
)

var both = []v1alpha1.SignatureScheme{v1alpha1.SignatureDub, v1alpha1.SignatureStandardWebhooks}

func newSigner(t *testing.T, dubHeader string) *sign.Signer {
	t.Helper()
	signer, err := sign.New(dubHeader)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func TestNewRefusesWhatIsNoHeader(t *testing.T) {
	for _, name := range []string{"", "Acme Signature", "Acme-Signature:", "Acme\r\nX"} {
		t.Run(name, func(t *testing.T) {
			if _, err := sign.New(name); err == nil {
				t.Errorf("takes %q", name)
			}
		})
	}
}

func bodies() map[string]string {
	return map[string]string{
		"plain":         `{"id":"evt_1","event":"lead.created","createdAt":"2026-01-01T00:00:00.000Z","data":{}}`,
		"unicode":       `{"data":{"name":"Zoë 日本語 \u00e9 🎉"}}`,
		"large numbers": `{"data":{"amount":12345678901234567890,"rate":0.10000000000000000000001}}`,
		"key order":     `{"data":{"z":1,"a":{"y":2,"b":3}}}`,
		"white space":   "{\"data\" : { \"a\" :\t1 }\n}",
		"256 KiB":       `{"data":{"s":"` + strings.Repeat("x", 256<<10) + `"}}`,
	}
}

func TestReceiversVerify(t *testing.T) {
	for name, body := range bodies() {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			signer := newSigner(t, sign.DefaultDubHeader)
			request := sign.Request{ID: "evt_1", Time: time.Now(), Body: []byte(body)}
			if err := signer.Sign(header, both, []string{currentKey, previousKey}, request); err != nil {
				t.Fatal(err)
			}
			for keyName, key := range map[string]string{"the current key": currentKey, "the previous key": previousKey} {
				t.Run(keyName, func(t *testing.T) {
					webhook, err := standardwebhooks.NewWebhook(key)
					if err != nil {
						t.Fatal(err)
					}
					if err := webhook.Verify([]byte(body), header); err != nil {
						t.Errorf("Standard Webhooks library refuses: %v", err)
					}
					if err := webhook.Verify([]byte(body+" "), header); err == nil {
						t.Error("Standard Webhooks library accepts a changed body")
					}
				})
			}
			mac := hmac.New(sha256.New, []byte(currentKey))
			mac.Write([]byte(body))
			if want := hex.EncodeToString(mac.Sum(nil)); header.Get("Dub-Signature") != want {
				t.Errorf("Dub-Signature is %q, want %q", header.Get("Dub-Signature"), want)
			}
		})
	}
}

func TestSchemes(t *testing.T) {
	tests := map[string]struct {
		schemes []v1alpha1.SignatureScheme
		keys    []string
		header  string
		want    []string
		refused bool
	}{
		"Dub alone": {
			schemes: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub}, keys: []string{currentKey},
			want: []string{"Dub-Signature"},
		},
		"Standard Webhooks alone": {
			schemes: []v1alpha1.SignatureScheme{v1alpha1.SignatureStandardWebhooks}, keys: []string{currentKey},
			want: []string{"Webhook-Id", "Webhook-Signature", "Webhook-Timestamp"},
		},
		"renamed header": {
			schemes: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub}, keys: []string{currentKey}, header: "Acme-Signature",
			want: []string{"Acme-Signature"},
		},
		"no key":             {schemes: both, refused: true},
		"no scheme":          {keys: []string{currentKey}, refused: true},
		"unknown scheme":     {schemes: []v1alpha1.SignatureScheme{"Other"}, keys: []string{currentKey}, refused: true},
		"key without prefix": {schemes: both, keys: []string{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, refused: true},
		"key not base64":     {schemes: both, keys: []string{currentKey, "whsec_bm90!!YmFzZTY0"}, refused: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			signer := newSigner(t, cmp.Or(test.header, sign.DefaultDubHeader))
			err := signer.Sign(header, test.schemes, test.keys, sign.Request{ID: "evt_1", Time: time.Unix(1, 0), Body: []byte("{}")})
			if test.refused {
				if err == nil || len(header) != 0 {
					t.Fatalf("signed in part: error %v, header %v", err, header)
				}
				for _, key := range test.keys {
					if strings.Contains(err.Error(), strings.TrimPrefix(key, "whsec_")) {
						t.Errorf("the error shows a key: %v", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(header) != len(test.want) {
				t.Errorf("header is %v, want %v", header, test.want)
			}
			for _, name := range test.want {
				if header.Get(name) == "" {
					t.Errorf("no header %s", name)
				}
			}
		})
	}
}

// The example of the Standard Webhooks specification checks both this package and the library of the other tests.
func TestSpecificationExample(t *testing.T) {
	header := http.Header{}
	signer := newSigner(t, sign.DefaultDubHeader)
	request := sign.Request{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Time: time.Unix(1614265330, 0), Body: []byte(`{"test": 2432232314}`)}
	schemes := []v1alpha1.SignatureScheme{v1alpha1.SignatureStandardWebhooks}
	if err := signer.Sign(header, schemes, []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, request); err != nil {
		t.Fatal(err)
	}
	if got, want := header.Get("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("webhook-signature is %q, want %q", got, want)
	}
}
