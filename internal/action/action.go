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

// Package action writes the requests and changes of users, each as one patch under the caller's own rights, like
// kubectl annotate and kubectl patch. The kubectl plugin and the console share it.
package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// Token returns a readable value for an annotation that makes one request: the time in RFC 3339 with nanoseconds.
func Token(now time.Time) string { return now.UTC().Format(time.RFC3339Nano) }

// patch merges fields into an object, which it replaces by the API server's answer.
func patch(ctx context.Context, c client.Client, object client.Object, fields map[string]any) error {
	data, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("write the patch: %w", err)
	}
	return c.Patch(ctx, object, client.RawPatch(types.MergePatchType, data), client.FieldOwner(v1alpha1.PluginFieldOwner))
}

// annotate sets annotations; a nil value removes one.
func annotate(ctx context.Context, c client.Client, object client.Object, annotations map[string]any) error {
	return patch(ctx, c, object, map[string]any{"metadata": map[string]any{"annotations": annotations}})
}

// SetSpec merges fields, by their JSON names, into an object's spec. A nil value removes a field.
func SetSpec(ctx context.Context, c client.Client, object client.Object, fields map[string]any) error {
	return patch(ctx, c, object, map[string]any{"spec": fields})
}

// SetState enables, pauses or disables a Postback.
func SetState(ctx context.Context, c client.Client, p *v1alpha1.Postback, state v1alpha1.PostbackState) error {
	return SetSpec(ctx, c, p, map[string]any{"state": state})
}

// bareHost matches a host without a scheme, optionally followed by a port, path or query.
var bareHost = regexp.MustCompile(`^(\[[^\]]*\]|[^:/?#]+)(:[0-9]+)?([/?#]|$)`)

// URL completes and validates a URL that a user types: a bare host gets https://. The error names the wrong part.
func URL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if strings.Contains(text, endpoint.Hidden) {
		return "", errors.New("the URL holds " + endpoint.Hidden + ": write the value that belongs there")
	}
	if bareHost.MatchString(text) {
		text = "https://" + text
	}
	if mistake := endpoint.Mistake(text); mistake != "" {
		return "", errors.New("the URL " + mistake)
	}
	return text, nil
}

// Test is the request for a test event.
type Test struct {
	// Request is the annotation's value. The Postback's status repeats it once it is handled.
	Request string
	// Delivery is the name of the test event's PostbackDelivery.
	Delivery string
}

// SendTest requests a test event of a type that the Postback's triggers select. data is a JSON object, or nil for the
// sample. Each token makes one request.
func SendTest(ctx context.Context, c client.Client, p *v1alpha1.Postback, eventType string, data []byte, token string) (Test, error) {
	if err := CheckTest(p, eventType, data); err != nil {
		return Test{}, err
	}
	request := eventType + "/" + token
	annotations := map[string]any{v1alpha1.SendTestAnnotation: request, v1alpha1.SendTestDataAnnotation: nil}
	if data != nil {
		annotations[v1alpha1.SendTestDataAnnotation] = string(data)
	}
	if err := annotate(ctx, c, p, annotations); err != nil {
		return Test{}, err
	}
	return Test{Request: request, Delivery: testDelivery(p, request)}, nil
}

// CheckTest returns the reason why the manager would refuse a test event, or nil.
func CheckTest(p *v1alpha1.Postback, eventType string, data []byte) error {
	switch {
	case !event.ValidType(eventType):
		return fmt.Errorf("%q is not an event type, such as lead.created", eventType)
	case !route.Subscribed(p.Spec.Triggers, eventType):
		return fmt.Errorf("no trigger of postback %q selects %s: its triggers are %s", p.Name, eventType, Triggers(p.Spec.Triggers))
	case data == nil:
		return nil
	}
	if _, err := event.DecodeData(data); err != nil {
		return fmt.Errorf("the data of the test event: %w", err)
	}
	return nil
}

// testDelivery returns the name that the operator gives to the PostbackDelivery of a test event.
func testDelivery(p *v1alpha1.Postback, request string) string {
	reference := v1alpha1.PostbackReference{Name: p.Name, UID: p.UID}
	return delivery.Name(reference, event.TestID(string(p.UID), request))
}

// TestTypes returns event types to choose from: those that the triggers name, and selected types with a complete
// sample. Users have to type other types that a pattern selects.
func TestTypes(triggers []v1alpha1.Trigger) []string {
	var found []string
	for _, trigger := range triggers {
		if event.ValidType(string(trigger)) {
			found = append(found, string(trigger))
		}
	}
	for _, sampled := range event.SampleTypes {
		if route.Subscribed(triggers, sampled) && !slices.Contains(found, sampled) {
			found = append(found, sampled)
		}
	}
	return found
}

// Triggers returns the triggers as text, separated by commas.
func Triggers(triggers []v1alpha1.Trigger) string {
	text := make([]string, len(triggers))
	for i, trigger := range triggers {
		text[i] = string(trigger)
	}
	return strings.Join(text, ", ")
}

// Redeliver requests a new attempt of a delivery at once.
func Redeliver(ctx context.Context, c client.Client, d *v1alpha1.PostbackDelivery, token string) error {
	return annotate(ctx, c, d, map[string]any{v1alpha1.RedeliverAnnotation: token})
}

// RedeliverSince requests new attempts of a Postback's failed and unfinished deliveries that were made at since or
// later. It returns the annotation's value, which the status repeats in redelivery.request.
func RedeliverSince(ctx context.Context, c client.Client, p *v1alpha1.Postback, since, now time.Time) (request string, err error) {
	switch {
	case since.After(now):
		return "", errors.New("the time from which on to redeliver lies in the future")
	case now.Sub(since) > v1alpha1.MaxRedeliverSince:
		return "", errors.New("deliveries can be sent again for a year at most: choose a later time")
	}
	request = since.UTC().Format(time.RFC3339) + "/" + Token(now)
	return request, annotate(ctx, c, p, map[string]any{v1alpha1.RedeliverSinceAnnotation: request})
}

// Rotate requests a new signing key of a PostbackSecret.
func Rotate(ctx context.Context, c client.Client, s *v1alpha1.PostbackSecret, token string) error {
	return annotate(ctx, c, s, map[string]any{v1alpha1.RotateSecretAnnotation: token})
}

// SetOverlap sets how long replaced keys of a PostbackSecret keep signing, including keys that are replaced already.
func SetOverlap(ctx context.Context, c client.Client, s *v1alpha1.PostbackSecret, overlap time.Duration) error {
	return SetSpec(ctx, c, s, map[string]any{"rotation": map[string]any{"overlap": metav1.Duration{Duration: overlap}}})
}
