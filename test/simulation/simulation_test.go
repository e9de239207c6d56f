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

package simulation

import (
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/lane"
)

func base(name string) scenario {
	return scenario{
		name: name, failing: 2000, healthy: 200, hanging: 0.5,
		every: 2 * time.Minute, healthyEvery: 30 * time.Second, outage: 2 * time.Hour,
	}
}

func TestX(t *testing.T) {
	blind := base("blind")
	blind.blind = true
	noRamp := base("no ramp")
	noRamp.recovery = lane.Recovery{RampStart: 1e6}
	ours := base("ours")
	ours2 := base("ours again")
	restart := base("restart")
	restart.restart = time.Hour
	restart.hanging = 1
	restartOld := restart
	restartOld.name, restartOld.forgetful = "restart old", true
	restartOld.recovery = lane.Recovery{Share: 1}
	restartShare := restart
	restartShare.name = "restart forgetful, share"
	restartShare.forgetful = true
	restartMem := restart
	restartMem.name = "restart not forgetful, no share"
	restartMem.recovery = lane.Recovery{Share: 1}
	_, _, _, _ = ours, ours2, noRamp, blind
	for _, s := range []scenario{ours, restart, restartOld, restartShare, restartMem} {
		began := time.Now()
		m := run(t, s)
		end := before + s.outage
		t.Logf("%s took %s: n %d failed %d, peak/s in outage %d after %d, in flight %d / %d, back 50%% %s 90%% %s 99%% %s 100%% %s; healthy outage p50 %s p99 %s p100 %s; after p50 %s p99 %s p100 %s, write %s",
			s.name, time.Since(began), len(m.back), m.failed, highest(span(m.perSecond, before, end)), highest(span(m.perSecond, end, 100*time.Hour)),
			highest(span(m.inFlight, before, end)), highest(span(m.inFlight, end, 100*time.Hour)),
			percentile(m.back, 50), percentile(m.back, 90), percentile(m.back, 99), percentile(m.back, 100),
			percentile(m.inOutage, 50), percentile(m.inOutage, 99), percentile(m.inOutage, 100),
			percentile(m.afterwards, 50), percentile(m.afterwards, 99), percentile(m.afterwards, 100), m.longestWrite)
	}
}
