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

package send

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// take applies a response to an attempt. Only its status decides the outcome; the rest is for the record.
func take(response *http.Response, now time.Time, hidden func() *secrets, attempt *v1alpha1.Attempt) {
	defer response.Body.Close()
	if code := response.StatusCode; code >= minStatusCode && code <= maxStatusCode {
		attempt.StatusCode = ptr.To(int32(code))
	}
	attempt.Outcome, attempt.Message = classifyResponse(response)
	if attempt.Outcome != v1alpha1.OutcomeSucceeded {
		attempt.RetryAfterTime = retryAfter(response.Header, now)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		// The bytes that follow a 101 are not a body, and may never come.
		return
	}
	attempt.ResponseBody = excerpt(response, hidden)
}

// excerpt returns the beginning of a body without the secrets. If the body is longer than maxDrain, or fails, its
// connection is not reused: net/http closes the connection of a body that is closed before its end.
func excerpt(response *http.Response, hidden func() *secrets) string {
	if response.ContentLength == 0 {
		return "" // Most responses have no body.
	}
	// maxDrain counts bytes on the wire, the excerpt counts decompressed bytes.
	wire := io.LimitReader(response.Body, maxDrain)
	// The text must contain the whole of a secret that crosses the end of the excerpt.
	text := make([]byte, v1alpha1.MaxResponseBody+hidden().longest())
	n, err := io.ReadFull(decoded(wire, response.Header.Get("Content-Encoding")), text)
	if err == nil || err == io.ErrUnexpectedEOF || err == io.EOF {
		_, _ = io.Copy(io.Discard, wire)
		// net/http notices the end of the body only at a read beyond it.
		_, _ = response.Body.Read(make([]byte, 1))
	}
	return validUTF8([]byte(hidden().redact(string(text[:n]), v1alpha1.MaxResponseBody)), v1alpha1.MaxResponseBody)
}

// decoded decompresses a body if the endpoint compressed it unasked. It buffers a bounded amount, so a decompression
// bomb takes no memory.
func decoded(r io.Reader, encoding string) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "gzip", "x-gzip":
		return &lazy{open: func() (io.Reader, error) { return gzip.NewReader(r) }}
	case "deflate":
		return &lazy{open: func() (io.Reader, error) { return inflate(r) }}
	default:
		return r
	}
}

// inflate decodes "deflate": zlib according to RFC 9110, bare DEFLATE from some servers.
func inflate(r io.Reader) (io.Reader, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	whole := io.MultiReader(strings.NewReader(string(head[:])), r)
	const zlibMethod, zlibModulus = 8, 31
	if head[0]&0x0f == zlibMethod && (uint(head[0])<<8|uint(head[1]))%zlibModulus == 0 {
		return zlib.NewReader(whole)
	}
	return flate.NewReader(whole), nil
}

// lazy opens a decompressor at the first read, because opening it already reads.
type lazy struct {
	open func() (io.Reader, error)
	r    io.Reader
}

// Read implements io.Reader.
func (l *lazy) Read(b []byte) (int, error) {
	if l.r == nil {
		var err error
		if l.r, err = l.open(); err != nil {
			return 0, err
		}
	}
	return l.r.Read(b)
}

// validUTF8 returns at most limit bytes of b as valid UTF-8. It drops a character that is cut at the end and replaces
// invalid bytes.
func validUTF8(b []byte, limit int) string {
	s := strings.ToValidUTF8(string(b), "\uFFFD")
	// NUL is valid UTF-8, but terminals and some clients cannot handle it.
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// tidy puts a message on one line and bounds its length.
func tidy(message string) string {
	message = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, message)
	return validUTF8([]byte(message), v1alpha1.MaxMessage)
}
