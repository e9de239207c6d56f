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

// Package nonprinting detects invisible characters, and those that change how the text around them reads. Text from
// outside must not be shown with them.
package nonprinting

import "unicode"

// Is reports whether a character is nonprinting. The nonprinting characters are controls (also line feed and tab),
// format characters such as direction marks, line and paragraph separators, private use, blank letters, and variation
// selectors except that of emoji.
func Is(r rune) bool {
	switch r {
	case 0xfe0f: // VARIATION SELECTOR-16: shows the emoji before it in colour.
		return false
	case 0x34f, 0x115f, 0x1160, 0x3164, 0xffa0, 0x2800:
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Variation_Selector)
}
