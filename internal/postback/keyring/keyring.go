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
	"cmp"
	"slices"
	"time"
)

const (
	// maxPrevious is how many previous keys are kept; a rotation beyond it drops the oldest.
	maxPrevious = 10
	// maxSkew is how far in the future a stored time may lie. A time beyond it was stored before the clock was set
	// back, and must not make anything last forever.
	maxSkew = 5 * time.Minute
)

// Keyring is the keys of one generated signing secret. Its methods return a changed copy.
type Keyring struct {
	// Version counts the keys; Current is the one of this number. It is at least 1.
	Version int64
	// Current is the key, or "" if the Secret holds none that could sign.
	Current string
	// RotatedAt is when Current was made, in whole seconds.
	RotatedAt time.Time
	// Previous are the replaced keys that keep signing, newest first.
	Previous []Previous
	// Handled are the requests that Current, or a key before it, answers.
	Handled Requests
}

// Requests are the tokens of requests for rotation, as v1alpha1.HandledToken returns them; "" is none.
type Requests struct {
	// Own was made on the PostbackSecret itself.
	Own string
	// Passed was made on a Postback.
	Passed string
}

// Beyond reports whether there is a request that is not among those handled.
func (r Requests) Beyond(handled Requests) bool {
	return r.Own != "" && r.Own != handled.Own || r.Passed != "" && r.Passed != handled.Passed
}

// Or returns the requests. An absent one is replaced by the one of before.
func (r Requests) Or(before Requests) Requests {
	return Requests{Own: cmp.Or(r.Own, before.Own), Passed: cmp.Or(r.Passed, before.Passed)}
}

// Previous is a key that was replaced.
type Previous struct {
	Version int64
	Key     string
	// RetiredAt is when it was replaced, in whole seconds.
	RetiredAt time.Time
}

// First returns a keyring with a first key. Its version follows lastVersion, the number of the key that was there
// before and is lost, or 0.
func First(key string, lastVersion int64, handled Requests, now time.Time) Keyring {
	return Keyring{Version: lastVersion + 1, Current: key, RotatedAt: now.UTC().Truncate(time.Second), Handled: handled}
}

// Rotate makes key the current one. The key before it joins the previous ones and signs until overlap has passed; an
// overlap of 0 ends every previous key at once.
func (k Keyring) Rotate(key string, overlap time.Duration, now time.Time) Keyring {
	now = now.UTC().Truncate(time.Second)
	rotated := Keyring{Version: k.Version + 1, Current: key, RotatedAt: now, Handled: k.Handled}
	if overlap <= 0 {
		return rotated
	}
	if k.Current != "" {
		rotated.Previous = append(rotated.Previous, Previous{Version: k.Version, Key: k.Current, RetiredAt: now})
	}
	rotated.Previous = append(rotated.Previous, k.Previous...)
	rotated.Previous = rotated.Previous[:min(len(rotated.Previous), maxPrevious)]
	return rotated
}

// Expire drops the previous keys whose overlap is over. It returns the time at which the next one expires; zero if none
// is left. A key that was retired in the future counts as retired now.
func (k Keyring) Expire(overlap time.Duration, now time.Time) (Keyring, time.Time) {
	var (
		next time.Time
		kept []Previous
	)
	for _, previous := range k.Previous {
		if previous.RetiredAt.After(now.Add(maxSkew)) {
			previous.RetiredAt = now.UTC().Truncate(time.Second)
		}
		expiry := previous.RetiredAt.Add(overlap)
		if overlap <= 0 || !expiry.After(now) {
			continue
		}
		if next.IsZero() || expiry.Before(next) {
			next = expiry
		}
		kept = append(kept, previous)
	}
	k.Previous = kept
	return k, next
}

// NextRotation returns the time for the replacement of a key that was made at rotatedAt. It is now if that time has
// passed or rotatedAt lies in the future, and zero if every is 0.
func NextRotation(every time.Duration, rotatedAt, now time.Time) time.Time {
	if every <= 0 {
		return time.Time{}
	}
	due := rotatedAt.Add(every)
	if !due.After(now) || rotatedAt.After(now.Add(maxSkew)) {
		return now
	}
	return due
}

// Keys returns the keys that sign: the current one, then the previous ones, newest first.
func (k Keyring) Keys() []string {
	keys := []string{k.Current}
	for _, previous := range k.Previous {
		keys = append(keys, previous.Key)
	}
	return keys
}

func sortNewestFirst(previous []Previous) {
	slices.SortFunc(previous, func(a, b Previous) int { return int(min(max(b.Version-a.Version, -1), 1)) })
}
