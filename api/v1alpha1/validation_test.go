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
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

// manifestCase is an object that differs from a valid one in the fields that it names.
type manifestCase struct {
	name string
	// fields, as YAML, replace those of the valid object: a null removes one.
	fields string
	// want are parts of the error: the path of the field and the remedy. None means that the object is valid.
	want []string
}

// updateCase is a change of a stored object.
type updateCase struct {
	name           string
	before, change string
	want           []string
}

const (
	validPostback = `
apiVersion: postback.dev/v1alpha1
kind: Postback
metadata: {name: crm}
spec:
  url: https://example.com/hooks
  triggers: [lead.created]
`
	validPostbackSecret = `
apiVersion: postback.dev/v1alpha1
kind: PostbackSecret
metadata: {name: signing}
spec: {}
`
	validDelivery = `
apiVersion: postback.dev/v1alpha1
kind: PostbackDelivery
metadata: {name: delivery}
spec:
  postbackRef: {name: crm, uid: 7f3c1b9e-0000-4000-8000-000000000000}
  event: {id: evt_1, type: lead.created, createdAt: "2026-01-02T03:04:05.678000Z"}
  body: '{"id":"evt_1"}'
`
)

func runCreates(t *testing.T, valid string, cases []manifestCase) {
	t.Helper()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			_, err := create(t, object(t, valid, test.fields), metav1.DryRunAll)
			checkError(t, err, test.want)
		})
	}
}

func runUpdates(t *testing.T, valid string, cases []updateCase) {
	t.Helper()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			stored := createFor(t, object(t, valid, test.before))
			changed := merge(t, stored, test.change)
			_, err := resource(t, changed).Update(t.Context(), changed, strictUpdate)
			checkError(t, err, test.want)
		})
	}
}

func runStatusUpdates(t *testing.T, valid string, cases []manifestCase) {
	t.Helper()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			changed := merge(t, createFor(t, object(t, valid, "")), test.fields)
			_, err := resource(t, changed).UpdateStatus(t.Context(), changed, strictUpdate)
			checkError(t, err, test.want)
		})
	}
}

var strictUpdate = metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict}

func create(t *testing.T, o *unstructured.Unstructured, dryRun ...string) (*unstructured.Unstructured, error) {
	t.Helper()
	options := metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun}
	return resource(t, o).Create(t.Context(), o, options)
}

// createFor stores an object for as long as the test runs.
func createFor(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	stored, err := create(t, o)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := resource(t, o).Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	return stored
}

func resource(t *testing.T, o *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(cp.Config)
	if err != nil {
		t.Fatal(err)
	}
	plural := map[string]string{
		"Postback":         "postbacks",
		"PostbackSecret":   "postbacksecrets",
		"PostbackDelivery": "postbackdeliveries",
	}[o.GetKind()]
	return client.Resource(v1alpha1.GroupVersion.WithResource(plural)).Namespace("default")
}

func object(t *testing.T, valid, fields string) *unstructured.Unstructured {
	t.Helper()
	content, err := yaml.YAMLToJSON([]byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(content); err != nil {
		t.Fatal(err)
	}
	return merge(t, o, fields)
}

// merge returns a copy with the given fields replaced; maps are merged, and a null removes.
func merge(t *testing.T, o *unstructured.Unstructured, fields string) *unstructured.Unstructured {
	t.Helper()
	changes := map[string]any{}
	if err := yaml.Unmarshal([]byte(fields), &changes); err != nil {
		t.Fatalf("the test's YAML: %v", err)
	}
	merged := o.DeepCopy().Object
	mergeMap(merged, changes)
	// Through JSON, so that numbers have the types that an unstructured object may hold.
	content, err := json.Marshal(merged)
	if err != nil {
		t.Fatal(err)
	}
	result := &unstructured.Unstructured{}
	if err := result.UnmarshalJSON(content); err != nil {
		t.Fatal(err)
	}
	return result
}

func mergeMap(into, changes map[string]any) {
	for key, value := range changes {
		change, isMap := value.(map[string]any)
		existing, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			mergeMap(existing, change)
		default:
			into[key] = value
		}
	}
}

func checkError(t *testing.T, err error, want []string) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Errorf("is valid, but was refused: %v", err)
		}
		return
	}
	if err == nil {
		t.Errorf("was accepted, want an error with %q", want)
		return
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, err)
		}
	}
}

// times repeats a list element, for bounds.
func times(n int, element string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(element+", ", n), ", ") + "]"
}
