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

// Recovery is how lanes treat an endpoint that is in trouble, and one that has come back. A field that is 0 means its
// default, which test/simulation compares with others.
type Recovery struct {
	// TripAfter is the number of failures in a row that open the circuit.
	TripAfter uint
	// FirstOpen and LongestOpen bound how long an open circuit waits for its next probe: the time doubles with each probe
	// that fails.
	FirstOpen, LongestOpen time.Duration
	// RampStart is how many attempts a second an endpoint gets at first when it has recovered. Each second without trouble
	// doubles that; beyond RampEnd there is no bound any more but the limits.
	RampStart, RampEnd float64
	// Share is the part of all places that endpoints in doubt may hold together: those whose last attempt found them in
	// trouble.
	Share float64
}

// withDefaults returns a Recovery without a 0.
func (r Recovery) withDefaults() Recovery {
	return Recovery{
		TripAfter:   cmp.Or(r.TripAfter, tripAfter),
		FirstOpen:   cmp.Or(r.FirstOpen, firstOpen),
		LongestOpen: cmp.Or(r.LongestOpen, longestOpen),
		RampStart:   cmp.Or(r.RampStart, rampStart),
		RampEnd:     cmp.Or(r.RampEnd, rampEnd),
		Share:       cmp.Or(r.Share, share),
	}
}
