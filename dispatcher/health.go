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

package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// healthPause is the time between two passes of writes, so a flapping endpoint costs one write per pause.
const healthPause = 2 * time.Second

// healthTimeout bounds one write.
const healthTimeout = 5 * time.Second

// +kubebuilder:rbac:groups=postback.dev,resources=postbacks/status,verbs=patch

// health writes the condition EndpointHealthy and status.waiting of Postbacks, and emits a Kubernetes Event when the
// condition changes. Only the elected replica writes: it meets every endpoint in trouble.
type health struct {
	client  client.Client
	events  events.EventRecorder
	elected func() bool
	log     logr.Logger

	mu      sync.Mutex
	pending map[types.UID]healthReport
}

type healthReport struct {
	route  *route.Route
	health lane.Health
}

// report implements lane.Report. A newer report on an endpoint replaces an unwritten one.
func (h *health) report(r *route.Route, state lane.Health) {
	if state.News {
		h.log.Info("Endpoint health changed", "postback", r.Key(), "healthy", state.Status, "reason", state.Reason, "waiting", state.Wait.Reason)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	state.News = state.News || h.pending[r.UID].health.News
	h.pending[r.UID] = healthReport{r, state}
}

// run writes the reports until ctx ends.
func (h *health) run(ctx context.Context) error { return every(ctx, healthPause, h.pass) }

// pass writes the pending reports. A replica that is not elected drops them.
func (h *health) pass(ctx context.Context) {
	for _, report := range h.popPending() {
		if ctx.Err() == nil && h.elected() {
			h.write(ctx, report)
		}
	}
}

func (h *health) popPending() map[types.UID]healthReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	reports := h.pending
	h.pending = map[types.UID]healthReport{}
	return reports
}

func (h *health) write(ctx context.Context, report healthReport) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	err := h.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(healthy(report)),
		client.FieldOwner(v1alpha1.DispatcherFieldOwner), client.ForceOwnership)
	switch {
	case err == nil && report.health.News:
		h.emit(report)
	case err == nil:
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		// The Postback is gone, or another Postback has its name.
	default:
		h.log.Info("Cannot write the health of an endpoint yet", "postback", report.route.Key(), "reason", err.Error())
		h.putBack(report)
	}
}

func (h *health) putBack(report healthReport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, newer := h.pending[report.route.UID]; !newer {
		h.pending[report.route.UID] = report
	}
}

// healthy returns the fields of a Postback that the dispatcher applies. The UID protects another Postback of the same
// name. Without a wait, the apply removes an earlier status.waiting.
func healthy(report healthReport) *unstructured.Unstructured {
	status := map[string]any{"conditions": []any{map[string]any{
		"type":               v1alpha1.EndpointHealthyCondition,
		"status":             string(report.health.Status),
		"reason":             report.health.Reason,
		"message":            report.health.Message,
		"observedGeneration": report.route.Generation,
		"lastTransitionTime": report.health.Since.UTC().Format(time.RFC3339),
	}}}
	if wait := report.health.Wait; wait.Reason != "" {
		waiting := map[string]any{"reason": string(wait.Reason)}
		if !wait.Until.IsZero() {
			waiting["until"] = wait.Second().Format(time.RFC3339)
		}
		status["waiting"] = waiting
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       "Postback",
		"metadata":   map[string]any{"namespace": report.route.Namespace, "name": report.route.Name, "uid": string(report.route.UID)},
		"status":     status,
	}}
}

// emit records a Kubernetes Event on the Postback.
func (h *health) emit(report healthReport) {
	eventType := corev1.EventTypeWarning
	if report.health.Status != metav1.ConditionFalse {
		eventType = corev1.EventTypeNormal
	}
	h.events.Eventf(report.route.Postback(), nil, eventType, report.health.Reason, "Deliver", "%s", report.health.Message)
}

// postbackExists asks the API server whether a Postback exists. The dispatcher may not read Postbacks, so it applies a status
// with dry run.
func (r *replica) postbackExists(ctx context.Context, namespace, name string, uid types.UID) (bool, error) {
	probe := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Postback",
		"metadata": map[string]any{"namespace": namespace, "name": name, "uid": string(uid)},
	}}
	err := r.live.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(probe), client.DryRunAll,
		client.FieldOwner(v1alpha1.DispatcherFieldOwner+"-probe"))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return false, nil // Another Postback may have its name.
	}
	return err == nil, err
}
