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
	"reflect"
	"testing"
	"time"
)

// small is an outage whose simulation takes only a moment.
func small(change func(*scenario)) scenario {
	return restarted("small", func(s *scenario) {
		s.failing, s.healthy, s.outage, s.restart = 200, 10, 40*time.Minute, 20*time.Minute
		s.maxInFlight = 32
		change(s)
	})
}

// The published figures rely on this test: no event is lost, runs are reproducible, and each rule has an effect.
func TestOutage(t *testing.T) {
	shipped, again := run(t, small(func(*scenario) {})), run(t, small(func(*scenario) {}))
	if !reflect.DeepEqual(shipped.perSecond, again.perSecond) || table([]*measured{shipped}) != table([]*measured{again}) {
		t.Errorf("two runs differ: %s%s", table([]*measured{shipped}), table([]*measured{again}))
	}
	blind, forgetful := run(t, small(func(s *scenario) { s.blind = true })), run(t, small(forget))
	t.Logf("as shipped, without a circuit, without a share:\n%s", table([]*measured{shipped, blind, forgetful}))
	end := before + shipped.scenario.outage
	for name, m := range map[string]*measured{"shipped": shipped, "blind": blind, "forgetful": forgetful} {
		t.Run(name, func(t *testing.T) {
			if got, want := len(m.back), len(shipped.back); got != want || got < 3000 {
				t.Errorf("%d events are delivered after the outage, as shipped %d", got, want)
			}
			if most := highest(m.inFlight); most > 32 {
				t.Errorf("%d in flight", most)
			}
		})
	}
	if shipped.failed*3/2 > blind.failed {
		t.Errorf("%d attempts fail, and without a circuit %d", shipped.failed, blind.failed)
	}
	if a, b := percentile(shipped.back, 90), percentile(blind.back, 90); a > b/5 {
		t.Errorf("90%% are delivered within %s after the outage, and without a circuit within %s", a, b)
	}
	if most := percentile(shipped.inOutage, 100); most > 100*time.Millisecond {
		t.Errorf("a healthy endpoint waits for %s", most)
	}
	if most := percentile(forgetful.inOutage, 100); most < 5*time.Second {
		t.Errorf("without the share a healthy endpoint waits for no more than %s: it is worth nothing", most)
	}
	if left := shipped.unfinished[len(shipped.unfinished)-1]; left > 1 || len(shipped.unfinished) < int(end/time.Second) {
		t.Errorf("%d are left after %d seconds", left, len(shipped.unfinished))
	}
}
