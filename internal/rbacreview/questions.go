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

package rbacreview

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// timeout bounds one review, including the wait for a slot.
	timeout = 5 * time.Second
	// maxOpen bounds the reviews in flight, however many callers with unknown tokens there are.
	maxOpen = 32
)

// Questions bounds the reviews in flight at the API server. It is safe for concurrent use.
type Questions struct{ slots *semaphore.Weighted }

// NewQuestions returns a Questions without any review in flight.
func NewQuestions() *Questions { return &Questions{slots: semaphore.NewWeighted(maxOpen)} }

// Ask runs question as soon as fewer than maxOpen are in flight. The context of question ends after timeout, which
// includes the wait.
func (q *Questions) Ask(ctx context.Context, question func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := q.slots.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("%d reviews are in flight: %w", maxOpen, err)
	}
	defer q.slots.Release(1)
	return question(ctx)
}
