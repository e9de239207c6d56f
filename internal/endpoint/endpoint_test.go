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
	"net/url"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/internal/endpoint"
)

func TestMistake(t *testing.T) {
	label := strings.Repeat("a", 63)
	for raw, want := range map[string]string{
		"https://example.com/hooks":                     "",
		"HTTPS://Example.com":                           "",
		"http://my_service.ns.svc:8080/":                "",
		"https://example.com./":                         "",
		"https://[2001:db8::1]:8443/":                   "",
		"https://192.0.2.1/":                            "",
		"https://BÜCHER.test/":                          "",
		"http://１２７.0.0.1/":                             "",
		"https://a.b2/":                                 "",
		"ht!tp:/x":                                      "not a valid URL",
		"https:example.com":                             "not a valid URL",
		"/hooks":                                        "must be an absolute URL that starts with https://",
		"https:///hooks":                                "no host",
		"https://<your-host>/hooks":                     "character",
		"https://*.example.com":                         "character",
		"https://{host}/":                               "not a valid URL",
		"https://exa_mple..com":                         "empty label",
		"https://.example.com":                          "empty label",
		"https://./":                                    "empty label",
		"https://a" + label + ".com/":                   "63",
		"https://" + strings.Repeat(label+".", 4) + "c": "253",
		"https://example.com:0/":                        "port",
		"https://example.com:99999/":                    "port",
		"https://example.com:018080/":                   "port",
		"https://[fe80::1%25eth0]/":                     "zone",
		"https://[example.com]/":                        "valid URL",
		"http://127.1":                                  "four decimal numbers",
		"http://2130706433/":                            "four decimal numbers",
		"http://0x7f.1/":                                "four decimal numbers",
		"http://１２７.1/":                                 "four decimal numbers",
		"https://１２７/":                                  "four decimal numbers",
		"https://me:pw@example.com/":                    "password",
		"https://%ff.example.com/":                      "UTF-8",
	} {
		t.Run(raw, func(t *testing.T) {
			got := endpoint.Mistake(raw)
			if anyMistake := want == "valid URL" && got != ""; want == "" && got != "" || !strings.Contains(got, want) && !anyMistake {
				t.Errorf("%s: %q, want %q", raw, got, want)
			}
		})
	}
}

func TestNormalise(t *testing.T) {
	for raw, want := range map[string]string{
		"http://BÜCHER.test/": "xn--bcher-kva.test", "http://１２７.0.0.1:80/": "127.0.0.1:80", "http://[::1]:80/": "[::1]:80", "http://Example.com/": "Example.com",
	} {
		t.Run(raw, func(t *testing.T) {
			u, err := url.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if endpoint.Normalise(u); u.Host != want {
				t.Errorf("%s: host %s, want %s", raw, u.Host, want)
			}
		})
	}
}
