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
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

var errDown = errors.New("connection refused")

func TestAnswersHoldForTheirTime(t *testing.T) {
	start := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		value bool
		holds time.Duration
		err   error
		after time.Duration
		asked int
	}{
		"allowed, in its time":    {value: true, holds: Holds(true), after: AllowedFor - 1, asked: 1},
		"allowed, after its time": {value: true, holds: Holds(true), after: AllowedFor, asked: 2},
		"denied, in its time":     {holds: Holds(false), after: DeniedFor - 1, asked: 1},
		"denied, after its time":  {holds: Holds(false), after: DeniedFor, asked: 2},
		"holds for no time":       {value: true, asked: 2},
		"negative time":           {value: true, holds: -time.Second, asked: 2},
		"an error":                {value: true, holds: time.Hour, err: errDown, asked: 2},
	} {
		t.Run(name, func(t *testing.T) {
			clock := clocktesting.NewFakePassiveClock(start)
			asked := 0
			c := New[bool](clock)
			for _, now := range []time.Time{start, start.Add(test.after)} {
				clock.SetTime(now)
				got, err := c.Get(t.Context(), "right", func(context.Context) (bool, time.Duration, error) {
					asked++
					return test.value, test.holds, test.err
				})
				if want := test.value && test.err == nil; got != want || !errors.Is(err, test.err) {
					t.Errorf("got %v, %v; want %v, %v", got, err, want, test.err)
				}
			}
			if asked != test.asked {
				t.Errorf("asked %d times, want %d", asked, test.asked)
			}
		})
	}
}

// After an error or its expiry, Last still returns the last answer.
func TestLastOutlivesItsTimeAndErrors(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	c := New[string](clock)
	if _, ok := c.Last("right"); ok {
		t.Error("there is an answer before the first question")
	}
	answers := []struct {
		value string
		err   error
	}{{"first", nil}, {"", errDown}, {"second", nil}}
	for i, want := range []string{"first", "first", "second"} {
		_, err := c.Get(t.Context(), "right", func(context.Context) (string, time.Duration, error) {
			return answers[i].value, time.Second, answers[i].err
		})
		if !errors.Is(err, answers[i].err) {
			t.Fatal(err)
		}
		clock.SetTime(clock.Now().Add(time.Minute))
		if got, ok := c.Last("right"); !ok || got != want {
			t.Errorf("after question %d: %q, %v; want %q", i+1, got, ok, want)
		}
	}
}

func TestOneAsksForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[bool](clock.RealClock{})
		release := make(chan struct{})
		var asked, allowed atomic.Int32
		question := func(context.Context) (bool, time.Duration, error) {
			asked.Add(1)
			<-release
			return true, AllowedFor, nil
		}
		impatient, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := c.Get(impatient, "right", question)
			left <- err
		}()
		synctest.Wait()
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				if may, err := c.Get(t.Context(), "right", question); err == nil && may {
					allowed.Add(1)
				}
			})
		}
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that leaves gets %v", err)
		}
		close(release)
		callers.Wait()
		if asked.Load() != 1 || allowed.Load() != 20 {
			t.Errorf("asked %d times, and %d of 20 are allowed", asked.Load(), allowed.Load())
		}
	})
}

func TestOpenQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQuestions()
		var open atomic.Int32
		var callers sync.WaitGroup
		began := time.Now()
		for range maxOpen + 10 {
			callers.Go(func() {
				err := q.Ask(t.Context(), func(ctx context.Context) error {
					open.Add(1)
					<-ctx.Done()
					return ctx.Err()
				})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a question ends with %v", err)
				}
			})
		}
		synctest.Wait()
		if got := open.Load(); got != maxOpen {
			t.Errorf("%d questions are open, want %d", got, maxOpen)
		}
		callers.Wait()
		if took := time.Since(began); took != timeout {
			t.Errorf("the questions end after %s, want %s", took, timeout)
		}
		if err := q.Ask(t.Context(), func(context.Context) error { return errDown }); !errors.Is(err, errDown) {
			t.Errorf("a question after them: %v", err)
		}
	})
}

func TestAnswersAreBounded(t *testing.T) {
	c := New[int](clocktesting.NewFakePassiveClock(time.Unix(0, 0)))
	for i := range maxRemembered + 50 {
		if _, err := c.Get(t.Context(), strconv.Itoa(i), func(context.Context) (int, time.Duration, error) { return i, time.Hour, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.answers.Len(); got != maxRemembered {
		t.Errorf("%d answers are remembered, want %d", got, maxRemembered)
	}
	if _, ok := c.Last("49"); ok {
		t.Error("an old answer stays")
	}
	if _, ok := c.Last("50"); !ok {
		t.Error("a young answer leaves")
	}
}
