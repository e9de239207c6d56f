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

// Package decode decodes the events of a request body according to its headers: JSON events, and CloudEvents in each
// JSON mode. The doors write the answer.
package decode

import (
	"fmt"
	"mime"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/internal/postback/event"
)

const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
	cePrefix       = "Ce-"

	// IdempotencyKey is the header that gives events without ids the same ids each time they are posted.
	IdempotencyKey    = "Idempotency-Key"
	maxIdempotencyKey = 255
)

// AcceptedTypes are the accepted media types, for the header Accept-Post.
const AcceptedTypes = "application/json, " + structuredType + ", " + batchType

// Decoder decodes the events of a body.
type Decoder struct {
	// Decode returns the events of a body that arrived at a time. Its error is one of package event.
	Decode func(body []byte, now time.Time) ([]event.Posted, error)
	// CloudEvents is true if the producer sends CloudEvents.
	CloudEvents bool
}

// New returns the Decoder that a header asks for. The error is an *UnsupportedError, an *InvalidKeyError, or an error
// about the attributes of a CloudEvent.
func New(header textproto.MIMEHeader, namespace string) (*Decoder, error) {
	if len(header.Values("Content-Type")) > 1 {
		return nil, unsupported()
	}
	contentType := header.Get("Content-Type")
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	charset, ok := parameters["charset"]
	if contentType != "" && err != nil || ok && !strings.EqualFold(charset, "utf-8") {
		return nil, unsupported()
	}
	isJSON := mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
	switch {
	case mediaType == structuredType, mediaType == batchType:
		return &Decoder{CloudEvents: true, Decode: func(body []byte, now time.Time) ([]event.Posted, error) {
			return event.DecodeCloudEvents(body, mediaType == batchType, now)
		}}, nil
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return nil, unsupported() // CloudEvents in another format than JSON.
	case IsBinary(header) && (isJSON || contentType == ""):
		return binaryDecoder(header)
	case mediaType != "application/json":
		return nil, unsupported()
	}
	newID, err := idMaker(header, namespace)
	if err != nil {
		return nil, err
	}
	return &Decoder{Decode: func(body []byte, now time.Time) ([]event.Posted, error) {
		return event.Decode(body, now, newID)
	}}, nil
}

// UnsupportedError reports a media type other than JSON in UTF-8.
type UnsupportedError struct{}

func (*UnsupportedError) Error() string {
	return "Send JSON in UTF-8, with Content-Type: application/json; or CloudEvents in JSON."
}

func unsupported() error { return &UnsupportedError{} }

// InvalidKeyError reports an invalid Idempotency-Key, or more than one.
type InvalidKeyError struct{}

func (*InvalidKeyError) Error() string {
	return fmt.Sprintf("Send one %s of 1 to %d printable ASCII characters, or none.", IdempotencyKey, maxIdempotencyKey)
}

// IsBinary reports whether a header has any required attribute of a CloudEvent. One is enough: an error then names
// the missing attributes of a CloudEvent, not the fields of an event.
func IsBinary(header textproto.MIMEHeader) bool {
	for _, name := range []string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type"} {
		if len(header.Values(name)) > 0 {
			return true
		}
	}
	return false
}

func binaryDecoder(header textproto.MIMEHeader) (*Decoder, error) {
	attributes := map[string]string{}
	for name, values := range header {
		attribute, ok := strings.CutPrefix(name, cePrefix)
		if !ok {
			continue
		}
		attribute = strings.ToLower(attribute)
		switch {
		case len(values) > 1:
			return nil, fmt.Errorf("the header %s is present %d times: send it once", name, len(values))
		case attribute == "datacontenttype":
			return nil, fmt.Errorf("the header %s is not used: send Content-Type", name)
		}
		attributes[attribute] = headerValue(values[0])
	}
	if contentType := header.Get("Content-Type"); contentType != "" {
		attributes["datacontenttype"] = contentType
	}
	return &Decoder{CloudEvents: true, Decode: func(body []byte, now time.Time) ([]event.Posted, error) {
		return event.DecodeBinaryCloudEvent(attributes, body, now)
	}}, nil
}

// headerValue returns the value of a CloudEvents attribute in a header, unquoted and percent-decoded (HTTP protocol
// binding of CloudEvents 1.0, 3.1.3.2). An invalid percent escape stays as it is, because some producers do not
// encode.
func headerValue(text string) string {
	if len(text) > 1 && strings.HasPrefix(text, `"`) && strings.HasSuffix(text, `"`) {
		text = unquoted(text[1 : len(text)-1])
	}
	decoded, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return decoded
}

// unquoted removes the backslash of each quoted pair (RFC 9110, 5.6.4).
func unquoted(text string) string {
	var b strings.Builder
	escaped := false
	for _, r := range text {
		if r == '\\' && !escaped {
			escaped = true
			continue
		}
		escaped = false
		b.WriteRune(r)
	}
	return b.String()
}

// idMaker returns a function that makes the ids of events without one. With an Idempotency-Key, ids are derived from
// the key, the namespace and the index of the event: a repeated request gets the same ids.
func idMaker(header textproto.MIMEHeader, namespace string) (func(index int) string, error) {
	keys := header.Values(IdempotencyKey)
	if len(keys) == 0 {
		return func(int) string { return event.NewID() }, nil
	}
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, NotPrintable) {
		return nil, &InvalidKeyError{}
	}
	return func(index int) string {
		return event.DerivedID("idempotency", namespace, key, strconv.Itoa(index))
	}, nil
}

// NotPrintable reports whether a character is not printable ASCII.
func NotPrintable(r rune) bool { return r < ' ' || r > '~' }
