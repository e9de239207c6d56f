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

package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/endpoint"
)

// field is a field of the form that adds or edits a Postback.
type field struct {
	// Path is the path of the field in spec, with full stops.
	Path, Label, Hint, Placeholder string
	// Kind is text, number, words (a list), area, headers, or choice.
	Kind     string
	Options  []choice
	Advanced bool
	// Fixed says that the platform alone sets it.
	Fixed bool
}

var formFields = []field{
	{Path: "displayName", Label: "Display name", Kind: "text", Placeholder: "Acme CRM"},
	{Path: "url", Label: "URL", Kind: "text", Placeholder: "https://example.com/hooks", Hint: "Gets a POST for each event."},
	{Path: "triggers", Label: "Triggers", Kind: "words", Placeholder: "lead.created sale.*", Hint: "Event types, prefixes such as sale.*, or *, between spaces."},
	{Path: "filter", Label: "Filter", Kind: "area", Placeholder: "event.data.sale.amount > 1000", Hint: "CEL over the event. Empty: all are sent.", Advanced: true},
	{Path: "format", Label: "Format", Kind: "choice", Options: options("JSON", "CloudEvents", "Slack"), Advanced: true},
	{Path: "headers", Label: "Headers", Kind: "headers", Placeholder: "X-Tenant: acme\nX-Token: secret my-secret key token", Hint: "One per line. A value from a Secret: “secret NAME key KEY”. A value that stays [hidden] is unchanged.", Advanced: true},
	{Path: "signatures", Label: "Signatures", Kind: "choice", Options: []choice{{Text: "Both"}, {Value: "Dub", Text: "Dub"}, {Value: "StandardWebhooks", Text: "Standard Webhooks"}}, Advanced: true},
	{Path: "secretRef.name", Label: "Shared signing key", Kind: "text", Hint: "Name of a PostbackSecret. Empty: a key of its own.", Advanced: true},
	{Path: "timeout", Label: "Timeout", Kind: "text", Placeholder: "10s", Advanced: true},
	{Path: "retry.maxAttempts", Label: "Max attempts", Kind: "number", Placeholder: "no limit", Advanced: true},
	{Path: "retry.giveUpAfter", Label: "Give up after", Kind: "text", Placeholder: "never", Advanced: true},
	{Path: "limits.perSecond", Label: "Requests a second", Kind: "number", Placeholder: "no limit", Advanced: true},
	{Path: "limits.maxConcurrent", Label: "Requests at a time", Kind: "number", Placeholder: "16 a replica", Advanced: true},
	{Path: "limits.maxPending", Label: "Max pending", Kind: "number", Placeholder: "10000", Advanced: true},
	{Path: "history.delivered", Label: "Keep delivered", Kind: "number", Placeholder: "100", Advanced: true},
	{Path: "history.failed", Label: "Keep failed", Kind: "number", Placeholder: "100", Advanced: true},
	{Path: "history.ttl", Label: "Retention", Kind: "text", Placeholder: "168h", Advanced: true},
}

func options(values ...string) []choice {
	var all []choice
	for _, v := range values {
		all = append(all, choice{Value: v, Text: v})
	}
	return all
}

// shownField is a field with its value and its error.
type shownField struct {
	field
	Value, Error string
}

// errField means that fields have errors, which the dialog holds.
var errField = errors.New("a field is not right")

// fail records an error at the fields that the API server names, or as a general error.
func (d *dialog) fail(err error) {
	if errors.Is(err, errField) {
		return
	}
	d.Errors = map[string]string{}
	var rest []string
	if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			// The API server adds, without a field, that it did not check further rules.
			if cause.Field == "<nil>" {
				continue
			}
			path, message := causeOf(cause)
			switch at := formPath(path); {
			case at != "":
				d.Errors[at] = message
			case path != "":
				rest = append(rest, path+": "+message)
			default:
				rest = append(rest, message)
			}
		}
	}
	if len(rest) > 0 || len(d.Errors) == 0 {
		d.Error = explain(err)
		if len(rest) > 0 {
			d.Error = strings.Join(rest, "; ")
		}
	}
	for i := range d.Fields {
		d.Fields[i].Error = d.Errors[d.Fields[i].Path]
	}
}

// formPath returns the form's field for a path in an error of the API server, or "".
func formPath(path string) string {
	if path == "metadata.name" {
		return "name"
	}
	inSpec, ok := strings.CutPrefix(path, "spec.")
	for _, f := range formFields {
		if ok && (inSpec == f.Path || strings.HasPrefix(inSpec, f.Path+"[") || strings.HasPrefix(inSpec, f.Path+".") || strings.HasPrefix(f.Path, inSpec+".")) {
			return f.Path
		}
	}
	return ""
}

// valuesOf returns the form's values for a spec, with credentials hidden.
func valuesOf(spec *v1alpha1.PostbackSpec) map[string]string {
	values := map[string]string{}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(spec)
	if err != nil {
		return values
	}
	for _, f := range formFields {
		var at any = content
		for part := range strings.SplitSeq(f.Path, ".") {
			in, _ := at.(map[string]any)
			at = in[part]
		}
		switch v := at.(type) {
		case nil:
		case []any:
			values[f.Path] = listText(f, v, spec)
		default:
			values[f.Path] = fmt.Sprint(v)
			if f.Path == "url" {
				values[f.Path] = endpoint.Masked(spec.URL)
			}
		}
	}
	return values
}

func listText(f field, list []any, spec *v1alpha1.PostbackSpec) string {
	if f.Kind == "headers" {
		var lines []string
		for _, h := range spec.Headers {
			switch {
			case h.Value != nil && *h.Value != "" && endpoint.Sensitive(h.Name):
				lines = append(lines, h.Name+": "+endpoint.Hidden)
			case h.Value != nil:
				lines = append(lines, h.Name+": "+*h.Value)
			case h.ValueFrom != nil && h.ValueFrom.SecretKeyRef != nil:
				lines = append(lines, h.Name+": secret "+h.ValueFrom.SecretKeyRef.Name+" key "+h.ValueFrom.SecretKeyRef.Key)
			}
		}
		return strings.Join(lines, "\n")
	}
	if f.Kind == "choice" && len(list) > 1 {
		return ""
	}
	var texts []string
	for _, item := range list {
		texts = append(texts, fmt.Sprint(item))
	}
	return strings.Join(texts, " ")
}

// parse returns the JSON value for the text of a field; nil removes the field. Hidden values keep their value in
// spec.
func (f field) parse(text string, spec *v1alpha1.PostbackSpec) (any, error) {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	switch {
	case text == "":
		return nil, nil
	case f.Kind == "number":
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, errors.New("must be a whole number")
		}
		return n, nil
	case f.Kind == "words":
		return anys(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })), nil
	case f.Kind == "headers":
		return parseHeaders(text, spec.Headers)
	case f.Path == "url":
		return action.URL(text)
	case f.Path == "signatures":
		return []any{text}, nil
	}
	return text, nil
}

func anys(texts []string) []any {
	var all []any
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

func parseHeaders(text string, before []v1alpha1.Header) (any, error) {
	var headers []any
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%q has no colon: write NAME: VALUE", line)
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		header := map[string]any{"name": name}
		switch words := strings.Fields(value); {
		case len(words) == 4 && words[0] == "secret" && words[2] == "key":
			header["valueFrom"] = map[string]any{"secretKeyRef": map[string]any{"name": words[1], "key": words[3]}}
		case value == endpoint.Hidden:
			at := slices.IndexFunc(before, func(h v1alpha1.Header) bool { return h.Value != nil && strings.EqualFold(h.Name, name) })
			if at < 0 {
				return nil, fmt.Errorf("the header %q has no value yet: write it in place of %s", name, endpoint.Hidden)
			}
			header["value"] = *before[at].Value
		default:
			header["value"] = value
		}
		headers = append(headers, header)
	}
	return headers, nil
}

// changes returns the changes of a spec in the form, as a merge patch.
func (d *dialog) changes(before map[string]string) (map[string]any, error) {
	patch := map[string]any{}
	d.Errors = map[string]string{}
	for i := range d.Fields {
		f := &d.Fields[i]
		if f.Value == before[f.Path] {
			continue
		}
		value, err := f.parse(f.Value, &d.P.Spec)
		if err != nil {
			f.Error = err.Error()
			d.Errors[f.Path] = f.Error
			continue
		}
		at, path := patch, strings.Split(f.Path, ".")
		for _, part := range path[:len(path)-1] {
			if at[part] == nil {
				at[part] = map[string]any{}
			}
			at, _ = at[part].(map[string]any)
		}
		at[path[len(path)-1]] = value
	}
	// Without a name, the reference is removed.
	if ref, ok := patch["secretRef"].(map[string]any); ok && ref["name"] == nil {
		patch["secretRef"] = nil
	}
	if len(d.Errors) > 0 {
		return nil, errField
	}
	return patch, nil
}

// fields fills the form with the submitted text, or else with values.
func (d *dialog) fields(values map[string]string) {
	for _, f := range formFields {
		shown := shownField{field: d.rules.apply(f), Value: values[f.Path]}
		if d.Form.Has(f.Path) {
			shown.Value = strings.TrimSpace(strings.ReplaceAll(d.Form.Get(f.Path), "\r\n", "\n"))
		}
		shown.Options = slices.Clone(shown.Options)
		for i := range shown.Options {
			shown.Options[i].Chosen = shown.Options[i].Value == shown.Value
		}
		d.Fields = append(d.Fields, shown)
	}
}

// AdvancedErrors reports whether a field in the collapsed part of the form has an error.
func (d *dialog) AdvancedErrors() bool {
	return slices.ContainsFunc(d.Fields, func(f shownField) bool { return f.Advanced && f.Error != "" })
}

func prepareEdit(_ *Console, d *dialog) { d.fields(valuesOf(&d.P.Spec)) }

// doEdit changes the fields that the user changed. It fails if somebody else changed the Postback meanwhile.
func doEdit(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	// The watch may lag behind.
	if err := c.Get(ctx, client.ObjectKeyFromObject(d.P), d.P); err != nil {
		return nil, err
	}
	patch, err := d.changes(valuesOf(&d.P.Spec))
	switch {
	case err != nil:
		return nil, err
	case d.Form.Get("generation") != strconv.FormatInt(d.P.Generation, 10):
		return nil, errors.New("somebody changed this Postback since you opened the form: close it and begin again")
	}
	d.done = "Saved"
	return d.P, action.SetSpec(ctx, c, d.P, patch)
}

// manifest returns an object as YAML for Git, without requests for actions except new ones.
func manifest(object client.Object, before map[string]string) string {
	if own, ok := object.DeepCopyObject().(client.Object); ok {
		object = own
		action.DropRequests(object, before)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err.Error()
	}
	delete(content, "status")
	if meta, ok := content["metadata"].(map[string]any); ok {
		kept := map[string]any{}
		for _, name := range []string{"name", "namespace", "labels", "annotations"} {
			if meta[name] != nil {
				kept[name] = meta[name]
			}
		}
		content["metadata"] = kept
	}
	content["apiVersion"] = v1alpha1.GroupVersion.String()
	switch object.(type) {
	case *v1alpha1.Postback:
		content["kind"] = "Postback"
	case *v1alpha1.PostbackSecret:
		content["kind"] = "PostbackSecret"
	}
	text, err := yaml.Marshal(content)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
