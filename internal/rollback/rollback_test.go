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

package rollback

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	testingclock "k8s.io/utils/clock/testing"
)

func TestRegressed(t *testing.T) {
	for name, test := range map[string]struct {
		before, now string
		want        bool
	}{
		"the first":             {now: "7"},
		"the same":              {before: "7", now: "7"},
		"a later one":           {before: "9", now: "10"},
		"an earlier one":        {before: "10", now: "9", want: true},
		"one that is no number": {before: "10", now: "x"},
		"none":                  {before: "10"},
		"zero":                  {before: "10", now: "0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := regressed(test.before, test.now); got != test.want {
				t.Errorf("regressed %v", got)
			}
		})
	}
}

var errAway = errors.New("the API server is away")

// waitFor waits until the code under test waits for the clock.
func waitFor(t *testing.T, clock *testingclock.FakeClock) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return clock.HasWaiters(), nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A guarded context survives growing versions and outages, and ends with the first lower version.
func TestGuard(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	answers, asked := make(chan string), make(chan struct{})
	w := &Watch{
		Read: func(ctx context.Context) (string, error) {
			select {
			case asked <- struct{}{}:
			case <-ctx.Done():
				return "", ctx.Err()
			}
			if answer := <-answers; answer != "" {
				return answer, nil
			}
			return "", errAway
		},
		Clock: clock, Log: logr.Discard(),
	}
	ctx, end := w.Guard(t.Context())
	defer end()
	pause := time.Duration(0)
	for i, answer := range []string{"7", "7", "", "12", "11"} {
		if i > 0 {
			waitFor(t, clock)
			clock.Step(pause)
		}
		<-asked
		pause = readEvery
		if answer == "" {
			pause = retryEvery
		}
		if Cause(ctx) != nil {
			t.Fatalf("it ended before answer %d", i)
		}
		answers <- answer
	}
	<-ctx.Done()
	if err := Cause(ctx); !errors.Is(err, ErrRolledBack) {
		t.Errorf("it ended with %v", err)
	}
}

// A guarded context that ends for another reason has no ErrRolledBack as its cause.
func TestGuardEndsInOrder(t *testing.T) {
	w := &Watch{Read: func(context.Context) (string, error) { return "7", nil }, Clock: testingclock.NewFakeClock(time.Now()), Log: logr.Discard()}
	ctx, end := w.Guard(t.Context())
	end()
	<-ctx.Done()
	if err := Cause(ctx); err != nil {
		t.Error(err)
	}
}
