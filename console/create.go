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
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
)

// create shows the form that adds a Postback, and creates the Postback.
func (c *Console) create(w http.ResponseWriter, r *http.Request) {
	if !readForm(w, r) {
		return
	}
	d := &dialog{P: &v1alpha1.Postback{}, Path: r.URL.Path, Form: r.Form, OneNamespace: c.namespace != "", rules: c.rules}
	d.P.Namespace = cmp.Or(c.namespace, strings.TrimSpace(r.FormValue("namespace")))
	d.P.Name = strings.TrimSpace(r.FormValue("name"))
	d.fields(map[string]string{"format": string(v1alpha1.FormatJSON)})
	d.Refused = c.rights.create(r.Context(), d.P.Namespace)
	if r.Method == http.MethodPost && d.Refused == "" {
		c.perform(r, act{do: doCreate, after: afterCreate}, d)
	}
	template := "dialog-edit"
	if d.Show {
		template = "dialog-added"
	}
	c.answer(w, r, template, d)
}

// New reports whether the form adds a Postback.
func (d *dialog) New() bool { return d.P.UID == "" }

// doCreate sends the input unchanged, so that the API server validates it.
func doCreate(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	spec, err := d.changes(nil)
	if err != nil && !errors.Is(err, errField) {
		return nil, err
	}
	// The form shows the errors of all fields at once.
	for _, field := range []struct {
		name, value string
		check       func(string) error
	}{{"name", d.P.Name, action.CheckName}, {"namespace", d.P.Namespace, action.CheckNamespace}} {
		if field.value == "" {
			d.Errors[field.name] = "is required"
		} else if err := field.check(field.value); err != nil {
			d.Errors[field.name] = err.Error()
		}
	}
	if len(d.Errors) > 0 {
		return nil, errField
	}
	o := &unstructured.Unstructured{Object: map[string]any{"spec": withoutNil(spec)}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Postback"))
	o.SetNamespace(d.P.Namespace)
	o.SetName(d.P.Name)
	d.to = pathOf(client.ObjectKeyFromObject(o))
	err = c.Create(ctx, o)
	switch {
	case apierrors.IsAlreadyExists(err):
		d.Errors["name"] = "A Postback with this name exists: choose another name."
		return nil, errField
	case apierrors.IsNotFound(err):
		d.Errors["namespace"] = "There is no namespace with this name."
		return nil, errField
	}
	return o, err
}

// afterCreate waits for the new Postback's signing key, and shows it with the next steps.
func afterCreate(ctx context.Context, c *Console, d *dialog) {
	d.Show = true
	key := client.ObjectKeyFromObject(d.P)
	made := c.awaitKey(ctx, func() bool {
		p := c.feed.Postback(key)
		if p == nil || p.Status.SecretName == "" {
			return false
		}
		d.P = p.DeepCopy()
		return true
	})
	if !made {
		d.Error = "The Postback is stored, but the operator has made no signing key yet. Its page has the reason, and shows the key later: “Show signing secret”."
		return
	}
	d.May = c.rights.of(ctx, d.P, c.feed.Secret(secretKey(d.P)))
	showSecret(ctx, c, d)
}

// To returns the page of the new Postback.
func (d *dialog) To() string { return d.to }

// withoutNil removes nil values, which a merge patch would use to remove fields.
func withoutNil(fields map[string]any) map[string]any {
	for name, value := range fields {
		switch v := value.(type) {
		case nil:
			delete(fields, name)
		case map[string]any:
			if withoutNil(v); len(v) == 0 {
				delete(fields, name)
			}
		}
	}
	return fields
}
