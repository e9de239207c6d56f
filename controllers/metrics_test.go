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
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/metric"
)

// listed is a cache with the given objects.
type listed struct {
	client.Reader
	postbacks []v1alpha1.Postback
	secrets   []v1alpha1.PostbackSecret
}

func (l *listed) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch list := list.(type) {
	case *v1alpha1.PostbackList:
		list.Items = l.postbacks
	case *v1alpha1.PostbackSecretList:
		list.Items = l.secrets
	}
	return nil
}

func condition(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason}
}

func TestGaugesOfTheManager(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *metav1.Time { return ptr.To(metav1.NewTime(now.Add(d))) }
	postback := func(state v1alpha1.PostbackState, conditions ...metav1.Condition) v1alpha1.Postback {
		return v1alpha1.Postback{Spec: v1alpha1.PostbackSpec{State: state}, Status: v1alpha1.PostbackStatus{Conditions: conditions}}
	}
	isReady := condition(v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.RoutedReason)
	open := condition(v1alpha1.EndpointHealthyCondition, metav1.ConditionFalse, v1alpha1.ThrottledReason)
	responding := condition(v1alpha1.EndpointHealthyCondition, metav1.ConditionTrue, v1alpha1.EndpointRespondingReason)
	objects := &listed{
		postbacks: []v1alpha1.Postback{
			postback(v1alpha1.PostbackEnabled, isReady, open),
			postback("", isReady, open), // Enabled is the default.
			postback(v1alpha1.PostbackPaused, isReady, open),
			postback(v1alpha1.PostbackEnabled, isReady, responding),
			postback(v1alpha1.PostbackEnabled, condition(v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.InvalidURLReason)),
			postback(v1alpha1.PostbackEnabled),
		},
		secrets: []v1alpha1.PostbackSecret{
			{Status: v1alpha1.PostbackSecretStatus{
				Conditions: []metav1.Condition{isReady}, LastRotationTime: at(-time.Hour), NextRotationTime: at(time.Hour),
			}},
			{Status: v1alpha1.PostbackSecretStatus{LastRotationTime: at(-30 * time.Hour), NextRotationTime: at(-6 * time.Minute)}},
			{Status: v1alpha1.PostbackSecretStatus{LastRotationTime: at(-2 * time.Hour), PreviousExpiryTime: at(-10 * time.Minute)}},
			{
				Spec:   v1alpha1.PostbackSecretSpec{Source: v1alpha1.SecretExternal},
				Status: v1alpha1.PostbackSecretStatus{LastRotationTime: at(-99 * time.Hour), NextRotationTime: at(-99 * time.Hour)},
			},
		},
	}
	elected := make(chan struct{})
	c := &collector{objects, elected, clocktesting.NewFakePassiveClock(now)}
	if n := testutil.CollectAndCount(c); n != 0 {
		t.Errorf("a manager that is not elected reports %d series", n)
	}
	close(elected)
	for name, series := range map[string]string{
		"postback_postbacks":                      `{ready="False"} 1` + "\n" + `{ready="True"} 4` + "\n" + `{ready="Unknown"} 1`,
		"postback_postbacksecrets":                `{ready="False"} 0` + "\n" + `{ready="True"} 1` + "\n" + `{ready="Unknown"} 3`,
		"postback_rotation_overdue_seconds":       " 600",
		"postback_oldest_signing_key_age_seconds": " 108000",
	} {
		t.Run(name, func(t *testing.T) {
			if err := testutil.CollectAndCompare(c, strings.NewReader(exposition(name, series)), name); err != nil {
				t.Error(err)
			}
		})
	}
	unhealthy := make([]string, 0, len(v1alpha1.UnhealthyReasons))
	for _, reason := range slices.Sorted(slices.Values(v1alpha1.UnhealthyReasons)) {
		count := 0
		if reason == v1alpha1.ThrottledReason {
			count = 2
		}
		unhealthy = append(unhealthy, fmt.Sprintf("{reason=%q} %d", reason, count))
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(exposition("postback_unhealthy_endpoints", strings.Join(unhealthy, "\n"))), "postback_unhealthy_endpoints"); err != nil {
		t.Error(err)
	}
	objects.postbacks, objects.secrets = nil, nil
	if err := testutil.CollectAndCompare(c, strings.NewReader(exposition("postback_rotation_overdue_seconds", " 0")), "postback_rotation_overdue_seconds"); err != nil {
		t.Error(err)
	}
}

// exposition returns a gauge in the text format of Prometheus.
func exposition(name, series string) string {
	text := ""
	for _, d := range metric.Manager.Definitions() {
		if d.Name == name {
			text = fmt.Sprintf("# HELP %s %s\n# TYPE %[1]s gauge\n", name, d.Help)
		}
	}
	for line := range strings.SplitSeq(series, "\n") {
		text += name + line + "\n"
	}
	return text
}

// Each keyChange has a cause of its own.
func TestEachKeyChangeHasACause(t *testing.T) {
	causes := map[string]bool{}
	for _, change := range []keyChange{keyFirst, keyLost, keyRequested, keyScheduled} {
		causes[change.cause()] = true
	}
	if len(causes) != 4 || causes[""] || keyKept.cause() != "" {
		t.Errorf("the causes are %v", causes)
	}
}
