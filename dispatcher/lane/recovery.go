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

package lane

import (
	"cmp"
	"time"
)

// Recovery configures the treatment of troubled and recovered endpoints. A zero field means its default;
// test/simulation compares the defaults with other values.
type Recovery struct {
	// TripAfter is the number of failures in a row that open the circuit, provided that no attempt succeeded within
	// TripQuiet.
	TripAfter int
	TripQuiet time.Duration
	// FirstOpen and LongestOpen bound the wait of an open circuit for its next probe. The wait doubles with each
	// failed probe.
	FirstOpen, LongestOpen time.Duration
	// RampStart is the first rate of the slow start, in attempts per second. Each second doubles it, unless too many
	// attempts fail. Beyond RampEnd only the limits of the Postback apply.
	RampStart, RampEnd float64
	// Share is the part of all slots that troubled endpoints may use together. An endpoint is troubled if its newest
	// attempt ended in trouble.
	Share float64
}

// beyondChance reports whether failures in a row show that an endpoint is down. An endpoint that fails a fifth of its
// requests at random often fails five in a row at a high rate. It still succeeds within the second.
func (r Recovery) beyondChance(failures int, sinceSuccess time.Duration) bool {
	return failures >= r.TripAfter && sinceSuccess >= r.TripQuiet
}

// withDefaults returns r with the defaults in place of zero fields.
func (r Recovery) withDefaults() Recovery {
	return Recovery{
		TripAfter:   cmp.Or(r.TripAfter, tripAfter),
		TripQuiet:   cmp.Or(r.TripQuiet, tripQuiet),
		FirstOpen:   cmp.Or(r.FirstOpen, firstOpen),
		LongestOpen: cmp.Or(r.LongestOpen, longestOpen),
		RampStart:   cmp.Or(r.RampStart, rampStart),
		RampEnd:     cmp.Or(r.RampEnd, rampEnd),
		Share:       cmp.Or(r.Share, share),
	}
}
