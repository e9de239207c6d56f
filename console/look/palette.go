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
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// leastContrast is that of WCAG AA for text.
	leastContrast = 4.5

	// Names of the custom properties in console.css.
	accent       = "accent"
	accentSoft   = "accent-soft"
	accentStrong = "accent-strong"
	background   = "bg"
	calmSoft     = "calm-soft"
	faint        = "faint"
	onAccent     = "on-accent"
	soft         = "soft"
	sunk         = "sunk"
	surface      = "surface"
	text         = "text"
)

// palette has the colours of a scheme by the names of their custom properties.
type palette map[string]colour

// scheme is the light or the dark scheme of the pages.
type scheme struct {
	name     string
	defaults palette
	// opposite is the end of the scale that text tends to.
	opposite colour
}

// light and dark have the colours of console.css that a look changes or needs.
var light, dark = scheme{"light", parsePalette(
	"bg #f8f8f6 surface #fff sunk #f2f1ee line #e5e3de line-strong #cfccc4 text #1b1b19 soft #53524c faint #6b6962 accent #3350d8 " +
		"accent-strong #2540bd on-accent #fff accent-soft #eceffc good #17663f warn #7f4600 bad #ad241c calm #53524c calm-soft #efeeea range #b9c4f6"), black}, scheme{"dark", parsePalette(
	"bg #0f1012 surface #17181b sunk #1d1f23 line #292b30 line-strong #41444b text #ededea soft #b7b7b1 faint #96968f accent #93a5ff " +
		"accent-strong #b0bdff on-accent #11152b accent-soft #1f2648 good #75d6a4 warn #f0b764 bad #ff938b calm #b7b7b1 calm-soft #26282c range #3a4788"), white}

func parsePalette(pairs string) palette {
	words, p := strings.Fields(pairs), palette{}
	for i := 0; i+1 < len(words); i += 2 {
		// A test compares the palettes with console.css.
		p[words[i]], _ = parseColour(words[i+1])
	}
	return p
}

// grounds are the colours that text stands on.
func (p palette) grounds() []colour { return []colour{p[background], p[surface], p[sunk], p[calmSoft]} }

// fields are the colours that a look may set, by the name in its ConfigMap, with their custom property.
var fields = map[string]string{"accent": accent, "background": background, "surface": surface, "text": text}

// complete returns the colours of a scheme in which a platform chose some, and the errors of those that cannot be
// read. Colours that depend on the chosen ones follow them.
func (s scheme) complete(chosen palette) (palette, []error) {
	p := maps.Clone(s.defaults)
	maps.Copy(p, chosen)
	if len(chosen) == 0 {
		return p, nil
	}
	_, hasAccent := chosen[accent]
	if !hasAccent || len(chosen) > 1 {
		s.completeGrounds(p)
	}
	p[onAccent] = white
	if !readable(white, p[accent]) {
		p[onAccent] = black
	}
	end := black
	if p[onAccent] == black {
		end = white
	}
	p[accentStrong] = mix(p[accent], end, 0.15)
	p[accentSoft] = toward(p[surface], p[accent], 0.12, func(c colour) bool { return readable(p[accent], c) && readable(p[text], c) })
	p["range"] = mix(p[surface], p[accent], 0.35)
	return p, s.judge(p, chosen)
}

// completeGrounds derives what depends on background, surface and text.
func (s scheme) completeGrounds(p palette) {
	p[sunk] = mix(p[surface], p[text], 0.05)
	p["line"], p["line-strong"], p[calmSoft] = mix(p[surface], p[text], 0.11), mix(p[surface], p[text], 0.22), mix(p[surface], p[text], 0.07)
	legible := func(c colour) bool { return readable(c, p[background], p[surface], p[sunk], p[calmSoft]) }
	p[soft] = toward(p[text], p[surface], 0.25, legible)
	p[faint] = toward(p[text], p[surface], 0.4, legible)
	p["calm"] = p[soft]
}

// judge returns an error for each chosen colour without enough contrast.
func (s scheme) judge(p, chosen palette) []error {
	names := []string{"background", "surface", "sunken surface", "surface of notes"}
	// The blame falls on the first of the fields that the platform chose.
	checks := []struct {
		property string
		blamed   []string
	}{
		{accent, []string{"accent", "surface", "background"}},
		{text, []string{"text", "surface", "background"}},
		{"good", []string{"surface", "background", "text"}},
		{"warn", []string{"surface", "background", "text"}},
		{"bad", []string{"surface", "background", "text"}},
	}
	var errs []error
	for _, check := range checks {
		at := slices.IndexFunc(check.blamed, func(field string) bool { _, ok := chosen[fields[field]]; return ok })
		if at < 0 {
			continue
		}
		for i, ground := range p.grounds() {
			if ratio := contrast(p[check.property], ground); ratio < leastContrast {
				field := check.blamed[at]
				errs = append(errs, fmt.Errorf("%s.%s is %s: the contrast of the colour %s %s with the %s %s is %.1f:1, and must be %.1f:1 or more; choose a %s colour",
					s.name, field, chosen[fields[field]], check.property, p[check.property], names[i], ground, ratio, leastContrast, s.advice(field)))
				break
			}
		}
	}
	return errs
}

// advice returns which colour has more contrast: colours of text tend to the one end, and those of grounds to the
// other.
func (s scheme) advice(field string) string {
	ground := field == "background" || field == "surface"
	if (s.opposite == black) != ground {
		return "darker"
	}
	return "lighter"
}

// css returns the custom properties of a palette that differ from the defaults.
func (s scheme) css(p palette) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if p[name] != s.defaults[name] {
			fmt.Fprintf(&b, " --%s: %s;", name, p[name])
		}
	}
	return b.String()
}
