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
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// CloudEventsVersion is the supported version of the CloudEvents specification.
const CloudEventsVersion = "1.0"

const (
	// maxAttribute bounds the value of a CloudEvents attribute, in bytes.
	maxAttribute = 2048
	// maxExtensions bounds the number of extension attributes of a CloudEvent.
	maxExtensions = 32
)

// CloudEvent contains the attributes of a CloudEvent other than its type, time and data.
type CloudEvent struct {
	// ID is the id that the producer gave. Event.ID is derived from ID and Source, which together identify a
	// CloudEvent.
	ID, Source string
	// Subject and DataSchema are "" if the event has none.
	Subject, DataSchema string
	// Extensions are sorted by name.
	Extensions []Extension
}

// Extension is an extension attribute of a CloudEvent.
type Extension struct {
	Name string
	// Value is JSON: a string, a boolean or an integer.
	Value string
}

// cloudEvent collects the attributes of a CloudEvent while it is read.
type cloudEvent struct {
	Posted
	more        CloudEvent
	specVersion string
}

// extensionPattern matches the attribute names that the specification allows. It permits 64 characters; the
// specification recommends at most 20.
var extensionPattern = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// contextAttributes are the attributes that the specification defines.
var contextAttributes = []string{"specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"}

// set sets an attribute from a string. It returns the fault of the value, or "".
func (c *cloudEvent) set(name, value string) (problem string) {
	if problem := checkAttribute(value); problem != "" {
		return problem
	}
	switch name {
	case "specversion":
		c.specVersion = value
		return unless(value == CloudEventsVersion, "must be "+CloudEventsVersion+", the supported version of CloudEvents")
	case "id":
		c.more.ID = value
	case "source":
		c.more.Source = value
		return unless(isReference(value), "must be a URI reference (RFC 3986), such as /shop/orders")
	case "type":
		c.Type = value
		return unless(ValidType(value), "must be an event type such as lead.created: at most 63 letters, digits, _ and -, in segments joined by full stops")
	case "time":
		c.CreatedAt, c.CreatedAtGiven = parseTime(value)
		return unless(c.CreatedAtGiven, timeDetail)
	case "subject":
		c.more.Subject = value
	case "dataschema":
		c.more.DataSchema = value
		return unless(isAbsoluteURI(value), "must be an absolute URI (RFC 3986)")
	case "datacontenttype":
		return unless(isJSON(value), "must be application/json, or end in +json, in UTF-8: endpoints get the data as JSON")
	}
	return ""
}

func unless(ok bool, problem string) string {
	if ok {
		return ""
	}
	return problem
}

// isReference reports whether a string is a URI reference that is not empty. "#" counts as empty, as in receivers.
func isReference(s string) bool {
	reference, err := url.Parse(s)
	return err == nil && reference.String() != ""
}

func isAbsoluteURI(s string) bool {
	uri, err := url.Parse(s)
	return err == nil && uri.IsAbs()
}

// extend adds an extension attribute with a JSON value. It returns the fault of the attribute, or "".
func (c *cloudEvent) extend(name, value string) (problem string) {
	switch {
	case !extensionPattern.MatchString(name) || name == "data":
		return "is not the name of a CloudEvents attribute: use lower-case letters and digits, at most 64"
	case len(c.more.Extensions) == maxExtensions:
		return fmt.Sprintf("exceeds the %d extension attributes of an event: put your own fields into the data", maxExtensions)
	}
	c.more.Extensions = append(c.more.Extensions, Extension{name, value})
	return ""
}

// extendText adds an extension attribute with a string value. It returns the fault of the attribute, or "".
func (c *cloudEvent) extendText(name, value string) (problem string) {
	if problem := checkAttribute(value); problem != "" {
		return problem
	}
	quoted, err := jsontext.AppendQuote(nil, value)
	if err != nil {
		return "must be text in UTF-8"
	}
	return c.extend(name, string(quoted))
}

// missing returns the first missing required attribute and the remedy, or "".
func (c *cloudEvent) missing() (name, remedy string) {
	switch {
	case c.specVersion == "":
		return "specversion", "is missing: send " + CloudEventsVersion
	case c.more.ID == "":
		return "id", "is missing: give the event an id that is unique among the events of its source"
	case c.more.Source == "":
		return "source", "is missing: name the origin of the event by a URI reference, such as /shop/orders"
	case c.Type == "":
		return "type", "is missing: name the type of the event, such as lead.created"
	}
	return "", ""
}

// checkAttribute returns the fault of a string value, or "". The specification forbids control characters,
// noncharacters and empty values. White space alone counts as empty, as in receivers.
func checkAttribute(value string) string {
	switch {
	case strings.TrimSpace(value) == "":
		return "must not be empty: omit it"
	case len(value) > maxAttribute:
		return fmt.Sprintf("is longer than %d bytes: put long values into the data", maxAttribute)
	case !utf8.ValidString(value):
		return "must be text in UTF-8"
	case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || isNoncharacter(r) }):
		return "must contain neither control characters nor Unicode noncharacters"
	}
	return ""
}

func isNoncharacter(r rune) bool { return r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef }

// isJSON reports whether a media type is JSON in UTF-8, other than that of a CloudEvent.
func isJSON(contentType string) bool {
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	charset, ok := parameters["charset"]
	return err == nil && (mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")) &&
		!strings.HasPrefix(mediaType, "application/cloudevents") && (!ok || strings.EqualFold(charset, "utf-8"))
}
