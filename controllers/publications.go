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

// publications records, for each route, the first resourceVersion of its Secret with the present content, apart from
// keys and values from Secrets. So a Postback stays ready during a rotation, before the dispatcher loads the new key.
// The record is in memory only: after a restart, the present resourceVersion replaces it.
type publications struct {
	mu    sync.Mutex
	first map[types.UID]string
}

// note records a resourceVersion unless the Postback has a record.
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

// since returns the recorded resourceVersion, or fallback.
func (p *publications) since(postback types.UID, fallback string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first, known := p.first[postback]; known {
		return first
	}
	return fallback
}

// forget drops the record. Callers call it before they change or delete the route.
func (p *publications) forget(postback types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.first, postback)
}
