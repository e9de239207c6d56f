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

package access

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

// memory remembers answers for as long as they hold. Of callers who ask the same at the same time, one asks for all.
type memory[V any] struct {
	answers *cache.LRUExpireCache
	asking  singleflight.Group
}

func newMemory[V any](c clock.PassiveClock, size int) *memory[V] {
	return &memory[V]{answers: cache.NewLRUExpireCacheWithClock(size, c)}
}

// get returns the answer that is remembered under a key, or what ask returns, which also says for how long it holds. An
// error is not remembered. The question goes on if ctx ends, for the others who wait for its answer: ask has to bound it.
func (m *memory[V]) get(ctx context.Context, key string, ask func(context.Context) (V, time.Duration, error)) (V, error) {
	if answer, ok := m.remembered(key); ok {
		return answer, nil
	}
	detached := context.WithoutCancel(ctx)
	result := m.asking.DoChan(key, func() (any, error) {
		if answer, ok := m.remembered(key); ok {
			return answer, nil
		}
		answer, holds, err := ask(detached)
		if err == nil && holds > 0 {
			m.answers.Add(key, answer, holds)
		}
		return answer, err
	})
	var none V
	select {
	case r := <-result:
		if answer, ok := r.Val.(V); ok && r.Err == nil {
			return answer, nil
		}
		return none, r.Err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (m *memory[V]) remembered(key string) (V, bool) {
	value, _ := m.answers.Get(key)
	answer, ok := value.(V)
	return answer, ok
}
