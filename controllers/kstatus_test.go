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

package controllers

import (
	"slices"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/argocd"
)

// checkReaders checks that kstatus (which Flux, Helm and kpt use) and Argo CD read an object as its conditions say.
// Every test of this package checks its states here.
func checkReaders(t *testing.T, kind string, object client.Object, observed int64, conditions []metav1.Condition, suspended bool) {
	t.Helper()
	seenReasons.note(conditions)
	wantStatus, wantHealth := expected(object, observed, conditions, suspended)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetAPIVersion(v1alpha1.GroupVersion.String())
	u.SetKind(kind)
	result, err := status.Compute(u)
	if err != nil {
		t.Fatal(err)
	}
	if result.Status != wantStatus {
		t.Errorf("kstatus reads %s as %s (%s), want %s", describe(conditions), result.Status, result.Message, wantStatus)
	}
	health, err := argocd.Of(kind, u)
	if err != nil {
		t.Fatal(err)
	}
	if health.Status != wantHealth {
		t.Errorf("Argo CD reads %s as %s (%s), want %s", describe(conditions), health.Status, health.Message, wantHealth)
	}
}

// expected returns the status that kstatus, and the health that Argo CD, should report.
func expected(object client.Object, observed int64, conditions []metav1.Condition, suspended bool) (status.Status, string) {
	is := func(conditionType string) bool { return meta.IsStatusConditionTrue(conditions, conditionType) }
	switch {
	case object.GetDeletionTimestamp() != nil:
		return status.TerminatingStatus, argocd.Progressing
	case observed != object.GetGeneration():
		return status.InProgressStatus, argocd.Progressing
	case is(v1alpha1.StalledCondition):
		return status.FailedStatus, argocd.Degraded
	case !is(v1alpha1.ReadyCondition):
		return status.InProgressStatus, argocd.Progressing
	case suspended:
		return status.CurrentStatus, argocd.Suspended
	}
	return status.CurrentStatus, argocd.Healthy
}

// reasonsOfReady are all reasons of the condition Ready of a Postback or a PostbackSecret.
var reasonsOfReady = []string{
	v1alpha1.RoutedReason, v1alpha1.ProgressingReason, v1alpha1.WaitingForDispatcherReason, v1alpha1.NoDispatcherReason,
	v1alpha1.SecretNotFoundReason, v1alpha1.SecretNotReadyReason, v1alpha1.SecretNameTakenReason, v1alpha1.HeaderSecretNotFoundReason,
	v1alpha1.InvalidHeaderReason, v1alpha1.InvalidURLReason, v1alpha1.PlainHTTPNotAllowedReason, v1alpha1.InvalidFilterReason,
	v1alpha1.InvalidTLSReason, v1alpha1.InvalidAuthReason, v1alpha1.TLSSecretNotFoundReason, v1alpha1.AuthSecretNotFoundReason,
	v1alpha1.KeyAvailableReason, v1alpha1.KeyNotFoundReason, v1alpha1.InvalidKeyReason, v1alpha1.SecretNotOwnedReason,
	v1alpha1.SecretImmutableReason, v1alpha1.SecretTerminatingReason,
	v1alpha1.PolicyDeniedReason, v1alpha1.QuotaExceededReason, v1alpha1.ForbiddenReason, v1alpha1.InvalidReason, v1alpha1.TooLargeReason,
}

// seen collects reasons, so that TestMain can report the reasons that no test covers.
type seen struct {
	mu      sync.Mutex
	reasons map[string]bool
}

var seenReasons = seen{reasons: map[string]bool{}}

func (s *seen) note(conditions []metav1.Condition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ready := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition); ready != nil {
		s.reasons[ready.Reason] = true
	}
}

// missing returns the reasons that were not seen.
func (s *seen) missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(reasonsOfReady), func(reason string) bool { return s.reasons[reason] })
}
