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

// maxForm bounds the body of a form, in bytes.
const maxForm = 1 << 20

// dialog is the form of an action: it asks for confirmation or input, and then shows the result.
type dialog struct {
	P      *v1alpha1.Postback
	Key    *v1alpha1.PostbackSecret
	May    actions
	Path   string
	Form   url.Values
	Counts feed.Counts
	// Refused is the reason why the user may not act. Error is a general error; Errors are errors by field.
	Refused, Error string
	Errors         map[string]string
	// YAML previews the changed object as a manifest for Git.
	YAML string
	// OneNamespace says that the console shows one namespace only, so that the form has no choice of namespace.
	OneNamespace bool
	// Tool is the tool that manages the object, such as Argo CD, and ToolName its name for the object.
	Tool, ToolName string
	// Fields are the fields of the form that adds or edits a Postback.
	Fields []shownField
	rules  Rules
	Types  []string
	// Secret is a signing key that the user requested.
	Secret  string
	Show    bool
	Sharing []string
	// WaitReason is the reason why redeliveries wait for their endpoint, or "".
	WaitReason string
	// OldKeyEnds is the time at which the replaced key stops signing; zero means that it no longer signs.
	OldKeyEnds time.Time
	// log is the client of the streams, which may have the delivery to redeliver or drop. It is nil if there are none.
	log      *deliveries.Client
	token    string
	done     string
	to       string
	finished bool
}

// act is an action on a Postback.
type act struct {
	template string
	refused  func(actions) string
	// prepare adds data that the form shows.
	prepare func(*Console, *dialog)
	// do performs the action with a client, possibly as a dry run, and returns the changed object.
	do func(context.Context, client.Client, *dialog) (client.Object, error)
	// after, if set, adds data that the form shows after success.
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
	"redeliver": {template: "dialog-redeliver", refused: func(a actions) string { return a.Redeliver }, do: doRedeliver, after: afterStream},
	"drop":      {template: "dialog-drop", refused: func(a actions) string { return a.Drop }, do: doDrop, after: afterStream},
}

func mayEdit(a actions) string { return a.Edit }

// readForm reads the form of a request. If that fails, it answers with an error and returns false.
func readForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	if err != nil {
		refuse(w, http.StatusBadRequest, "The form could not be read: "+err.Error())
	}
	return err == nil
}

// act shows the form of an action, performs the action, or previews the changed object.
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
		log: c.deliveries.Log, rules: c.rules,
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

// annotations merges the annotations of the Postback and its PostbackSecret. In a preview, each request for an action
// is on only one of them.
func (d *dialog) annotations() map[string]string {
	all := map[string]string{}
	maps.Copy(all, d.P.GetAnnotations())
	if d.Key != nil {
		maps.Copy(all, d.Key.GetAnnotations())
	}
	return all
}

// perform performs the action, or its dry run for a preview.
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
	case preview && object == nil:
		d.Error = "This action has no YAML: leave out preview."
	case preview:
		d.YAML = manifest(object, before)
	default:
		d.finished = true
		if a.after != nil {
			a.after(r.Context(), c, d)
		}
	}
}

// answer sends the dialog, or after success the page to show next.
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
		// A script reads this answer, whose content also names the reason of a refusal.
		write(w, http.StatusOK, template, d)
		return
	}
	content, err := render(template, d)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	f := c.frame("Postback")
	write(w, status, "dialog-page", map[string]any{
		"Title": f.Title, "Namespace": f.Namespace, "Context": f.Context, "Hosted": f.Hosted, "Renewed": f.Renewed, "Namespaces": f.Namespaces,
		"Problem": f.Problem, "Content": content,
	})
}

func doNothing(context.Context, client.Client, *dialog) (client.Object, error) { return nil, nil }

// doState enables, pauses or disables the Postback.
func doState(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	state := v1alpha1.PostbackState(d.Form.Get("state"))
	d.done = string(state)
	return d.P, action.SetState(ctx, c, d.P, state)
}

func prepareTest(_ *Console, d *dialog) { d.Types = action.TestTypes(d.P.Spec.Triggers) }

// doTest requests a test event, and leads to the sheet of that event.
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

// doDelete deletes a Postback if the user typed its name.
func doDelete(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	if d.Form.Get("name") != d.P.Name {
		d.Errors = map[string]string{"name": "Type " + d.P.Name + " to delete it."}
		return nil, errField
	}
	d.to, d.done = "/", "Deleted"
	return d.P, c.Delete(ctx, d.P, client.Preconditions{UID: &d.P.UID})
}

// doRedeliver requests a redelivery of each chosen delivery.
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

// redeliver requests a redelivery. A delivery that is only in a stream is restored first.
func (d *dialog) redeliver(ctx context.Context, c client.Client, o *v1alpha1.PostbackDelivery) error {
	err := action.Redeliver(ctx, c, o, d.token)
	if !apierrors.IsNotFound(err) || d.log == nil {
		return err
	}
	restored, err := d.restore(ctx, o.Name)
	if err != nil {
		return err
	}
	return action.Redeliver(ctx, c, restored, d.token)
}
