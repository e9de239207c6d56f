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

package filter

import (
	"container/list"
	"sync"
)

const (
	// cacheFilters bounds the expressions in a Cache. cacheText bounds their text in bytes, to which the memory of
	// compiled expressions is proportional.
	cacheFilters = 10_000
	cacheText    = 1 << 20
)

// Cache holds compiled expressions, and the errors of those that do not compile. It evicts the least recently used
// ones. It is safe for concurrent use; the zero value is ready to use.
type Cache struct {
	mu      sync.Mutex
	entries map[string]*list.Element
	// recent has the most recently used entry at the front.
	recent *list.List
	text   int
}

type entry struct {
	expression string
	filter     *Filter
	err        error
}

// Get returns the compiled expression, or the error of Compile.
func (c *Cache) Get(expression string) (*Filter, error) {
	if e, ok := c.find(expression); ok {
		return e.filter, e.err
	}
	// Compile runs without the lock, so that other callers do not wait. Two callers may compile the same expression,
	// which is harmless.
	e := &entry{expression: expression}
	e.filter, e.err = Compile(expression)
	c.add(e)
	return e.filter, e.err
}

func (c *Cache) find(expression string) (*entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[expression]
	if !ok {
		return nil, false
	}
	c.recent.MoveToFront(element)
	e, ok := element.Value.(*entry)
	return e, ok
}

func (c *Cache) add(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries, c.recent = map[string]*list.Element{}, list.New()
	}
	if _, ok := c.entries[e.expression]; ok {
		return
	}
	c.entries[e.expression] = c.recent.PushFront(e)
	c.text += len(e.expression)
	for len(c.entries) > cacheFilters || c.text > cacheText && len(c.entries) > 1 {
		oldest, ok := c.recent.Remove(c.recent.Back()).(*entry)
		if !ok {
			return
		}
		delete(c.entries, oldest.expression)
		c.text -= len(oldest.expression)
	}
}
