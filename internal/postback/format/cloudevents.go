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

package format

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// cloudEvent returns an event as a CloudEvent in structured mode, in the JSON format of CloudEvents 1.0. An event
// that arrived as a CloudEvent keeps its id, source and further attributes; any other has the source of its
// namespace. The time has milliseconds. The media type of the data is always application/json, because widely used
// receivers do not read JSON under another type. The data has exactly the posted bytes.
func cloudEvent(namespace string, e *event.Event) ([]byte, error) {
	more := event.CloudEvent{ID: e.ID, Source: namespaceSource(namespace)}
	if e.CloudEvent != nil {
		more = *e.CloudEvent
	}
	body := make([]byte, 0, len(e.Data)+512)
	body = append(body, `{"specversion":"`+event.CloudEventsVersion+`"`...)
	for _, attribute := range []struct{ name, value string }{
		{"id", more.ID},
		{"source", more.Source},
		{"type", e.Type},
		{"subject", more.Subject},
		{"time", e.CreatedAt.UTC().Format(event.TimeFormat)},
		{"dataschema", more.DataSchema},
		{"datacontenttype", "application/json"},
	} {
		if attribute.value == "" {
			continue
		}
		body = append(body, `,"`+attribute.name+`":`...)
		var err error
		if body, err = jsontext.AppendQuote(body, attribute.value); err != nil {
			return nil, fmt.Errorf("write the attribute %s of a CloudEvent: %w", attribute.name, err)
		}
	}
	for _, extension := range more.Extensions {
		body = append(body, `,"`+extension.Name+`":`+extension.Value...)
	}
	body = append(body, `,"data":`...)
	body = append(body, e.Data...)
	return append(body, '}'), nil
}

// namespaceSource returns the CloudEvents source of a namespace's events: a URI reference that never changes.
func namespaceSource(namespace string) string {
	return "/apis/" + v1alpha1.GroupVersion.Group + "/namespaces/" + namespace
}
