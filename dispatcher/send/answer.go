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

// take reads an answer. Its status decides: the rest is only for the log.
func take(response *http.Response, now time.Time, hidden *secrets, attempt *v1alpha1.Attempt) {
	defer response.Body.Close()
	if code := response.StatusCode; code >= minStatusCode && code <= maxStatusCode {
		attempt.StatusCode = ptr.To(int32(code))
	}
	attempt.Outcome, attempt.Message = classifyResponse(response)
	if attempt.Outcome != v1alpha1.OutcomeSucceeded {
		attempt.RetryAfterTime = retryAfter(response.Header, now)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		// The following bytes are no body, and may never come.
		return
	}
	attempt.ResponseBody = excerpt(response, hidden)
}

// excerpt returns the beginning of a body, without the secrets. An answer that goes on beyond maxDrain, or fails, has its
// connection closed instead of reused: net/http does that when a body is closed before its end.
func excerpt(response *http.Response, hidden *secrets) string {
	if response.ContentLength == 0 {
		return "" // as of most
	}
	// The bound counts bytes of the connection; the excerpt counts decompressed bytes.
	wire := io.LimitReader(response.Body, maxDrain)
	// A secret that continues beyond the excerpt has to be found.
	text := make([]byte, v1alpha1.MaxResponseBody+hidden.longest())
	n, err := io.ReadFull(decoded(wire, response.Header.Get("Content-Encoding")), text)
	if err == nil || err == io.ErrUnexpectedEOF || err == io.EOF {
		_, _ = io.Copy(io.Discard, wire)
		// The end of the body is seen only by a read beyond it.
		_, _ = response.Body.Read(make([]byte, 1))
	}
	return validUTF8([]byte(hidden.redact(string(text[:n]), v1alpha1.MaxResponseBody)), v1alpha1.MaxResponseBody)
}

// decoded returns what a reader gives, decompressed if an endpoint compresses though it was not asked to. It buffers a
// bounded part, so that a small body that blows up to a large one costs no memory.
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

// inflate reads "deflate", which is zlib by RFC 9110, and bare DEFLATE by some servers.
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

// lazy opens a reader at its first use, because opening it reads already.
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

// validUTF8 returns at most limit bytes of b as a valid string. A character that is cut in two at the end is left out;
// bytes that are no UTF-8 are replaced.
func validUTF8(b []byte, limit int) string {
	s := strings.ToValidUTF8(string(b), "\uFFFD")
	// NUL is valid UTF-8, but unwelcome in terminals and in some clients.
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// tidy makes a message one line of bounded length.
func tidy(message string) string {
	message = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, message)
	return validUTF8([]byte(message), v1alpha1.MaxMessage)
}
