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

package ingest

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/event"
)

const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
	cePrefix       = "Ce-"
)

// acceptedTypes is what may be posted, for the header Accept-Post.
const acceptedTypes = "application/json, " + structuredType + ", " + batchType

// decoder reads the events of a body.
type decoder struct {
	decode func(body []byte, now time.Time) ([]event.Posted, error)
	// cloudEvents is true if the sender speaks CloudEvents.
	cloudEvents bool
}

// newDecoder returns how to read a request, by its header, or a refusal.
func newDecoder(header http.Header, namespace string) (*decoder, *answer) {
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
		return &decoder{cloudEvents: true, decode: func(body []byte, now time.Time) ([]event.Posted, error) {
			return event.DecodeCloudEvents(body, mediaType == batchType, now)
		}}, nil
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return nil, unsupported() // another format than JSON
	case isBinaryMode(header) && (isJSON || contentType == ""):
		return binaryDecoder(header)
	case mediaType != "application/json":
		return nil, unsupported()
	}
	newID, a := idMaker(header, namespace)
	if a != nil {
		return nil, a
	}
	return &decoder{decode: func(body []byte, now time.Time) ([]event.Posted, error) {
		return event.Decode(body, now, newID)
	}}, nil
}

func unsupported() *answer {
	return refuse(unsupportedMediaType, "Send JSON in UTF-8, with Content-Type: application/json; or CloudEvents in JSON.").with("Accept-Post", acceptedTypes)
}

// isBinaryMode reports whether a header holds any required attribute of a CloudEvent: with one of them the others are
// missed, rather than the fields of another kind of event.
func isBinaryMode(header http.Header) bool {
	for _, name := range []string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type"} {
		if len(header.Values(name)) > 0 {
			return true
		}
	}
	return false
}

func binaryDecoder(header http.Header) (*decoder, *answer) {
	attributes := map[string]string{}
	for name, values := range header {
		attribute, ok := strings.CutPrefix(name, cePrefix)
		if !ok {
			continue
		}
		attribute = strings.ToLower(attribute)
		switch {
		case len(values) > 1:
			return nil, invalidAnswer(fmt.Errorf("the header %s stands %d times: send it once", name, len(values)))
		case attribute == "datacontenttype":
			return nil, invalidAnswer(fmt.Errorf("the header %s is not used: send Content-Type", name))
		}
		attributes[attribute] = headerValue(values[0])
	}
	if contentType := header.Get("Content-Type"); contentType != "" {
		attributes["datacontenttype"] = contentType
	}
	return &decoder{cloudEvents: true, decode: func(body []byte, now time.Time) ([]event.Posted, error) {
		return event.DecodeBinaryCloudEvent(attributes, body, now)
	}}, nil
}

// headerValue returns the value of an attribute that stands in a header: without quotes around it, and with what is
// percent-encoded decoded (HTTP protocol binding of CloudEvents 1.0, 3.1.3.2). A percent sign that encodes nothing stays,
// because there are senders that do not encode.
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

// unquoted takes the backslash from each quoted pair (RFC 9110, 5.6.4).
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

// wantsBody reports whether a sender of CloudEvents asks for the answer's body. A Knative Broker takes a body of an
// answer that is no CloudEvent for a failure, so that there is none unless it is asked for by name.
func wantsBody(header http.Header) bool {
	for _, value := range header.Values("Accept") {
		for accepted := range strings.SplitSeq(value, ",") {
			if mediaType, _, err := mime.ParseMediaType(accepted); err == nil && mediaType == "application/json" {
				return true
			}
		}
	}
	return false
}
