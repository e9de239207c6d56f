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

package text

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain\n\ttext":                  "plain\n\ttext",
		"<script>alert('x')</script>":    "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
		"\x1b[31mred":                    `<span class="ctl" title="escape, U+001B">U+001B</span>[31mred`,
		"a\u202eb":                       `a<span class="ctl" title="mark of direction, U+202E">U+202E</span>b`,
		"zero\u200bwidth":                `zero<span class="ctl" title="U+200B">U+200B</span>width`,
		"c1\u009b1m":                     `c1<span class="ctl" title="U+009B">U+009B</span>1m`,
		"tag\U000e0041":                  `tag<span class="ctl" title="U+E0041">U+E0041</span>`,
		"<b>\x1b</b>":                    `&lt;b&gt;<span class="ctl" title="escape, U+001B">U+001B</span>&lt;/b&gt;`,
		"\x00\x7f":                       `<span class="ctl" title="U+0000">U+0000</span><span class="ctl" title="U+007F">U+007F</span>`,
		"שלום العالم 日本 ❤️":              "שלום العالم 日本 ❤️",
		"&\"'":                           "&amp;&#34;&#39;",
		"broken\xff":                     "broken\xff",
		"\ufefffirst":                    `<span class="ctl" title="U+FEFF">U+FEFF</span>first`,
		"line\u2028paragraph\u2029 end ": `line<span class="ctl" title="U+2028">U+2028</span>paragraph<span class="ctl" title="U+2029">U+2029</span> end `,
	} {
		t.Run(text, func(t *testing.T) {
			if got := string(Visible(text)); got != want {
				t.Errorf("Visible(%q) is %q, want %q", text, got, want)
			}
			if plain := Plain(text); strings.ContainsAny(plain, "\u202e\x1b\u200b\x00") {
				t.Errorf("Plain(%q) is %q", text, plain)
			}
		})
	}
}

var tags = regexp.MustCompile(`<[^>]*>`)

func TestShowJSON(t *testing.T) {
	const body = `{"id":"evt_1","n":12345678901234567890.10,"a":[true,null,-1e5],"s":"a \"quoted\" <b> \\","e":{}}`
	shown := Show(body)
	if !shown.JSON || shown.Cut || shown.Size != len(body) {
		t.Fatalf("shown as %+v", shown)
	}
	for _, part := range []string{
		`<span class="j-key">&#34;id&#34;</span>: <span class="j-str">&#34;evt_1&#34;</span>`,
		`<span class="j-num">12345678901234567890.10</span>`, `<span class="j-word">true</span>`, `<span class="j-num">-1e5</span>`,
		`<span class="j-str">&#34;a \&#34;quoted\&#34; &lt;b&gt; \\&#34;</span>`,
	} {
		if !strings.Contains(string(shown.HTML), part) {
			t.Errorf("%s is not in %s", part, shown.HTML)
		}
	}
}

func TestShowLongBody(t *testing.T) {
	body := strings.Repeat("é<", 1<<19)
	shown := Show(body)
	if !shown.Cut || shown.JSON || shown.Size != len(body) {
		t.Errorf("a long body is cut %t, JSON %t, of %d bytes", shown.Cut, shown.JSON, shown.Size)
	}
	if text := html.UnescapeString(string(shown.HTML)); len(text) > maxShown || !utf8.ValidString(text) || !strings.HasPrefix(body, text) {
		t.Errorf("shown are %d bytes", len(text))
	}
}

func TestShowDeepBody(t *testing.T) {
	body := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	if shown := Show(body); shown.JSON || len(shown.HTML) > 2*len(body) {
		t.Errorf("brackets become %d bytes", len(shown.HTML))
	}
}

// FuzzShow checks that no text gets into a page as markup, and that none is lost.
func FuzzShow(f *testing.F) {
	for _, seed := range []string{`{"a":"<"}`, "\x1b[0m", `"\`, "[1,\"\u202e\"]", "\xff\xfe", `{"\u003c":"<!--"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, tag := range tags.FindAllString(string(Show(body).HTML), -1) {
			if !strings.HasPrefix(tag, `<span class="`) && tag != "</span>" {
				t.Errorf("%q becomes the tag %q", body, tag)
			}
		}
	})
}
