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
	"net/http"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

// waitingResource is the path of the waiting stream. For rights its deliveries are PostbackDeliveries.
const waitingResource = "waiting"

// Waiting has the deliveries of the waiting stream.
type Waiting interface {
	List(ctx context.Context, q deliverylog.Query, before uint64, limit int) (deliverylog.Page, error)
}

// targetWaiting completes the target of a request for the waiting stream, or returns an answer to an invalid one.
func (q *logRequest) targetWaiting(method string, parts []string) *problem.Answer {
	if len(parts) > 1 {
		return problem.Refuse(problem.NotFound, "Read the waiting deliveries at /v1/waiting and /v1/namespaces/{namespace}/waiting.")
	}
	if method != http.MethodGet {
		return problem.Refuse(problem.MethodNotAllowed, "Use GET here.").With("Allow", http.MethodGet)
	}
	q.verb = listWaiting
	q.right = rbacreview.Right{Verb: "list", Group: v1alpha1.GroupVersion.Group, Resource: deliveryKind, Namespace: q.namespace}
	return nil
}
