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

package event

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// The CRD must accept every event that ingest accepts, and has the same bounds.
func TestPatternsAreThoseOfTheAPI(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "config", "crd", "bases", "postback.dev_postbackdeliveries.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(text, crd); err != nil {
		t.Fatal(err)
	}
	fields := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["event"].Properties
	for name, want := range map[string]struct {
		pattern string
		length  int64
	}{
		"id":   {idPattern.String(), v1alpha1.MaxEventIDLength},
		"type": {typePattern.String(), v1alpha1.MaxEventTypeLength},
	} {
		t.Run(name, func(t *testing.T) {
			field := fields[name]
			if field.MaxLength == nil || *field.MaxLength != want.length {
				t.Errorf("spec.event.%s has another bound than %d", name, want.length)
			}
			if len(field.XValidations) != 1 || !strings.Contains(field.XValidations[0].Rule, "'"+want.pattern+"'") {
				t.Errorf("spec.event.%s: %v does not hold the pattern %s", name, field.XValidations, want.pattern)
			}
		})
	}
}
