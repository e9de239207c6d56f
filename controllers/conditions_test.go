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
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func levelOf(text string) zapcore.Level {
	level, err := zapcore.ParseLevel(text)
	if err != nil || text == "" {
		return zapcore.FatalLevel
	}
	return level
}

// checkConditions checks the kstatus state, the reason, and a part of the message.
func checkConditions(t *testing.T, conditions []metav1.Condition, want state, reason, message string) {
	t.Helper()
	if mistake := conditionMistake(conditions, want, reason, message); mistake != "" {
		t.Error(mistake)
	}
}

func conditionMistake(conditions []metav1.Condition, want state, reason, message string) string {
	is := func(conditionType string) bool { return meta.IsStatusConditionTrue(conditions, conditionType) }
	got := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition)
	switch {
	case got == nil:
		return "there is no Ready condition"
	case is(v1alpha1.ReadyCondition) != (want == stateReady), is(v1alpha1.ReconcilingCondition) != (want == stateReconciling),
		is(v1alpha1.StalledCondition) != (want == stateStalled), got.Reason != reason, !strings.Contains(got.Message, message):
		return "got conditions " + describe(conditions) + ", want " + string(want) + " " + reason + " " + message
	}
	return ""
}

func describe(conditions []metav1.Condition) string {
	var b strings.Builder
	for _, c := range conditions {
		b.WriteString("[" + c.Type + "=" + string(c.Status) + " " + c.Reason + ": " + c.Message + "] ")
	}
	return b.String()
}
