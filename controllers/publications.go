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
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// publications remembers since which resourceVersion of its Secret each route has held what it holds, not counting keys
// and values from Secrets. So a rotation does not make a Postback unready for the moment until the dispatcher has
// loaded the new key. It is in memory only: after a restart, the present resourceVersion has to do.
type publications struct {
	mu    sync.Mutex
	first map[types.UID]string
}

// note records a resourceVersion, unless an earlier one is known.
func (p *publications) note(postback types.UID, resourceVersion string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = map[types.UID]string{}
	}
	if _, known := p.first[postback]; !known {
		p.first[postback] = resourceVersion
	}
}

// since returns what note has recorded, or fallback.
func (p *publications) since(postback types.UID, fallback string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first, known := p.first[postback]; known {
		return first
	}
	return fallback
}

// forget drops the record, before the route changes or is deleted.
func (p *publications) forget(postback types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.first, postback)
}
