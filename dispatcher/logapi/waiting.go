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

package logapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

const (
	// waitingResource is the path of the waiting stream. For rights its deliveries are PostbackDeliveries.
	waitingResource = "waiting"
	sequenceParam   = "sequence"
)

// Waiting has the deliveries of the waiting stream.
type Waiting interface {
	List(ctx context.Context, q deliverylog.Query, before uint64, limit int) (deliverylog.Page, error)
	// Act asks the elected replica to carry out an act. Its errors are those of package deliverylog.
	Act(ctx context.Context, a deliverylog.Act) (deliverylog.Done, error)
}

// waitingVerbs has the verb of a request and of the right that it needs, by the method and the form of the path. A
// restore precedes a redelivery, whose annotation needs the right to patch.
var waitingVerbs = map[string]struct{ verb, right string }{
	"GET ":              {listWaiting, "list"},
	"DELETE ":           {dropAllWaiting, "drop"},
	"DELETE name":       {dropWaiting, "drop"},
	"POST name/restore": {restoreWaiting, "patch"},
}

// targetWaiting completes the target of a request for the waiting stream, or returns an answer to an invalid one.
func (q *logRequest) targetWaiting(method string, parts []string) *problem.Answer {
	form, allowed := "", "GET, DELETE"
	switch {
	case len(parts) == 2 && parts[1] != "":
		form, allowed = "name", "DELETE"
	case len(parts) == 3 && parts[1] != "" && parts[2] == restoreVerb:
		form, allowed = "name/restore", "POST"
	}
	if len(parts) > 1 && (form == "" || q.namespace == "") {
		return problem.Refuse(problem.NotFound, "Waiting deliveries are at /v1/waiting, and at /v1/namespaces/{namespace}/waiting, /waiting/{name} and /waiting/{name}/restore below it.")
	}
	v, ok := waitingVerbs[method+" "+form]
	if !ok || q.namespace == "" && v.verb != listWaiting {
		return problem.Refuse(problem.MethodNotAllowed, "Use %s here.", allowed).With("Allow", allowed)
	}
	if form != "" {
		q.name = parts[1]
	}
	q.verb = v.verb
	q.right = rbacreview.Right{Verb: v.right, Group: v1alpha1.GroupVersion.Group, Resource: deliveryKind, Namespace: q.namespace}
	return nil
}

// actOnWaiting drops or restores waiting deliveries.
func (h *Handler) actOnWaiting(ctx context.Context, r *http.Request, q *logRequest) *problem.Answer {
	a, refused := actOf(r, q)
	if refused != nil {
		return refused
	}
	if a.Verb == deliverylog.Restore {
		if answer := h.restoredBefore(ctx, r, q); answer != nil {
			return answer
		}
	}
	done, err := h.options.Waiting.Act(ctx, a)
	if err != nil {
		return h.notActed(r, q, err)
	}
	if a.Verb != deliverylog.Restore {
		return &problem.Answer{Status: http.StatusOK, Body: done}
	}
	restored, err := h.object(ctx, q)
	if err != nil || restored == nil {
		return h.notRestored(r, q, err)
	}
	return &problem.Answer{Status: http.StatusCreated, Body: withKind(restored)}
}

// actOf reads the act that a request is for.
func actOf(r *http.Request, q *logRequest) (a deliverylog.Act, refused *problem.Answer) {
	values := r.URL.Query()
	a = deliverylog.Act{Namespace: q.namespace, Name: q.name, User: q.user}
	needed := sequenceParam
	switch q.verb {
	case dropWaiting:
		a.Verb = deliverylog.Drop
	case restoreWaiting:
		a.Verb = deliverylog.Restore
	case dropAllWaiting:
		a.Verb, needed = deliverylog.DropAll, postbackParam
	}
	for name := range values {
		if name != needed {
			return a, problem.Refuse(problem.InvalidQuery, "there is no parameter %q here.", name)
		}
	}
	var err error
	a.Postback = values.Get(postbackParam)
	a.Sequence, err = number(values, sequenceParam, 0)
	switch {
	case err != nil:
		return a, problem.Refuse(problem.InvalidQuery, "%s.", err.Error())
	case needed == postbackParam && a.Postback == "":
		return a, problem.Refuse(problem.InvalidQuery, "%s is missing: set it to the name of a Postback.", postbackParam)
	case needed == sequenceParam && a.Sequence == 0:
		return a, problem.Refuse(problem.InvalidQuery, "%s is missing: set it to metadata.resourceVersion of the delivery in the list.", sequenceParam)
	}
	return a, nil
}

// notActed is the answer to an act that failed.
func (h *Handler) notActed(r *http.Request, q *logRequest, err error) *problem.Answer {
	switch {
	case errors.Is(err, deliverylog.ErrNotWaiting) && q.verb == dropAllWaiting:
		return problem.Refuse(problem.NotWaiting, "There is no Postback %q in namespace %s, or the dispatcher has not loaded it.", r.URL.Query().Get(postbackParam), q.namespace)
	case errors.Is(err, deliverylog.ErrNotWaiting):
		return problem.Refuse(problem.NotWaiting, "No delivery %q waits in namespace %s. It may have been attempted meanwhile.", q.name, q.namespace)
	case errors.Is(err, deliverylog.ErrInFlight):
		return problem.Refuse(problem.InFlight, "Nothing was changed, because a delivery is under attempt: send the request again when the attempt has ended.")
	case errors.Is(err, deliverylog.ErrRefused):
		return problem.Refuse(problem.DeliveryRefused, "The Kubernetes API refuses PostbackDelivery %q: %s", q.name, err.Error())
	}
	a := problem.Refuse(problem.ActUnknown, "The elected replica did not finish the request: send it again later. Repeating it is safe.")
	if errors.Is(err, deliverylog.ErrNoOwner) {
		a = problem.Refuse(problem.NoOwner, "No elected replica answered: send the request again later. If this lasts, allow the NATS user of the dispatcher to subscribe to the subject acts.> below --nats-stream-prefix.")
	}
	if r.Context().Err() == nil {
		h.options.Log.Error(err, "A request for waiting deliveries failed", "verb", q.verb, "namespace", q.namespace, "delivery", q.name, "instance", a.Problem.Instance)
	}
	return a
}
