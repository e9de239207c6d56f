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

// Package watched implements the flag --watch-namespaces: the namespaces that the programs serve.
package watched

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// Flag is the name of the flag; Usage is its description.
const (
	Flag  = "watch-namespaces"
	Usage = "Namespaces to watch, separated by commas; may be repeated. Empty: all. Manager and dispatcher need the same value, and the Roles of config/rbac/namespace in each of the namespaces."
)

// Namespaces are the namespaces that a program serves. The zero value means all. It is a flag.Value.
type Namespaces struct {
	// names are sorted and unique.
	names []string
}

// Of reads the output of String.
func Of(text string) Namespaces {
	if text == "" {
		return Namespaces{}
	}
	return Namespaces{names: strings.Split(text, ",")}
}

// Set implements flag.Value. It adds names separated by commas.
func (n *Namespaces) Set(text string) error {
	if text == "" {
		return nil
	}
	for name := range strings.SplitSeq(text, ",") {
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			return fmt.Errorf("%q is not the name of a namespace: %s", name, strings.Join(problems, "; "))
		}
		n.names = append(n.names, name)
	}
	slices.Sort(n.names)
	n.names = slices.Compact(n.names)
	return nil
}

// String implements flag.Value. It returns "" for all namespaces.
func (n Namespaces) String() string { return strings.Join(n.names, ",") }

// All reports whether every namespace is watched.
func (n Namespaces) All() bool { return len(n.names) == 0 }

// Has reports whether a namespace is watched.
func (n Namespaces) Has(namespace string) bool { return n.All() || slices.Contains(n.names, namespace) }

// Scopes returns the namespaces to list and watch: each one, or metav1.NamespaceAll.
func (n Namespaces) Scopes() []string {
	if n.All() {
		return []string{metav1.NamespaceAll}
	}
	return slices.Clone(n.names)
}

// Cache returns the namespaces of a cache's configuration, with those of beside added. It is nil for all.
func (n Namespaces) Cache(beside ...string) map[string]cache.Config {
	if n.All() {
		return nil
	}
	configs := map[string]cache.Config{}
	for _, name := range slices.Concat(n.names, beside) {
		configs[name] = cache.Config{}
	}
	return configs
}
