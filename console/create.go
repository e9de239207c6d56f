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
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// create shows the form that adds a Postback, and adds it.
func (c *Console) create(w http.ResponseWriter, r *http.Request) {
	if !readForm(w, r) {
		return
	}
	d := &dialog{P: &v1alpha1.Postback{}, Path: r.URL.Path, Form: r.Form, OneNamespace: c.namespace != ""}
	d.P.Namespace = cmp.Or(c.namespace, strings.TrimSpace(r.FormValue("namespace")))
	d.P.Name = strings.TrimSpace(r.FormValue("name"))
	d.fields(map[string]string{"format": string(v1alpha1.FormatJSON)})
	d.Refused = c.rights.create(r.Context(), d.P.Namespace)
	if r.Method == http.MethodPost && d.Refused == "" {
		c.perform(r, act{do: doCreate, after: awaitCreated}, d)
	}
	c.answer(w, r, "dialog-edit", d)
}

// New reports whether the form adds a Postback.
func (d *dialog) New() bool { return d.P.UID == "" }

// doCreate sends what was typed as it is, so that the API server judges it.
func doCreate(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	spec, err := d.changes(nil)
	if err != nil {
		return nil, err
	}
	for _, required := range []struct{ name, value string }{{"name", d.P.Name}, {"namespace", d.P.Namespace}} {
		if required.value == "" {
			d.Errors[required.name] = "is required"
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
	return o, c.Create(ctx, o)
}

// awaitCreated waits until the console has heard of the new Postback, so that its page is there.
func awaitCreated(ctx context.Context, c *Console, d *dialog) {
	ctx, cancel := context.WithTimeout(ctx, hearingPatience)
	defer cancel()
	subscription := c.feed.Subscribe()
	defer subscription.Close()
	for c.feed.Postback(client.ObjectKeyFromObject(d.P)) == nil {
		select {
		case <-subscription.C:
			subscription.Take()
		case <-ctx.Done():
			return
		}
	}
}

// hearingPatience is how long the watch may take to tell of what was done.
const hearingPatience = 5 * time.Second

// withoutNil drops what a merge patch would remove.
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
