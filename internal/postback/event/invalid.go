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

package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// InvalidError describes the first mistake in a request.
type InvalidError struct {
	// Pointer is the JSON pointer (RFC 6901) of the mistake; "" means the whole document.
	Pointer string
	// Detail describes the fault and the remedy.
	Detail string
}

// Error returns the pointer and the detail.
func (e *InvalidError) Error() string {
	if e.Pointer == "" {
		return e.Detail
	}
	return e.Pointer + ": " + e.Detail
}

// maxPointer bounds the quoted part of a request, in bytes. A request may consist of one long name.
const maxPointer = 512

func invalid(pointer, format string, args ...any) error {
	if len(pointer) > maxPointer {
		pointer = strings.ToValidUTF8(pointer[:maxPointer], "") + "…"
	}
	return &InvalidError{Pointer: pointer, Detail: fmt.Sprintf(format, args...)}
}

// syntaxError turns an error of the JSON decoder into an InvalidError with a remedy.
func (d *decoder) syntaxError(err error) error {
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok && errors.Is(err, io.EOF):
		return invalid("", "the body is empty: send an event, or an array of 1 to %d events", MaxEvents)
	case !ok:
		return invalid("", "the body is not JSON")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return invalid(string(syntax.JSONPointer), "is present twice in one object: keep one of them")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid(string(syntax.JSONPointer), "the JSON document ends too early: send all of it")
	}
	return invalid(string(syntax.JSONPointer), "%v at byte %d: %s", syntax.Err, syntax.ByteOffset, d.remedy(syntax.ByteOffset))
}

func (d *decoder) remedy(offset int64) string {
	rest := d.body[min(max(offset, 0), int64(len(d.body))):]
	switch {
	case bytes.HasPrefix(rest, []byte(`\u`)):
		return `write a character beyond U+FFFF as two \u escapes, a high and a low surrogate, or as UTF-8`
	case len(rest) > 0 && rest[0] >= 0x80:
		return "encode the text as UTF-8, without a byte order mark"
	}
	return "send valid JSON (RFC 8259)"
}
