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

// Package format renders an event into the body that an endpoint gets.
package format

import (
	"fmt"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// Body returns the body for an event of a namespace in a format; "" means JSON. The same event in the same format
// always gives the same bytes. An unknown format is an error.
func Body(f v1alpha1.PayloadFormat, namespace string, e *event.Event) ([]byte, error) {
	switch f {
	case "", v1alpha1.FormatJSON:
		return e.Body(), nil
	case v1alpha1.FormatCloudEvents:
		return cloudEvent(namespace, e)
	case v1alpha1.FormatSlack:
		return slack(e)
	}
	return nil, fmt.Errorf("the format %q is not known: a newer version of this program may know it", f)
}

// ContentType returns the media type of a format. Slack messages are plain JSON.
func ContentType(f v1alpha1.PayloadFormat) string {
	if f == v1alpha1.FormatCloudEvents {
		return "application/cloudevents+json; charset=UTF-8"
	}
	return "application/json"
}
