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

package v1alpha1_test

import (
	"fmt"
	"testing"
)

func TestPostbackSecret(t *testing.T) {
	rotation := func(s string) string { return fmt.Sprintf("spec: {rotation: {%s}}", s) }
	const every, overlap = "must be a duration from 1h to 43800h (five years)", "must be a duration from 0s to 720h (30 days)"
	cases := []manifestCase{
		{"unknown source", `spec: {source: Vault}`, []string{"spec.source", `"Generated", "External"`}},
		{"malformed secretName", `spec: {secretName: My_Secret}`, []string{"spec.secretName", "lower-case"}},
		{"empty secretName", `spec: {secretName: ""}`, []string{"spec.secretName", "at least 1"}},
		{"unknown field", rotation(`interval: 1h`), []string{"unknown field", "spec.rotation.interval"}},
		{"overlap equal to every", rotation(`every: 48h, overlap: 48h`), []string{"spec.rotation.overlap", "must be shorter than rotation.every", "shorten overlap or lengthen every"}},
		{"overlap longer than every", rotation(`every: 48h, overlap: 49h`), []string{"spec.rotation.overlap", "must be shorter than rotation.every", "shorten overlap or lengthen every"}},
		{"every as long as the default overlap", rotation(`every: 24h`), []string{"spec.rotation.every", "default overlap of 24h", "lengthen every or set a shorter rotation.overlap"}},
		{"rotation of an external key", `spec: {source: External, rotation: {every: 48h}}`, []string{"spec.rotation", "must be absent with source External"}},

		{"no spec", `spec: null`, nil},
		{"external", `spec: {source: External, secretName: vault.signing}`, nil},
		{"the lower bounds", rotation(`every: 1h, overlap: 0s`), nil},
		{"the upper bounds", rotation(`every: 43800h, overlap: 720h`), nil},
		{"overlap just shorter", rotation(`every: 1h, overlap: 59m59.999s`), nil},
		{"overlap without every", rotation(`overlap: 720h`), nil},
		{"every just longer than the default overlap", rotation(`every: 24h0m1s`), nil},
		{"empty rotation", rotation(``), nil},
	}
	for _, bad := range []string{"-1h", "0s", "59m59s", "43800h0m1s", "90d", "monthly", ""} {
		cases = append(cases, manifestCase{
			fmt.Sprintf("every %q", bad), rotation(fmt.Sprintf("every: %q, overlap: 0s", bad)), []string{"spec.rotation.every", every},
		})
	}
	for _, bad := range []string{"-1s", "720h0m1s", "1 day", "none"} {
		cases = append(cases, manifestCase{
			fmt.Sprintf("overlap %q", bad), rotation(fmt.Sprintf("overlap: %q", bad)), []string{"spec.rotation.overlap", overlap},
		})
	}
	runCreates(t, validPostbackSecret, cases)
}

func TestPostbackSecretChanges(t *testing.T) {
	const remedy = "is immutable: make another PostbackSecret instead"
	runUpdates(t, validPostbackSecret, []updateCase{
		{"source", `spec: {source: Generated}`, `spec: {source: External}`, []string{"spec.source", remedy}},
		{"source back", `spec: {source: External}`, `spec: {source: Generated}`, []string{"spec.source", remedy}},
		{"source left out, so the default", `spec: {source: External}`, `spec: {source: null}`, []string{"spec.source", remedy}},
		{"secretName", `spec: {secretName: a}`, `spec: {secretName: b}`, []string{"spec.secretName", remedy}},
		{"secretName removed", `spec: {secretName: a}`, `spec: {secretName: null}`, []string{"spec.secretName", remedy}},
		{"secretName added", `spec: {}`, `spec: {secretName: a}`, []string{"spec.secretName", remedy}},

		{"rotation", `spec: {secretName: a}`, `spec: {rotation: {every: 48h}}`, nil},
		{"rotation removed", `spec: {rotation: {every: 48h}}`, `spec: {rotation: null}`, nil},
		{"an annotation", `spec: {}`, `metadata: {annotations: {postback.dev/rotate-secret: "1"}}`, nil},
	})
}

func TestPostbackSecretStatus(t *testing.T) {
	runStatusUpdates(t, validPostbackSecret, []manifestCase{
		{"version below 0", `status: {version: -1}`, []string{"status.version", "greater than or equal to 0"}},
		{"unknown field", `status: {key: whsec_x}`, []string{"unknown field", "status.key"}},
		{"in full", `status: {version: 2, previousVersion: 1, observedGeneration: 1, previousExpiryTime: "2026-01-02T03:04:05Z"}`, nil},
	})
}
