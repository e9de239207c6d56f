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
	"math"
	"regexp"
	"strconv"
	"strings"
)

// colour is a colour of sRGB, without transparency.
type colour struct{ r, g, b uint8 }

var (
	white = colour{255, 255, 255}
	black = colour{10, 10, 12}

	hexDigits = regexp.MustCompile(`^#(?:[0-9a-f]{3}|[0-9a-f]{6})$`)
	functions = regexp.MustCompile(`^rgb\(\s*(\d{1,3})(?:\s*,\s*|\s+)(\d{1,3})(?:\s*,\s*|\s+)(\d{1,3})\s*\)$`)
)

// parseColour parses a colour of CSS: #rgb, #rrggbb or rgb(r, g, b).
func parseColour(text string) (colour, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if hexDigits.MatchString(text) {
		digits := text[1:]
		if len(digits) == len("rgb") {
			digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
		}
		n, err := strconv.ParseUint(digits, 16, 32)
		return colour{uint8(n >> 16), uint8(n >> 8), uint8(n)}, err
	}
	if parts := functions.FindStringSubmatch(text); parts != nil {
		var c [3]uint8
		for i, part := range parts[1:] {
			n, err := strconv.ParseUint(part, 10, 8)
			if err != nil {
				return colour{}, fmt.Errorf("%q is no colour: numbers of rgb() are from 0 to 255", text)
			}
			c[i] = uint8(n)
		}
		return colour{c[0], c[1], c[2]}, nil
	}
	return colour{}, fmt.Errorf("%q is no colour: use #rgb, #rrggbb or rgb(r, g, b)", text)
}

// String returns the colour as CSS.
func (c colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c.r, c.g, c.b) }

// mix returns a colour with a share, from 0 to 1, of another one.
func mix(c, other colour, share float64) colour {
	part := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-share) + float64(b)*share)) }
	return colour{part(c.r, other.r), part(c.g, other.g), part(c.b, other.b)}
}

// luminance is the relative luminance of WCAG 2.
func (c colour) luminance() float64 {
	linear := func(part uint8) float64 {
		s := float64(part) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.r) + 0.7152*linear(c.g) + 0.0722*linear(c.b)
}

// contrast is the contrast ratio of WCAG 2, from 1 to 21.
func contrast(a, b colour) float64 {
	light, dark := a.luminance(), b.luminance()
	if light < dark {
		light, dark = dark, light
	}
	return (light + 0.05) / (dark + 0.05)
}

// readable reports whether text of a colour has the contrast that WCAG AA requires on each ground.
func readable(text colour, grounds ...colour) bool {
	for _, ground := range grounds {
		if contrast(text, ground) < leastContrast {
			return false
		}
	}
	return true
}

// toward mixes as much of another colour into c as leaves the result acceptable, and at most a share.
func toward(c, other colour, share float64, acceptable func(colour) bool) colour {
	const step = 0.01
	for ; share > 0; share -= step {
		if mixed := mix(c, other, share); acceptable(mixed) {
			return mixed
		}
	}
	return c
}

// away mixes as little of another colour into c as makes the result acceptable.
func away(c, other colour, acceptable func(colour) bool) colour {
	const step = 0.01
	for share := 0.0; share < 1; share += step {
		if mixed := mix(c, other, share); acceptable(mixed) {
			return mixed
		}
	}
	return other
}
