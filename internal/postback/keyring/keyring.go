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
	// maxPrevious bounds the previous keys; a further rotation drops the oldest.
	maxPrevious = 10
	// maxSkew is how far in the future a stored time may lie. A later time was stored before the clock was set back,
	// and must not postpone a rotation or an expiry forever.
	maxSkew = 5 * time.Minute
)

// Keyring is the keys of one generated Secret. Its methods return a changed copy.
type Keyring struct {
	// Version is the number of Current. Each generated key has the next number. It is at least 1.
	Version int64
	// Current is the current key, or "" if the Secret holds no valid one.
	Current string
	// RotatedAt is the time at which Current was made, in whole seconds.
	RotatedAt time.Time
	// Previous are the replaced keys that keep signing, newest first.
	Previous []Previous
	// Handled are the rotation requests that Current, or an earlier key, answers.
	Handled Requests
}

// Requests are the tokens of rotation requests, as v1alpha1.HandledToken returns them; "" means none.
type Requests struct {
	// Own was made on the PostbackSecret itself.
	Own string
	// Passed was made on a Postback.
	Passed string
}

// Beyond reports whether a request is not among the handled ones.
func (r Requests) Beyond(handled Requests) bool {
	return r.Own != "" && r.Own != handled.Own || r.Passed != "" && r.Passed != handled.Passed
}

// Or returns the requests, with those of before in place of absent ones.
func (r Requests) Or(before Requests) Requests {
	return Requests{Own: cmp.Or(r.Own, before.Own), Passed: cmp.Or(r.Passed, before.Passed)}
}

// Previous is a replaced key.
type Previous struct {
	Version int64
	Key     string
	// RetiredAt is the time at which it was replaced, in whole seconds.
	RetiredAt time.Time
}

// First returns a keyring with its first key. lastVersion is the version of an earlier key that was lost, or 0; the
// new version follows it.
func First(key string, lastVersion int64, handled Requests, now time.Time) Keyring {
	return Keyring{Version: lastVersion + 1, Current: key, RotatedAt: now.UTC().Truncate(time.Second), Handled: handled}
}

// Rotate makes key the current one. The replaced key joins the previous ones and signs until overlap has passed. An
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

// Expire drops the previous keys whose overlap has passed. It returns the time at which the next one expires, or zero
// if none is left. A retirement time in the future counts as now.
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

// NextRotation returns the time at which a key made at rotatedAt is due for rotation. It is now if that time has
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

// Keys returns the signing keys: the current one, then the previous ones, newest first.
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
