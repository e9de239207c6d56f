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

// Package rbacreview caches the API server's answers to reviews: the user of a token, and the rights of a user.
package rbacreview

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

const (
	// AllowedFor is how long a positive answer is cached. A revoked token or right still works for that long.
	AllowedFor = time.Minute
	// DeniedFor is how long a negative answer is cached. A new right takes effect after that time at the latest.
	DeniedFor = 10 * time.Second
	// maxRemembered bounds the answers in one cache. The least recently used answer is evicted.
	maxRemembered = 8192
)

// Holds returns how long an answer about a right is cached.
func Holds(allowed bool) time.Duration {
	if allowed {
		return AllowedFor
	}
	return DeniedFor
}

// Cache caches answers for a limited time. Concurrent callers with the same question share one request. It is safe
// for concurrent use.
type Cache[V any] struct {
	clock   clock.PassiveClock
	answers *lru.Cache
	flights singleflight.Group
}

type answer[V any] struct {
	value V
	until time.Time
}

// New returns an empty cache.
func New[V any](c clock.PassiveClock) *Cache[V] {
	return &Cache[V]{clock: c, answers: lru.New(maxRemembered)}
}

// Get returns the cached answer for a key, or else the result of ask, which also returns the time to cache it; 0
// means not at all. An error is not cached, and does not change the last answer. ask continues after ctx ends,
// because other callers wait for its answer, so ask needs a timeout of its own.
func (c *Cache[V]) Get(ctx context.Context, key string, ask func(context.Context) (V, time.Duration, error)) (V, error) {
	if value, ok := c.holding(key); ok {
		return value, nil
	}
	detached := context.WithoutCancel(ctx)
	result := c.flights.DoChan(key, func() (any, error) {
		if value, ok := c.holding(key); ok {
			return value, nil
		}
		value, holds, err := ask(detached)
		if err == nil && holds > 0 {
			c.answers.Add(key, answer[V]{value, c.clock.Now().Add(holds)})
		}
		return value, err
	})
	var none V
	select {
	case r := <-result:
		if value, ok := r.Val.(V); ok && r.Err == nil {
			return value, nil
		}
		return none, r.Err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Last returns the most recent answer for a key, even if it has expired.
func (c *Cache[V]) Last(key string) (V, bool) {
	known, ok := c.remembered(key)
	return known.value, ok
}

func (c *Cache[V]) holding(key string) (V, bool) {
	known, ok := c.remembered(key)
	return known.value, ok && c.clock.Now().Before(known.until)
}

func (c *Cache[V]) remembered(key string) (answer[V], bool) {
	value, _ := c.answers.Get(key)
	known, ok := value.(answer[V])
	return known, ok
}
