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

package keyring

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestRotateKeepsEveryKeyInItsOverlap(t *testing.T) {
	const overlap = 24 * time.Hour
	k := First("first", 0, Requests{}, t0.Add(123*time.Millisecond))
	if k.Version != 1 || !k.RotatedAt.Equal(t0) {
		t.Fatalf("first: %+v", k)
	}
	k = k.Rotate("second", overlap, t0.Add(time.Hour))
	k = k.Rotate("third", overlap, t0.Add(2*time.Hour))
	if got := k.Keys(); !slices.Equal(got, []string{"third", "second", "first"}) || k.Version != 3 {
		t.Fatalf("after two rotations: version %d, keys %v", k.Version, got)
	}
	for name, test := range map[string]struct {
		at   time.Duration // since t0
		keys []string
		next time.Duration // since t0; 0: none
	}{
		"at the last rotation":               {2 * time.Hour, []string{"third", "second", "first"}, 25 * time.Hour},
		"just before the first overlap ends": {25*time.Hour - 1, []string{"third", "second", "first"}, 25 * time.Hour},
		"when the first overlap ends":        {25 * time.Hour, []string{"third", "second"}, 26 * time.Hour},
		"when the last overlap ends":         {26 * time.Hour, []string{"third"}, 0},
		"long after":                         {1000 * time.Hour, []string{"third"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			left, next := k.Expire(overlap, t0.Add(test.at))
			if !slices.Equal(left.Keys(), test.keys) {
				t.Errorf("keys %v, want %v", left.Keys(), test.keys)
			}
			if want := t0.Add(test.next); test.next == 0 && !next.IsZero() || test.next != 0 && !next.Equal(want) {
				t.Errorf("next expiry %s, want %s", next, want)
			}
		})
	}
	if got := k.Keys(); len(got) != 3 {
		t.Errorf("Expire changed its receiver: %v", got)
	}
}

func TestRotateWithoutOverlapEndsEveryPreviousKey(t *testing.T) {
	k := First("first", 4, Requests{}, t0).Rotate("second", time.Hour, t0).Rotate("third", 0, t0)
	if got := k.Keys(); !slices.Equal(got, []string{"third"}) || k.Version != 7 {
		t.Errorf("version %d, keys %v", k.Version, got)
	}
}

func TestRotateDropsTheOldestBeyondTheLimit(t *testing.T) {
	k := First("key-1", 0, Requests{}, t0)
	for version := 2; version <= 15; version++ {
		k = k.Rotate(fmt.Sprintf("key-%d", version), time.Hour, t0)
	}
	if len(k.Previous) != maxPrevious || k.Previous[0].Key != "key-14" || k.Previous[maxPrevious-1].Key != "key-5" {
		t.Errorf("previous keys: %v", k.Keys())
	}
}

func TestRotateWithoutCurrentKeepsThePrevious(t *testing.T) {
	k := Keyring{Version: 3, Previous: []Previous{{2, "second", t0}}}.Rotate("fourth", time.Hour, t0)
	if got := k.Keys(); !slices.Equal(got, []string{"fourth", "second"}) || k.Version != 4 {
		t.Errorf("version %d, keys %v", k.Version, got)
	}
}

func TestExpireAfterTheClockWasSetBack(t *testing.T) {
	future := Keyring{Version: 2, Current: "second", Previous: []Previous{{1, "first", t0.Add(1000 * time.Hour)}}}
	k, next := future.Expire(time.Hour, t0)
	if len(k.Previous) != 1 || !k.Previous[0].RetiredAt.Equal(t0) || !next.Equal(t0.Add(time.Hour)) {
		t.Errorf("%+v, next %s", k, next)
	}
	// The clocks of replicas always differ a little.
	future.Previous[0].RetiredAt = t0.Add(maxSkew)
	if k, next = future.Expire(time.Hour, t0); !next.Equal(t0.Add(time.Hour + maxSkew)) {
		t.Errorf("%+v, next %s", k, next)
	}
	if k, _ = future.Expire(0, t0); len(k.Previous) != 0 {
		t.Error("overlap 0 keeps a key")
	}
}

func TestNextRotation(t *testing.T) {
	const day = 24 * time.Hour
	tests := map[string]struct {
		every     time.Duration
		rotatedAt time.Time
		want      time.Time
	}{
		"never":                     {0, t0, time.Time{}},
		"not due":                   {day, t0.Add(-time.Hour), t0.Add(23 * time.Hour)},
		"due to the instant":        {day, t0.Add(-day), t0},
		"overdue for long":          {day, t0.Add(-100 * day), t0},
		"one nanosecond before due": {day, t0.Add(-day + 1), t0.Add(1)},
		"made a little ahead":       {day, t0.Add(time.Minute), t0.Add(day + time.Minute)},
		"made in the far future":    {day, t0.Add(100 * day), t0},
		"never, in the far future":  {0, t0.Add(100 * day), time.Time{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := NextRotation(test.every, test.rotatedAt, t0); !got.Equal(test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
