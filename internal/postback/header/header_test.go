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

package header

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// FuzzHeaders: a header that the manager accepts passes the route and HTTP unchanged, and adds no other header.
func FuzzHeaders(f *testing.F) {
	for _, seed := range [][2]string{
		{"X-Tenant", "acme"},
		{"X-Tenant", ""},
		{"x-tenant", "acme ä\t!"},
		{"X-Tenant", " acme"},
		{"X-Tenant", "acme\t"},
		{"X-Tenant", "a\r\nX-Other: b"},
		{"X-Tenant", "a\nb"},
		{"X-Tenant", "a\rb"},
		{"X-Tenant", "a\x00b"},
		{"X-Tenant", "\xff\xfe"},
		{"X Tenant", "a"},
		{"X-Tenant:", "a"},
		{"X-Other: b\r\nX-Tenant", "a"},
		{"", "a"},
		{"Host", "internal"},
		{"content-length", "0"},
		{"Transfer-Encoding", "chunked"},
		{"Trailer", "X-Other"},
		{"Connection", "close"},
		{"user-agent", "x"},
		{"Expect", "100-continue"},
		{"Authorization", "Bearer x"},
		{"!#$%&'*+-.^_`|~", "a"},
		{"Cookie", "a=b; c=d"},
		{"X-Tenant", "\u0085"},
		{"X-Tenant", "\u2028\u2029"},
		{"Dub-Signature", "00"},
		{"WEBHOOK-id", "1"},
		{"X-Tenant", strings.Repeat("a", MaxValue)},
		{"Te", "trailers"},
		{"Proxy-Tenant", "acme"},
		{"Range", "bytes=0-"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if !ValidName(name) || Reserved(name) || ValueMistake(value) != "" {
			return
		}
		// The header passes the route, which is JSON.
		encoded, err := json.Marshal(route.Header{Name: name, Value: value})
		if err != nil {
			t.Fatal(err)
		}
		var header route.Header
		if err := json.Unmarshal(encoded, &header); err != nil {
			t.Fatal(err)
		}
		request := func() *http.Request {
			r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://crm.example.com/hooks", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		plain := overTheWire(t, request())
		with := request()
		with.Header.Set(header.Name, header.Value)
		got := overTheWire(t, with)
		if http.CanonicalHeaderKey(name) == "Pragma" {
			got.Header.Del("Cache-Control") // http.ReadRequest adds it.
		}
		if got.Host != plain.Host || got.ContentLength != plain.ContentLength || len(got.TransferEncoding) != 0 || got.Close || len(got.Trailer) != 0 {
			t.Errorf("the header %q changes the request", name)
		}
		if values := got.Header.Values(name); len(values) != 1 || values[0] != value {
			t.Errorf("%q: sent %q, arrived %q", name, value, values)
		}
		if len(got.Header) != len(plain.Header)+1 {
			t.Errorf("%q, %q: arrived %v", name, value, got.Header)
		}
	})
}

// overTheWire writes a request as a client does, and reads it as a server does.
func overTheWire(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	arrived, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	return arrived
}
