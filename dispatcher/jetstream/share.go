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

package jetstream

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// fullRatio is the used part of the waiting stream from which on events for throttled endpoints are refused. The
	// rest is for accepted deliveries.
	fullRatio = 0.95
	// shareFactor bounds the bytes of one Postback in the waiting stream to this multiple of the free bytes. One
	// Postback takes up to 80 % of the stream, two take up to 44 % each, and another one always finds room.
	shareFactor = 4
	// sizeSamples is the number of events over which the mean size of a Postback's deliveries follows a change.
	sizeSamples = 16
	// maxHolders bounds the named Postbacks of a crowded stream.
	maxHolders = 3
	// minHolder is the least part of a full stream that makes a Postback one of those that fill it, if none holds more
	// than its share.
	minHolder = 0.05
)

// admission says whether the waiting stream has room for the delivery of an event. Deliveries that are accepted
// already need no admission.
type admission int

const (
	admitted admission = iota
	// overShare means that the Postback of the event holds more than its share of the stream.
	overShare
	// streamFull means that the delivery would wait, and only the rest for accepted deliveries is free.
	streamFull
)

// admit decides about an event. used is the used part of the stream's bound in bytes, share the part that the event's
// Postback holds. waits says that the delivery goes to the waiting stream at once. Any other delivery does so if its
// attempt fails, so share bounds it, too: an endpoint that fails every second request would fill the stream.
func admit(used, share float64, waits bool) admission {
	switch {
	case share > shareFactor*(1-used):
		return overShare
	case waits && used >= fullRatio:
		return streamFull
	}
	return admitted
}

// waitingUse is the use of the waiting stream at a poll. It does not change.
type waitingUse struct {
	// used is the used part of the stream's bound in bytes, or 0 without a bound.
	used float64
	// shares has the estimated part of each Postback. Their sum is used.
	shares map[postbackKey]float64
}

// shares estimates which part of the stream's bound each Postback holds. NATS counts the messages of a subject but not
// their bytes. sizes has the mean sizes of the Postbacks' messages; mean is the size of all others.
func shares(counts map[postbackKey]levelCounts, sizes map[postbackKey]float64, mean, used float64) map[postbackKey]float64 {
	estimated, total := make(map[postbackKey]float64, len(counts)), 0.0
	for key, n := range counts {
		estimated[key] = float64(n.total()) * cmp.Or(sizes[key], mean)
		total += estimated[key]
	}
	for key, bytes := range estimated {
		if estimated[key] = 0; total > 0 {
			estimated[key] = bytes / total * used
		}
	}
	return estimated
}

// admits decides about an event for a Postback, by the last poll. It asks waits only if the stream is full.
func (p *Pending) admits(r *route.Route, waits func() bool) intake.Outcome {
	use := p.use.Load()
	if use == nil {
		return intake.Outcome{}
	}
	refused := intake.Outcome{Result: intake.Unstored, Reason: intake.StreamFull, Err: intake.ErrNoRoomToWait}
	share := use.shares[postbackKey{r.Namespace, r.UID}]
	switch admit(use.used, share, use.used >= fullRatio && waits()) {
	case overShare:
		// The other Postbacks may belong to others than the producer: the message names none of them.
		refused.Message = fmt.Sprintf("The waiting deliveries of Postback %s take about %d%% of their stream, which is more than its share.", r.Name, Percent(share))
		return refused
	case streamFull:
		refused.Message = "The stream of waiting deliveries is full."
		return refused
	case admitted:
	}
	return intake.Outcome{}
}

// Percent returns a part in percent.
func Percent(part float64) int32 { return int32(part*100 + 0.5) }

// noteSize records the size of a delivery of a Postback that has waiting ones.
func (p *Pending) noteSize(r *route.Route, size int) {
	key, use := postbackKey{r.Namespace, r.UID}, p.use.Load()
	if use == nil {
		return
	}
	if _, waits := use.shares[key]; !waits {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sizes == nil {
		p.sizes = map[postbackKey]float64{}
	}
	mean := cmp.Or(p.sizes[key], float64(size))
	p.sizes[key] = mean + (float64(size)-mean)/sizeSamples
}

// Holder is a Postback with waiting deliveries, and its estimated part of the waiting stream.
type Holder struct {
	Postback types.UID
	Share    float64
}

// Crowding describes a waiting stream that has no room for every event.
type Crowding struct {
	// Used is the used part of the stream.
	Used float64
	// Holders are Postbacks that hold more than their share, or otherwise those that fill a full stream. The largest
	// comes first.
	Holders []Holder
}

// Crowding returns the Postbacks for which the waiting stream has no room.
func (p *Pending) Crowding() Crowding {
	use := p.use.Load()
	if use == nil {
		return Crowding{}
	}
	return Crowding{use.used, use.holders()}
}

// holders returns the largest Postbacks that hold more than their share. Of a full stream in which no Postback does, it
// returns the largest ones. A small backlog is no reason to blame its Postback.
func (u *waitingUse) holders() []Holder {
	largest := u.largest(func(share float64) bool { return admit(u.used, share, false) == overShare })
	if len(largest) == 0 && u.used >= fullRatio {
		largest = u.largest(func(share float64) bool { return share >= minHolder })
	}
	return largest
}

// largest returns the largest Postbacks with a share that matches.
func (u *waitingUse) largest(matches func(share float64) bool) (largest []Holder) {
	for key, share := range u.shares {
		if matches(share) {
			largest = append(largest, Holder{key.postback, share})
		}
	}
	slices.SortFunc(largest, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Postback, b.Postback))
	})
	return largest[:min(len(largest), maxHolders)]
}

// Share returns the estimated part of the waiting stream that a Postback's deliveries take.
func (p *Pending) Share(r *route.Route) float64 {
	use := p.use.Load()
	if use == nil {
		return 0
	}
	return use.shares[postbackKey{r.Namespace, r.UID}]
}

// observe updates the metrics of the shares.
func (u *waitingUse) observe() {
	largest, over := 0.0, 0
	for _, share := range u.shares {
		largest = max(largest, share)
		if admit(u.used, share, false) == overShare {
			over++
		}
	}
	waitingUsedGauge.Set(u.used)
	largestShareGauge.Set(largest)
	overShareGauge.Set(float64(over))
}
