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

package main

import (
	"fmt"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

const downloads = "https://github.com/postback-dev/postback-operator/releases/download/"

// These are the used fields of krew's manifest: krew.googlecontainertools.github.com/v1alpha2.
type (
	krewPlugin struct {
		APIVersion string       `json:"apiVersion"`
		Kind       string       `json:"kind"`
		Metadata   krewMetadata `json:"metadata"`
		Spec       krewSpec     `json:"spec"`
	}
	krewMetadata struct {
		Name string `json:"name"`
	}
	krewSpec struct {
		Version          string         `json:"version"`
		Homepage         string         `json:"homepage"`
		ShortDescription string         `json:"shortDescription"`
		Description      string         `json:"description"`
		Platforms        []krewPlatform `json:"platforms"`
	}
	krewPlatform struct {
		Selector krewSelector `json:"selector"`
		URI      string       `json:"uri"`
		SHA256   string       `json:"sha256"`
		Bin      string       `json:"bin"`
	}
	krewSelector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	}
)

// writeKrewManifest writes postback.yaml, the manifest for krew's index.
func (r release) writeKrewManifest(checksums map[platform]string) error {
	plugin := krewPlugin{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2",
		Kind:       "Plugin",
		Metadata:   krewMetadata{Name: "postback"},
		Spec: krewSpec{
			Version:          r.version,
			Homepage:         "https://github.com/postback-dev/postback-operator",
			ShortDescription: "See and steer signed event postbacks",
			Description: "Shows the log of Postbacks, each attempt and its answer, and what is wrong with a signature;\n" +
				"sends tests, asks for redelivery, rotates keys, and serves a web console.\n",
		},
	}
	for _, p := range platforms {
		plugin.Spec.Platforms = append(plugin.Spec.Platforms, krewPlatform{
			Selector: krewSelector{MatchLabels: map[string]string{"os": p.os, "arch": p.arch}},
			URI:      downloads + r.version + "/" + p.archive(),
			SHA256:   checksums[p],
			Bin:      p.program(),
		})
	}
	manifest, err := yaml.Marshal(plugin)
	if err == nil {
		err = publish(filepath.Join(r.dir, "postback.yaml"), manifest)
	}
	if err != nil {
		return fmt.Errorf("write the manifest for krew: %w", err)
	}
	return nil
}
