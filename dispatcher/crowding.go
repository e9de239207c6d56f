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

package dispatcher

import (
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// warnEvery is the least time between two warnings about one Postback.
const warnEvery = 10 * time.Minute

// warn records a Kubernetes Event on each Postback that takes too much of the waiting stream, and writes one log line
// about them.
func (b *backlog) warn(crowding jetstream.Crowding) {
	now := b.clock.Now()
	maps.DeleteFunc(b.warned, func(_ types.UID, at time.Time) bool { return now.Sub(at) >= warnEvery })
	var holders []string
	news := false
	for _, holder := range crowding.Holders {
		r := b.routes.Get(holder.Postback)
		if r == nil {
			continue // Its messages are removed soon.
		}
		holders = append(holders, fmt.Sprintf("%s/%s %d%%", r.Namespace, r.Name, jetstream.Percent(holder.Share)))
		if _, told := b.warned[r.UID]; told {
			continue
		}
		if news = true; b.warned == nil {
			b.warned = map[types.UID]time.Time{}
		}
		b.warned[r.UID] = now
		b.emit(r, holder, crowding.Used)
	}
	if news {
		b.log.Info("Events are refused, because their Postbacks take too much of the waiting stream",
			"postbacks", strings.Join(holders, ", "), "used", fmt.Sprintf("%d%%", jetstream.Percent(crowding.Used)))
	}
}

func (b *backlog) emit(r *route.Route, holder jetstream.Holder, used float64) {
	b.events.Eventf(r.Postback(), nil, corev1.EventTypeWarning, v1alpha1.BacklogTooLargeReason, "Store",
		"Events are refused: the stream of waiting deliveries is full to %d%%, and about %d%% of it are deliveries of this Postback. Fix the endpoint, resume the Postback or raise its limits, or drop deliveries.",
		jetstream.Percent(used), jetstream.Percent(holder.Share))
}
