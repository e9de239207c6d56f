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
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// unusual has event data that a receiver, or a proxy, might re-encode with other bytes.
var unusual = []struct{ name, data string }{
	{"empty", `{}`},
	{"unicode", `{"name":"Zoë Ångström","city":"東京","combining":"é"}`},
	{"emoji", `{"note":"🚀 👩‍👩‍👧 🏴‍☠️"}`},
	{"escaped surrogate pairs", `{"note":"\ud83d\ude80 \uD83D\uDE80"}`},
	{"right to left", "{\"note\":\"שלום مرحبا \u202eabc\u202c\"}"},
	{"line separators", "{\"note\":\"a\u2028b\u2029c\"}"},
	{"escapes", `{"note":"\u003c\/script\u003e \u0000 \\ \" \u00e9 \t"}`},
	{"markup", `{"note":"<a href='x'>&amp;</a>"}`},
	{"large integers", `{"id":9007199254740993,"big":123456789012345678901234567890}`},
	{"long decimals", `{"rate":0.1000000000000000055511151231257827,"small":1E-7,"zero":-0.0,"trailing":1.10}`},
	{"key order", `{"z":1,"a":2,"10":3,"2":4,"Z":5,"":6,"__proto__":7}`},
	{"inner whitespace", "{ \t\"a\" :\r\n 1 ,\n\"b\":[ ] , \"c\" : { }\n}"},
	{"byte order mark", "{\"note\":\"\ufeffabc\"}"},
	{"deep", `{"a":` + strings.Repeat(`[`, 60) + strings.Repeat(`]`, 60) + `}`},
}

// longData returns data that makes a body of 256 KiB.
func longData(t *testing.T) string {
	t.Helper()
	const size = 256 << 10
	data := func(n int) string { return `{"note":"` + strings.Repeat("é", n/2) + strings.Repeat("x", n%2) + `"}` }
	length := size - len(body("evt_1", data(0)))
	if got := len(body("evt_1", data(length))); got != size {
		t.Fatalf("the long body has %d bytes", got)
	}
	return data(length)
}

func body(id, data string) []byte {
	return (&event.Event{ID: id, Type: "lead.created", CreatedAt: time.UnixMilli(1769860800000), Data: json.RawMessage(data)}).Body()
}

// secret returns a signing key whose bytes are all equal to fill.
func secret(fill byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(fill)), 32)))
}
