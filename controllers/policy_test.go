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

package controllers

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/header"
)

// Every spec that the API server accepts gets a status.
func TestLongestSpecGetsAStatus(t *testing.T) {
	b := newBench(t)
	b.heartbeat("east", loadedEverything)
	name := strings.Repeat("n", 63)
	fill := func(p *v1alpha1.Postback, prefix string) {
		p.Spec.URL = prefix + strings.Repeat("u", 2048-len(prefix))
		p.Spec.DisplayName = strings.Repeat("ä", 100)
		p.Spec.Triggers = nil
		for i := range 64 {
			p.Spec.Triggers = append(p.Spec.Triggers, v1alpha1.Trigger(fmt.Sprintf("t%02d", i)+strings.Repeat("t", 62)))
		}
		for i := range 32 {
			p.Spec.Headers = append(p.Spec.Headers, v1alpha1.Header{
				Name: fmt.Sprintf("X-%02d", i) + strings.Repeat("h", 60), Value: ptr.To(strings.Repeat("v", header.MaxValue)),
			})
		}
	}
	b.create(newPostback(name, func(p *v1alpha1.Postback) { fill(p, "https://"+longestHost+":65535/") }))
	b.settle(name)
	b.checkPostback(name, stateReady, v1alpha1.RoutedReason, "")
	if host := b.postback(name).Status.EndpointHost; host != longestHost+":65535" {
		t.Errorf("endpointHost %q", host)
	}
	b.create(newPostback("host", func(p *v1alpha1.Postback) { fill(p, "https://") }))
	b.settle("host")
	b.checkPostback("host", stateStalled, v1alpha1.InvalidURLReason, "253")
}

// longestHost is a domain name of 253 characters.
var longestHost = strings.Repeat(strings.Repeat("a", 62)+".", 4) + "a"

func TestPolicy(t *testing.T) {
	strict := Policy{SignatureHeader: "Acme-Signature"}
	lax := Policy{SignatureHeader: "Acme-Signature", AllowPlainHTTP: true}
	one := func(name, value string) []v1alpha1.Header {
		return []v1alpha1.Header{{Name: name, Value: ptr.To(value)}}
	}
	const good = "https://crm.example.com/hooks"
	tests := map[string]struct {
		policy  Policy
		url     string
		headers []v1alpha1.Header
		reason  string
	}{
		"https":                   {strict, good, nil, ""},
		"upper-case scheme":       {strict, "HTTPS://crm.example.com", nil, ""},
		"port":                    {strict, "https://crm.example.com:8443/x?y=z", nil, ""},
		"IPv6":                    {strict, "https://[2001:db8::1]:8443/", nil, ""},
		"http":                    {strict, "http://crm.example.com", nil, v1alpha1.PlainHTTPNotAllowedReason},
		"upper-case http":         {strict, "HTTP://crm.example.com", nil, v1alpha1.PlainHTTPNotAllowedReason},
		"http allowed":            {lax, "http://crm.example.com", nil, ""},
		"no host":                 {strict, "https:///hooks", nil, v1alpha1.InvalidURLReason},
		"port alone":              {strict, "https://:443/hooks", nil, v1alpha1.InvalidURLReason},
		"relative":                {lax, "/hooks", nil, v1alpha1.InvalidURLReason},
		"other scheme":            {lax, "ftp://crm.example.com", nil, v1alpha1.InvalidURLReason},
		"bad escape":              {strict, "https://crm.example.com/%zz", nil, v1alpha1.InvalidURLReason},
		"control character":       {strict, "https://crm.example.com/\n", nil, v1alpha1.InvalidURLReason},
		"bad port":                {strict, "https://crm.example.com:0/", nil, v1alpha1.InvalidURLReason},
		"port too high":           {strict, "https://crm.example.com:65536/", nil, v1alpha1.InvalidURLReason},
		"port with zeros":         {strict, "https://crm.example.com:" + strings.Repeat("0", 600) + "443/", nil, v1alpha1.InvalidURLReason},
		"longest host":            {strict, "https://" + longestHost + ":65535/", nil, ""},
		"host too long":           {strict, "https://a" + longestHost + "/", nil, v1alpha1.InvalidURLReason},
		"much too long":           {strict, "https://" + strings.Repeat("a", 2000), nil, v1alpha1.InvalidURLReason},
		"host not UTF-8":          {strict, "https://%ff.example.com/", nil, v1alpha1.InvalidURLReason},
		"host beyond ASCII":       {strict, "https://bücher.example.com/", nil, ""},
		"user":                    {strict, "https://me:pw@crm.example.com/", nil, v1alpha1.InvalidURLReason},
		"header":                  {strict, good, one("X-Tenant", "acme ä"), ""},
		"renamed signature":       {strict, good, one("acme-signature", "x"), v1alpha1.InvalidHeaderReason},
		"header name with space":  {strict, good, one("X Tenant", "x"), v1alpha1.InvalidHeaderReason},
		"header with a line":      {strict, good, one("X-Tenant", "a\r\nX-Other: b"), v1alpha1.InvalidHeaderReason},
		"header with a NUL":       {strict, good, one("X-Tenant", "a\x00"), v1alpha1.InvalidHeaderReason},
		"long header":             {strict, good, one("X-Tenant", strings.Repeat("a", 4097)), v1alpha1.InvalidHeaderReason},
		"header without a value":  {strict, good, []v1alpha1.Header{{Name: "X-Tenant"}}, v1alpha1.InvalidHeaderReason},
		"header with half source": {strict, good, []v1alpha1.Header{{Name: "X-Tenant", ValueFrom: &v1alpha1.HeaderSource{}}}, v1alpha1.InvalidHeaderReason},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := test.policy.check(&v1alpha1.PostbackSpec{URL: test.url, Headers: test.headers})
			switch {
			case v == nil && test.reason != "":
				t.Errorf("accepted, want %s", test.reason)
			case v != nil && (v.reason != test.reason || v.state != stateStalled):
				t.Errorf("%+v, want %q", v, test.reason)
			case v != nil && (strings.Contains(v.message, "pw@") || strings.Contains(v.message, "X-Other")):
				t.Errorf("the message shows too much: %s", v.message)
			}
		})
	}
}
