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

package look

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	vector = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><path d="M0 0h10v10z"/></svg>`
	blue   = "#0b5cad"
)

// files returns a folder with files of the given contents.
func files(contents map[string]string) fstest.MapFS {
	dir := fstest.MapFS{}
	for name, content := range contents {
		dir[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return dir
}

// picture returns a PNG of a size.
func picture(t *testing.T, width, height int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLooksAreRead(t *testing.T) {
	l, err := Read(files(map[string]string{
		"name": "Acme\n", "link": "https://acme.example/partners?tab=1\n", "link-text": "Acme partners", "logo.svg": vector, "logo-dark.png": picture(t, 20, 10),
		"light.accent": blue, "..data": "of the kubelet",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if l.Name != "Acme" || l.Link != "https://acme.example/partners?tab=1" || l.LinkText != "Acme partners" || l.Logo.Type != "image/svg+xml" || l.DarkLogo.Type != "image/png" || l.Version == "" {
		t.Errorf("read is %+v", l)
	}
	for _, want := range []string{"@media not (prefers-color-scheme: dark) { :root {", "--accent: " + blue, "--on-accent: #0a0a0c", "@media (prefers-color-scheme: dark) { :root {"} {
		if !strings.Contains(l.Style, want) {
			t.Errorf("the style lacks %q:\n%s", want, l.Style)
		}
	}
	if strings.Contains(l.Style, "--text") {
		t.Errorf("an accent changes the text:\n%s", l.Style)
	}
}

func TestNoSettingsAreTheDefault(t *testing.T) {
	if l, err := Read(files(nil)); err != nil || *l != *Default {
		t.Errorf("read is %+v, %v", l, err)
	}
}

func TestVersionsFollowTheContent(t *testing.T) {
	one, _ := Read(files(map[string]string{"name": "One"}))
	two, _ := Read(files(map[string]string{"name": "Two"}))
	if one.Version == two.Version {
		t.Error("two looks have one version")
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		file, content string
		want          []string
	}{
		"an unknown setting":             {"colour", "red", []string{"colour: no such setting", "light.accent"}},
		"an empty name":                  {"name", " \n", []string{"name: it has 0 characters; use 1 to 40"}},
		"a long name":                    {"name", strings.Repeat("x", 41), []string{"name: it has 41 characters"}},
		"a name of two lines":            {"name", "Acme\nInc", []string{"name:", "use one line"}},
		"a name that turns the text":     {"name", "Acme\u202egnp", []string{"name:", "cannot be shown"}},
		"a link of a script":             {"link", "javascript:alert(1)", []string{"link:", "https://"}},
		"a link over HTTP":               {"link", "http://acme.example", []string{"link:", "https://"}},
		"a link with a password":         {"link", "https://a:b@acme.example", []string{"link:", "https://"}},
		"a relative link":                {"link", "//acme.example", []string{"link:", "https://"}},
		"a logo of HTML":                 {"logo.svg", "<html><script>alert(1)</script></html>", []string{"logo.svg: it is no SVG", `"html"`}},
		"a logo that is broken":          {"logo.svg", "<svg><path", []string{"logo.svg: it is no SVG"}},
		"an empty logo":                  {"logo.svg", "", []string{"logo.svg: it is no SVG"}},
		"a logo of another kind":         {"logo.png", vector, []string{"logo.png: it is no PNG"}},
		"a logo of very many pixels":     {"logo.png", picture(t, 1025, 1), []string{"logo.png: it has 1025 times 1 pixels; use at most 1024"}},
		"a large logo":                   {"logo.svg", "<svg>" + strings.Repeat(" ", MaxLogo) + "</svg>", []string{"logo.svg: it has more than 131072 bytes"}},
		"a dark logo alone":              {"logo-dark.svg", vector, []string{"logo-dark: it needs a logo"}},
		"an unknown colour":              {"light.accent", "blueish", []string{`light.accent: "blueish" is no colour`, "#rrggbb"}},
		"a colour that ends the rule":    {"dark.text", "#fff;} body{display:none", []string{"dark.text:", "is no colour"}},
		"a number beyond a byte":         {"light.text", "rgb(0, 0, 256)", []string{"light.text:", "from 0 to 255"}},
		"an accent without contrast":     {"light.accent", "#ffd400", []string{"light.accent is #ffd400", "4.5:1", "choose a darker colour"}},
		"a dark accent without contrast": {"dark.accent", "#222288", []string{"dark.accent is #222288", "choose a lighter colour"}},
		"a text without contrast":        {"light.text", "#aaa", []string{"light.text is #aaaaaa", "choose a darker colour"}},
		"a surface without contrast":     {"light.surface", "#777", []string{"light.surface is #777777", "choose a lighter colour"}},
		"a dark background too light":    {"dark.background", "rgb(150 150 150)", []string{"dark.background is #969696", "choose a darker colour"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Read(files(map[string]string{test.file: test.content}))
			if err == nil {
				t.Fatalf("read is %+v", l)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestAllErrorsAreReported(t *testing.T) {
	_, err := Read(files(map[string]string{"name": "", "link": "x", "light.accent": "x", "dark.accent": "y"}))
	for _, want := range []string{"name:", "link:", "light.accent:", "dark.accent:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}

// TestPalettesAreReadable completes palettes of many brands: where a palette is accepted, each text on it has the
// contrast of WCAG AA.
func TestPalettesAreReadable(t *testing.T) {
	accepted := 0
	for _, s := range []scheme{light, dark} {
		for r := 0; r < 256; r += 51 {
			for g := 0; g < 256; g += 51 {
				for b := 0; b < 256; b += 51 {
					brand := colour{uint8(r), uint8(g), uint8(b)}
					for _, chosen := range []palette{{accent: brand}, {surface: brand}, {background: brand, surface: brand}, {text: brand}} {
						p, errs := s.complete(chosen)
						if len(errs) > 0 {
							continue
						}
						accepted++
						for _, pair := range [][2]string{
							{text, background},
							{text, surface},
							{text, sunk},
							{text, accentSoft},
							{soft, surface},
							{soft, calmSoft},
							{faint, background},
							{faint, surface},
							{faint, sunk},
							{accent, background},
							{accent, surface},
							{accent, sunk},
							{accent, accentSoft},
							{onAccent, accent},
							{onAccent, accentStrong},
							{"calm", calmSoft},
						} {
							if !readable(p[pair[0]], p[pair[1]]) {
								t.Errorf("%s %v: %s on %s has %.2f", s.name, chosen, pair[0], pair[1], contrast(p[pair[0]], p[pair[1]]))
							}
						}
					}
				}
			}
		}
	}
	if accepted < 100 {
		t.Errorf("only %d palettes are accepted", accepted)
	}
}

// TestAccentOfOneSchemeServesTheOther: a platform with one brand colour need not choose a second one.
func TestAccentOfOneSchemeServesTheOther(t *testing.T) {
	for _, field := range []string{"light.accent", "dark.accent"} {
		content := map[string]string{"light.accent": "#1f4e79", "dark.accent": "#9cd0ff"}[field]
		l, err := Read(files(map[string]string{field: content}))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(l.Style, "--accent:"); n != 2 {
			t.Errorf("%s sets %d accents:\n%s", field, n, l.Style)
		}
	}
}

// TestAccentFollowsTheGroundsOfTheOtherScheme: the accent that follows is readable on grounds that the platform chose.
func TestAccentFollowsTheGroundsOfTheOtherScheme(t *testing.T) {
	l, err := Read(files(map[string]string{"light.accent": "#0a6b4f", "dark.background": "#0d1512", "dark.surface": "#14201b", "dark.text": "#e8f0ec"}))
	if err != nil || strings.Count(l.Style, "--accent:") != 2 {
		t.Errorf("read is %+v, %v", l, err)
	}
}

func TestColoursAreParsed(t *testing.T) {
	for text, want := range map[string]string{"#abc": "#aabbcc", "#A1B2C3": "#a1b2c3", "rgb(1, 2, 3)": "#010203", " rgb(255 0 16)\n": "#ff0010"} {
		if c, err := parseColour(text); err != nil || c.String() != want {
			t.Errorf("%s is %s, %v", text, c, err)
		}
	}
}

func TestContrastIsThatOfWCAG(t *testing.T) {
	for _, test := range []struct {
		a, b colour
		want float64
	}{{white, colour{}, 21}, {white, white, 1}, {colour{0x77, 0x77, 0x77}, white, 4.48}, {colour{0x76, 0x76, 0x76}, white, 4.54}} {
		if got := contrast(test.a, test.b); got < test.want-0.01 || got > test.want+0.01 {
			t.Errorf("%s on %s has %.3f, want %.2f", test.a, test.b, got, test.want)
		}
	}
}

// TestDefaultsAreThoseOfTheStyle: the palettes repeat colours of console.css.
func TestDefaultsAreThoseOfTheStyle(t *testing.T) {
	style, err := os.ReadFile("../web/static/console.css")
	if err != nil {
		t.Fatal(err)
	}
	lightRules, darkRules, found := strings.Cut(string(style), "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("the style has no dark scheme")
	}
	darkRules, _, _ = strings.Cut(darkRules, "} }")
	for s, rules := range map[*scheme]string{&light: lightRules, &dark: darkRules} {
		for name, want := range s.defaults {
			got := regexp.MustCompile(`--` + name + `: (#[0-9a-f]+);`).FindStringSubmatch(rules)
			if got == nil {
				t.Errorf("the %s style has no --%s", s.name, name)
			} else if c, err := parseColour(got[1]); err != nil || c != want {
				t.Errorf("--%s of the %s style is %s, and here %s", name, s.name, got[1], want)
			}
		}
	}
}
