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

package endpoint_test

import (
	"testing"

	"github.com/postback-dev/postback-operator/internal/endpoint"
)

func TestSensitive(t *testing.T) {
	for name, want := range map[string]bool{
		"Authorization": true, "COOKIE": true, "X-Gitlab-Token": true, "x-api-key": true, "X-API-Key": true, "api_key": true, "Proxy-Authorization": true,
		"access_token": true, "sig": true, "X-Hub-Signature-256": true, "Ocp-Apim-Subscription-Key": true, "client_secret": true, "key": true, "X-Auth-Key": true, "api[key]": true,
		"X-Tenant": false, "Idempotency-Key": false, "keyboard": false, "X-Monkey": false, "list": false, "author": false, "": false,
	} {
		t.Run(name, func(t *testing.T) {
			if endpoint.Sensitive(name) != want {
				t.Errorf("%q: sensitive is %t", name, !want)
			}
		})
	}
}

func TestMasked(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com/hooks":                   "https://example.com/hooks",
		"https://example.com/?list=1&of=a":            "https://example.com/?list=1&of=a",
		"https://example.com/?list=1&Token=s3cret":    "https://example.com/?list=1&Token=[hidden]",
		"https://example.com/?api%5Fkey=a&b#x":        "https://example.com/?api%5Fkey=[hidden]&b#x",
		"https://me:pw@example.com/x?sig=1":           "https://[hidden]@example.com/x?sig=[hidden]",
		"https://example.com?access_token=a=b&empty=": "https://example.com?access_token=[hidden]&empty=",
	} {
		t.Run(raw, func(t *testing.T) {
			if got := endpoint.Masked(raw); got != want {
				t.Errorf("%s is shown as %s, want %s", raw, got, want)
			}
		})
	}
}
