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

// Package upgrade tests that the present programs take over the data in etcd that each released version left:
// Postbacks, keys, routes, Leases, and deliveries in every state, even during an attempt. See docs/releasing.md.
package upgrade

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

const (
	tenant    = "partner-acme"
	readable  = 0o644
	traversed = 0o755
)

// recording has the objects that a version left.
type recording struct {
	// Version left the objects at the time Recorded.
	Version  string      `json:"version"`
	Recorded metav1.Time `json:"recorded"`
	// Endpoint is the URL of the common endpoint of all Postbacks.
	Endpoint string `json:"endpoint"`
	// Objects are as the API server returned them, owners first.
	Objects []*unstructured.Unstructured `json:"objects"`
}

// kind is a kind of recorded objects, with their key prefix in etcd.
type kind struct {
	schema.GroupVersionKind
	prefix string
}

var kinds = []kind{
	{v1alpha1.GroupVersion.WithKind("Postback"), "/registry/postback.dev/postbacks/"},
	{v1alpha1.GroupVersion.WithKind("PostbackSecret"), "/registry/postback.dev/postbacksecrets/"},
	{v1alpha1.GroupVersion.WithKind("PostbackDelivery"), "/registry/postback.dev/postbackdeliveries/"},
	{schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, "/registry/secrets/"},
	{schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}, "/registry/leases/"},
}

// record reads all objects of a cluster.
func record(ctx context.Context, api client.Client, version, endpoint string, namespaces ...string) (*recording, error) {
	r := &recording{Version: version, Recorded: metav1.Now(), Endpoint: endpoint}
	for _, k := range kinds {
		for _, namespace := range namespaces {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(k.GroupVersionKind)
			if err := api.List(ctx, list, client.InNamespace(namespace)); err != nil {
				return nil, fmt.Errorf("record %s: %w", k.Kind, err)
			}
			for i := range list.Items {
				// etcd keeps the version itself.
				list.Items[i].SetResourceVersion("")
				r.Objects = append(r.Objects, &list.Items[i])
			}
		}
	}
	return r, nil
}

func (r *recording) write(folder string) error {
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	if err := os.MkdirAll(folder, traversed); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "objects.json"), append(content, '\n'), readable); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return nil
}

func read(folder string) (*recording, error) {
	content, err := os.ReadFile(filepath.Join(folder, "objects.json"))
	if err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	r := &recording{}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("read the recording %s: %w", folder, err)
	}
	return r, nil
}

// moved returns the recording with another endpoint, and with the times of status and metadata shifted to the
// present. Otherwise retention would delete most deliveries. Specs, including the bodies of deliveries, stay
// unchanged.
func (r *recording) moved(endpoint string) (*recording, error) {
	by := time.Since(r.Recorded.Time).Truncate(time.Second)
	copied := &recording{Version: r.Version, Recorded: r.Recorded, Endpoint: endpoint}
	for _, object := range r.Objects {
		content := object.DeepCopy().Object
		for field, value := range content {
			if field != "spec" {
				content[field] = eachText(value, func(text string) string { return shift(text, by) })
			}
		}
		if data, ok := content["data"].(map[string]any); ok {
			for name, value := range data {
				decoded, err := base64.StdEncoding.DecodeString(fmt.Sprint(value))
				if err != nil {
					return nil, fmt.Errorf("read the data of %s: %w", object.GetName(), err)
				}
				data[name] = base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(string(decoded), r.Endpoint, endpoint)))
			}
		}
		for field, value := range content {
			content[field] = eachText(value, func(text string) string { return strings.ReplaceAll(text, r.Endpoint, endpoint) })
		}
		copied.Objects = append(copied.Objects, &unstructured.Unstructured{Object: content})
	}
	return copied, nil
}

// eachText returns a JSON value in which change has replaced each string.
func eachText(value any, change func(string) string) any {
	switch v := value.(type) {
	case string:
		return change(v)
	case []any:
		for i := range v {
			v[i] = eachText(v[i], change)
		}
	case map[string]any:
		for name := range v {
			v[name] = eachText(v[name], change)
		}
	}
	return value
}

var timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)

// shift shifts the times in a text, and keeps their precision.
func shift(text string, by time.Duration) string {
	return timestamp.ReplaceAllStringFunc(text, func(was string) string {
		at, err := time.Parse(time.RFC3339Nano, was)
		if err != nil {
			return was
		}
		layout := "2006-01-02T15:04:05Z"
		if fraction := len(was) - len(layout); fraction > 0 {
			layout = "2006-01-02T15:04:05." + strings.Repeat("0", fraction-1) + "Z"
		}
		return at.UTC().Add(by).Format(layout)
	})
}

// store writes the objects into the etcd of a cluster.
func (r *recording) store(ctx context.Context, cp *controlplane.ControlPlane) error {
	for _, object := range r.Objects {
		key := ""
		for _, k := range kinds {
			if k.GroupVersionKind == object.GroupVersionKind() {
				key = k.prefix + object.GetNamespace() + "/" + object.GetName()
			}
		}
		if key == "" {
			return fmt.Errorf("nobody knows where etcd has objects of %s", object.GroupVersionKind())
		}
		value, err := object.MarshalJSON()
		if err != nil {
			return fmt.Errorf("encode %s: %w", object.GetName(), err)
		}
		if err := cp.Store(ctx, key, value); err != nil {
			return err
		}
	}
	return nil
}
