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

// Command roles derives the roles of an installation for named namespaces from those of an installation for all.
// controller-gen has written the latter from the markers in the code. Usage: roles FOLDER, which contains
// config/rbac.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const (
	readable  = 0o644
	traversed = 0o755
	// suffix distinguishes the names if the namespace of the installation is itself watched.
	suffix = "-watched"
)

// clusterGroups are the API groups of the ClusterRoles whose resources are not namespaced.
var clusterGroups = []string{"authentication.k8s.io", "authorization.k8s.io"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: roles FOLDER")
		os.Exit(2)
	}
	if err := write(filepath.Join(os.Args[1], "config", "rbac")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write writes the roles for each watched namespace, and the remaining roles of the installation.
func write(rbac string) error {
	var namespace, installation []any
	for _, program := range []string{"manager", "dispatcher"} {
		p, err := read(filepath.Join(rbac, program, "role.yaml"))
		if err != nil {
			return err
		}
		cluster, watched, err := p.split()
		if err != nil {
			return err
		}
		namespace = append(namespace, watched)
		if len(cluster.Rules) > 0 {
			installation = append(installation, cluster)
		}
		installation = append(installation, &p.role)
	}
	if err := save(filepath.Join(rbac, "namespace", "role.yaml"), namespace); err != nil {
		return err
	}
	return save(filepath.Join(rbac, "namespaced", "role.yaml"), installation)
}

// program has the roles of the manager or the dispatcher.
type program struct {
	cluster rbacv1.ClusterRole
	role    rbacv1.Role
}

func read(path string) (*program, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &program{}
	into := map[string]any{"ClusterRole": &p.cluster, "Role": &p.role}
	for document := range strings.SplitSeq(string(content), "---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if kind.Kind == "" {
			continue
		}
		object := into[kind.Kind]
		delete(into, kind.Kind)
		if object == nil {
			return nil, fmt.Errorf("%s: a %s too many", path, kind.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if len(into) > 0 {
		return nil, fmt.Errorf("%s has not both a ClusterRole and a Role", path)
	}
	return p, nil
}

// split returns the rest of the ClusterRole, and the Role for each watched namespace. If the Role of the
// installation's namespace names a resource, that Role also gets the rights of the ClusterRole on it.
func (p *program) split() (*rbacv1.ClusterRole, *rbacv1.Role, error) {
	cluster := p.cluster.DeepCopy()
	cluster.Rules = nil
	watched := &rbacv1.Role{TypeMeta: p.role.TypeMeta}
	watched.Name = p.role.Name + suffix
	for _, rule := range p.cluster.Rules {
		// Named objects are cluster-wide, such as the CA of client certificates.
		if slices.Contains(clusterGroups, rule.APIGroups[0]) || len(rule.ResourceNames) > 0 {
			cluster.Rules = append(cluster.Rules, rule)
			continue
		}
		watched.Rules = append(watched.Rules, rule)
		for i := range p.role.Rules {
			if err := widen(&p.role.Rules[i], &rule); err != nil {
				return nil, nil, fmt.Errorf("Role %s: %w", p.role.Name, err)
			}
		}
	}
	return cluster, watched, nil
}

// widen adds the verbs of one rule to another rule for the same resources.
func widen(rule, by *rbacv1.PolicyRule) error {
	if !slices.Equal(rule.APIGroups, by.APIGroups) || !slices.ContainsFunc(rule.Resources, func(r string) bool { return slices.Contains(by.Resources, r) }) {
		return nil
	}
	if !slices.Equal(rule.Resources, by.Resources) {
		return fmt.Errorf("a rule for %v and one for %v overlap", rule.Resources, by.Resources)
	}
	rule.Verbs = slices.Compact(slices.Sorted(slices.Values(slices.Concat(rule.Verbs, by.Verbs))))
	return nil
}

func save(path string, objects []any) error {
	var out bytes.Buffer
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	if err := os.MkdirAll(filepath.Dir(path), traversed); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), readable)
}
