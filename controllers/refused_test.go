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
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// checkTold checks that exactly one Kubernetes Event since the last call is a warning with this reason and these
// words.
func (b *bench) checkTold(reason, words string) {
	b.t.Helper()
	told := b.told()
	said := slices.DeleteFunc(slices.Clone(told), func(e string) bool {
		return !strings.HasPrefix(e, "Warning "+reason) || !strings.Contains(e, words)
	})
	if len(said) != 1 {
		b.t.Errorf("events %q, want one warning %s with %q", told, reason, words)
	}
}

func (b *bench) failingSecretPass(name string) {
	b.t.Helper()
	for range 2 {
		if _, err := b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key(name)}); err == nil {
			b.t.Error("no error, so no back-off")
		}
	}
}

func TestAFullQuotaIsQuoted(t *testing.T) {
	b := newBench(t)
	none := corev1.ResourceList{corev1.ResourceSecrets: resource.MustParse("0")}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few"}, Spec: corev1.ResourceQuotaSpec{Hard: none}}
	b.create(quota)
	// The quota's admission plugin reads its status, which a cluster's quota controller would write.
	quota.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
	b.must(b.direct.Status().Update(b.ctx, quota))
	b.create(newPostbackSecret("crm", nil))
	// The admission plugin's cache gets the quota a moment later.
	b.eventually("the quota is in force", func() bool {
		probe := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, GenerateName: "probe-"}}
		err := b.direct.Create(b.ctx, probe, client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "exceeded quota")
	})
	b.failingSecretPass("crm")
	checkConditions(t, b.postbackSecret("crm").Status.Conditions, stateStalled, v1alpha1.QuotaExceededReason,
		`The API server refuses secrets "crm": exceeded quota: few, requested: secrets=1, used: secrets=0, limited: secrets=0`)
	b.checkTold(v1alpha1.QuotaExceededReason, "exceeded quota: few")
	b.must(b.direct.Delete(b.ctx, quota))
	b.eventually("the quota is gone", func() bool {
		_, err := b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
		return err == nil
	})
	checkConditions(t, b.postbackSecret("crm").Status.Conditions, stateReady, v1alpha1.KeyAvailableReason, "")
}

func TestADenyingPolicyIsQuoted(t *testing.T) {
	b := newBench(t)
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "no-keys-" + b.ns},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr.To(admissionregistrationv1.Fail),
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"secrets"}},
				},
			}}},
			Validations: []admissionregistrationv1.Validation{{Expression: `object.metadata.?labels["team"].orValue("") != ""`, Message: "a Secret needs the label team"}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy.Name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policy.Name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			MatchResources: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: b.ns}},
			},
		},
	}
	for _, object := range []client.Object{policy, binding} {
		b.must(b.direct.Create(b.ctx, object))
		t.Cleanup(func() { _ = b.direct.Delete(context.WithoutCancel(t.Context()), object) })
	}
	b.eventually("the policy is in force", func() bool {
		probe := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, GenerateName: "probe-"}}
		err := b.direct.Create(b.ctx, probe, client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "needs the label team")
	})
	b.create(newPostback("crm", nil))
	if _, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err != nil {
		t.Fatal(err)
	}
	b.failingSecretPass("crm")
	checkConditions(t, b.postbackSecret("crm").Status.Conditions, stateStalled, v1alpha1.PolicyDeniedReason, "a Secret needs the label team")
	b.checkTold(v1alpha1.PolicyDeniedReason, "a Secret needs the label team")
	if _, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err != nil {
		t.Fatal(err)
	}
	b.checkPostback("crm", stateStalled, v1alpha1.SecretNotReadyReason, "a Secret needs the label team")
}

// A missing right is Reconciling, because an API server that has just started has not read the roles. Every other
// refusal is Stalled.
func TestRefusalsAreTold(t *testing.T) {
	secrets := corev1.Resource("secrets")
	for reason, tt := range map[string]struct {
		err   error
		state state
		words string
	}{
		v1alpha1.ForbiddenReason: {
			apierrors.NewForbidden(secrets, "crm", errors.New(`User "manager" cannot create resource "secrets"`)), stateReconciling, `cannot create resource "secrets"`,
		},
		v1alpha1.InvalidReason: {
			apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, "crm", field.ErrorList{field.Invalid(field.NewPath("data"), "s3cret", "no")}), stateStalled, "data",
		},
		v1alpha1.TooLargeReason: {apierrors.NewRequestEntityTooLargeError("limit is 3145728"), stateStalled, "not acceptable"},
	} {
		t.Run(reason, func(t *testing.T) {
			b := newBench(t)
			b.create(newPostbackSecret("crm", nil))
			b.faulty.refuse = func(what string, object client.Object) error {
				if _, ok := object.(*corev1.Secret); ok && what == "create" {
					return tt.err
				}
				return nil
			}
			b.failingSecretPass("crm")
			conditions := b.postbackSecret("crm").Status.Conditions
			checkConditions(t, conditions, tt.state, reason, tt.words)
			if strings.Contains(describe(conditions), "s3cret") {
				t.Error("a value is quoted")
			}
			b.checkTold(reason, tt.words)
		})
	}
}

// A refused rotation leaves the previous key signing, so Overlap stays beside the fields about that key.
func TestARefusedRotationKeepsOverlap(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", nil))
	b.settleSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "1")
	b.settleSecret("crm")
	b.faulty.refuse = func(what string, object client.Object) error {
		if _, ok := object.(*corev1.Secret); ok && what == "update" {
			return apierrors.NewForbidden(corev1.Resource("secrets"), "crm", errors.New(`User "manager" cannot update resource "secrets"`))
		}
		return nil
	}
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "2")
	b.failingSecretPass("crm")
	status := b.postbackSecret("crm").Status
	checkConditions(t, status.Conditions, stateReconciling, v1alpha1.ForbiddenReason, "cannot update")
	if status.PreviousVersion != 1 || !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.OverlapCondition) {
		t.Errorf("previousVersion %d, conditions %s; want 1 and Overlap", status.PreviousVersion, describe(status.Conditions))
	}
}
