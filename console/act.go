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
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// maxForm bounds what a form may hold.
const maxForm = 1 << 20

// dialog is a form that asks before something is done, and then shows what came of it.
type dialog struct {
	P      *v1alpha1.Postback
	Key    *v1alpha1.PostbackSecret
	May    actions
	Path   string
	Form   url.Values
	Counts feed.Counts
	// Refused says why it may not be done; Error what went wrong, Errors the same by the names of fields.
	Refused, Error string
	Errors         map[string]string
	// YAML is the object as it would be, for Git.
	YAML string
	// OneNamespace says that the console shows one namespace only, so that there is none to choose.
	OneNamespace bool
	// Tool is the tool that manages the object, such as Argo CD, and ToolName its name for the object.
	Tool, ToolName string
	// Fields are those of the form that adds or edits.
	Fields []shownField
	Types  []string
	// Secret is a signing key that the user requested.
	Secret  string
	Show    bool
	Sharing []string
	// WaitReason is the reason why redeliveries wait for their endpoint, or "".
	WaitReason string
	// OldKeyEnds is the end of the key that was replaced, zero if it signs no longer.
	OldKeyEnds time.Time
	// log may hold the delivery to send again. It is nil if there is none.
	log      *deliveries.Client
	token    string
	done     string
	to       string
	finished bool
}

// act is something that a person can do.
type act struct {
	template string
	refused  func(actions) string
	// prepare fills in what the form shows.
	prepare func(*Console, *dialog)
	// do performs the action with a client, which may be one for dry runs, and returns the changed object.
	do func(context.Context, client.Client, *dialog) (client.Object, error)
	// after, if set, fills in the message after success.
	after func(context.Context, *Console, *dialog)
}

var acts = map[string]act{
	"test":      {template: "dialog-test", refused: mayEdit, prepare: prepareTest, do: doTest},
	"state":     {template: "dialog-state", refused: mayEdit, do: doState},
	"again":     {template: "dialog-again", refused: mayEdit, prepare: prepareAgain, do: doAgain},
	"edit":      {template: "dialog-edit", refused: mayEdit, prepare: prepareEdit, do: doEdit},
	"delete":    {template: "dialog-delete", refused: func(a actions) string { return a.Delete }, do: doDelete},
	"rotate":    {template: "dialog-rotate", refused: func(a actions) string { return a.Rotate }, prepare: prepareRotate, do: doRotate, after: afterRotate},
	"secret":    {template: "dialog-secret", refused: func(a actions) string { return a.Secret }, do: doNothing, after: showSecret},
	"yaml":      {template: "dialog-yaml", refused: func(actions) string { return "" }, prepare: prepareYAML, do: doNothing},
	"redeliver": {template: "dialog-redeliver", refused: func(a actions) string { return a.Redeliver }, do: doRedeliver},
}

func mayEdit(a actions) string { return a.Edit }

// readForm reads the form of a request, or refuses it.
func readForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	if err != nil {
		refuse(w, http.StatusBadRequest, "The form could not be read: "+err.Error())
	}
	return err == nil
}

// act shows the form of an action, does it, or shows the object as it would be.
func (c *Console) act(w http.ResponseWriter, r *http.Request) {
	a, known := acts[r.PathValue("action")]
	p := c.feed.Postback(keyOf(r))
	if !known || p == nil {
		c.noPostback(w, keyOf(r))
		return
	}
	if !readForm(w, r) {
		return
	}
	key := c.feed.Secret(secretKey(p))
	d := &dialog{
		P: p.DeepCopy(), Key: key.DeepCopy(), May: c.rights.of(r.Context(), p, key), Path: r.URL.Path, Form: r.Form,
		Counts: feed.Count(c.feed.Rows(keyOf(r))).WithBacklog(p.Status.GetBacklog()), token: action.Token(c.clock.Now()),
		log: c.deliveries.Log,
	}
	d.Tool, d.ToolName = action.ManagedBy(p)
	d.Refused = a.refused(d.May)
	if a.prepare != nil {
		a.prepare(c, d)
	}
	if r.Method == http.MethodPost && d.Refused == "" {
		c.perform(r, a, d)
	}
	c.answer(w, r, a.template, d)
}

// annotations returns those of the Postback and of its key. Each name asks for something on one of them only, in a preview.
func (d *dialog) annotations() map[string]string {
	all := map[string]string{}
	maps.Copy(all, d.P.GetAnnotations())
	if d.Key != nil {
		maps.Copy(all, d.Key.GetAnnotations())
	}
	return all
}

// perform does what a form asks for.
func (c *Console) perform(r *http.Request, a act, d *dialog) {
	preview := r.FormValue("preview") != ""
	cl := c.client
	if preview {
		cl = client.NewDryRunClient(cl)
	}
	before := d.annotations()
	object, err := a.do(r.Context(), cl, d)
	switch {
	case err != nil:
		d.fail(err)
	case preview:
		d.YAML = manifest(object, before)
	default:
		d.finished = true
		if a.after != nil {
			a.after(r.Context(), c, d)
		}
	}
}

// answer sends a dialog, or says that it is done and where to go.
func (c *Console) answer(w http.ResponseWriter, r *http.Request, template string, d *dialog) {
	status := http.StatusOK
	switch {
	case d.Refused != "":
		status = http.StatusForbidden
	case d.Error != "" || len(d.Errors) > 0:
		status = http.StatusUnprocessableEntity
	case d.finished && !d.Show:
		if fragment(r) == "" {
			to := cmp.Or(d.to, pathOf(client.ObjectKeyFromObject(d.P)))
			http.Redirect(w, r, to, http.StatusSeeOther)
			return
		}
		w.Header().Set("X-Done", d.done)
		w.Header().Set("X-Go", d.to)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if fragment(r) != "" {
		// A script reads the answer, which also has the reason of a refusal.
		write(w, http.StatusOK, template, d)
		return
	}
	content, err := render(template, d)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	write(w, status, "dialog-page", map[string]any{"Title": "Postback", "Namespace": c.namespace, "Context": c.kubectl.Context, "Hosted": c.hosted, "Problem": c.problem(), "Content": content})
}

func doNothing(context.Context, client.Client, *dialog) (client.Object, error) { return nil, nil }

// doState enables, pauses or disables.
func doState(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	state := v1alpha1.PostbackState(d.Form.Get("state"))
	d.done = string(state)
	return d.P, action.SetState(ctx, c, d.P, state)
}

func prepareTest(_ *Console, d *dialog) { d.Types = action.TestTypes(d.P.Spec.Triggers) }

// doTest asks for a test event, and leads to the sheet on which it will appear.
func doTest(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	eventType := strings.TrimSpace(d.Form.Get("type"))
	if other := strings.TrimSpace(d.Form.Get("other")); other != "" {
		eventType = other
	}
	var data []byte
	if text := strings.TrimSpace(d.Form.Get("data")); text != "" {
		data = []byte(text)
	}
	if err := action.CheckTest(d.P, eventType, data); err != nil {
		return nil, err
	}
	test, err := action.SendTest(ctx, c, d.P, eventType, data, d.token)
	if err != nil {
		return nil, err
	}
	d.to = pathOf(client.ObjectKeyFromObject(d.P)) + "/d/" + test.Delivery + "?expected=yes"
	return d.P, nil
}

// doDelete deletes a Postback whose name was typed in.
func doDelete(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	if d.Form.Get("name") != d.P.Name {
		d.Errors = map[string]string{"name": "Type " + d.P.Name + " to delete it."}
		return nil, errField
	}
	d.to, d.done = "/", "Deleted"
	return d.P, c.Delete(ctx, d.P, client.Preconditions{UID: &d.P.UID})
}

// doRedeliver asks for another attempt of each delivery that was chosen.
func doRedeliver(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	names := d.Form["delivery"]
	for i, name := range names {
		o := &v1alpha1.PostbackDelivery{}
		o.Namespace, o.Name = d.P.Namespace, name
		if err := d.redeliver(ctx, c, o); err != nil {
			return nil, fmt.Errorf("redelivery requested for %d of %d, then: %w", i, len(names), err)
		}
	}
	d.done = "Redelivering " + number(len(names)) + " events"
	if len(names) == 1 {
		d.done = "Redelivering"
	}
	return nil, nil
}

// redeliver asks for another attempt of a delivery. One in the delivery log alone has to be a PostbackDelivery again first.
func (d *dialog) redeliver(ctx context.Context, c client.Client, o *v1alpha1.PostbackDelivery) error {
	err := action.Redeliver(ctx, c, o, d.token)
	if !apierrors.IsNotFound(err) || d.log == nil {
		return err
	}
	restored, err := d.log.Restore(ctx, o.Namespace, o.Name)
	if err != nil {
		return err
	}
	return action.Redeliver(ctx, c, restored, d.token)
}
