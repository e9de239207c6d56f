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

// Package nonprinting knows invisible characters, and those that change the reading of the text around them. A text of
// strangers must not be shown with them.
package nonprinting

import "unicode"

// Is reports whether a character is invisible. These are controls, formats (with the marks of direction), separators of
// lines and paragraphs, private use, variation selectors except that of emoji, and blank letters. Line feed and tab are
// among them.
func Is(r rune) bool {
	switch r {
	case 0xfe0f: // VARIATION SELECTOR-16: shows the emoji before it in colour.
		return false
	case 0x34f, 0x115f, 0x1160, 0x3164, 0xffa0, 0x2800:
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Variation_Selector)
}
