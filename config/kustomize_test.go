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

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// renamed is a kustomize folder. Every field that names another object names one that kustomize renames.
const renamed = `
apiVersion: postback.dev/v1alpha1
kind: Postback
metadata: {name: crm}
spec:
  url: https://crm.example.com/hooks
  triggers: [lead.created]
  secretRef: {name: signing}
  headers:
  - {name: X-Plain, value: plain}
  - {name: X-Team, valueFrom: {secretKeyRef: {name: credentials, key: team}}}
  auth: {basic: {secretRef: {name: credentials}}}
  tls:
    caSecretRef: {name: credentials, key: ca.crt}
    clientCertificateSecretRef: {name: credentials}
---
apiVersion: postback.dev/v1alpha1
kind: Postback
metadata: {name: erp}
spec:
  url: https://erp.example.com/hooks
  triggers: [lead.created]
  secretRef: {name: signing}
  auth: {bearer: {secretKeyRef: {name: credentials, key: token}}}
---
apiVersion: postback.dev/v1alpha1
kind: Postback
metadata: {name: billing}
spec:
  url: https://billing.example.com/hooks
  triggers: [lead.created]
  secretRef: {name: signing}
  auth:
    oauth2:
      tokenURL: https://id.example.com/token
      clientID: acme
      clientSecretRef: {name: credentials, key: token}
---
apiVersion: postback.dev/v1alpha1
kind: PostbackSecret
metadata: {name: signing}
spec: {source: External, secretName: credentials}
`

const kustomization = `
namePrefix: acme-
resources: [postbacks.yaml]
configurations: [namereference.yaml]
secretGenerator:
- name: credentials
  literals: [team=a, token=b]
`

// References follow the names that kustomize changes: those of a prefix, and the hash of a generated Secret.
func TestKustomizeRenamesReferences(t *testing.T) {
	shipped, err := os.ReadFile("kustomize/namereference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, content := range map[string]string{
		"namereference.yaml": string(shipped), "postbacks.yaml": renamed, "kustomization.yaml": kustomization,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	built := kubectl(t, "", "kustomize", folder)
	var secret string
	for document := range strings.SplitSeq(built, "\n---\n") {
		var object metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		switch object.Kind {
		case "Secret":
			secret = object.Name
		case "Postback":
			if err := yaml.UnmarshalStrict([]byte(document), &v1alpha1.Postback{}); err != nil {
				t.Error(err)
			}
		}
	}
	if !strings.HasPrefix(secret, "acme-credentials-") {
		t.Fatalf("the Secret is %q in\n%s", secret, built)
	}
	if strings.Contains(built, "name: credentials\n") || strings.Contains(built, "secretName: credentials\n") {
		t.Errorf("a reference still names the old Secret:\n%s", built)
	}
	if got := strings.Count(built, "name: "+secret+"\n"); got != 7 { // Its own name, and six references of Postbacks.
		t.Errorf("%d fields name the Secret:\n%s", got, built)
	}
	if !strings.Contains(built, "secretName: "+secret+"\n") || strings.Count(built, "name: acme-signing\n") != 4 {
		t.Errorf("the PostbackSecret or references to it have other names:\n%s", built)
	}
}

// Every field of a Postback that names another object is known to kustomize.
func TestKustomizeKnowsEveryReference(t *testing.T) {
	content, err := os.ReadFile("kustomize/namereference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var shipped struct {
		NameReference []struct {
			FieldSpecs []struct{ Kind, Path string }
		}
	}
	if err := yaml.Unmarshal(content, &shipped); err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, reference := range shipped.NameReference {
		for _, field := range reference.FieldSpecs {
			if field.Kind == "Postback" {
				known = append(known, field.Path)
			}
		}
	}
	want := references(reflect.TypeFor[v1alpha1.PostbackSpec](), "spec")
	slices.Sort(known)
	slices.Sort(want)
	if !slices.Equal(known, want) {
		t.Errorf("known are\n%v\nwant\n%v", known, want)
	}
}

// references returns the paths of the fields below a type that name other objects.
func references(in reflect.Type, path string) (found []string) {
	for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
		in = in.Elem()
	}
	if in == reflect.TypeFor[v1alpha1.LocalReference]() || in == reflect.TypeFor[v1alpha1.SecretKeySelector]() {
		return []string{path + "/name"}
	}
	if in.Kind() != reflect.Struct {
		return nil
	}
	for i := range in.NumField() {
		if name, _, _ := strings.Cut(in.Field(i).Tag.Get("json"), ","); name != "" {
			found = append(found, references(in.Field(i).Type, path+"/"+name)...)
		}
	}
	return found
}
