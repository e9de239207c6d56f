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

package intake

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// An API server that has just started denies every right. Only a right that stays missing gives Refused.
func TestMissingRightIsRefusedOnceItLasts(t *testing.T) {
	missing := Outcome{Result: Unstored, Reason: Forbidden, Message: "no"}
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	rights := &MissingRights{Clock: clock}
	const acme, globex = "partner-acme", "partner-globex"
	for _, step := range []struct {
		name, namespace string
		passes          time.Duration
		outcome         Outcome
		want            Result
	}{
		{"missing for the first time", acme, 0, missing, Unstored},
		{"still missing within the time of a start", acme, startTime, missing, Unstored},
		{"still missing after it", acme, time.Second, missing, Refused},
		{"missing in another namespace", globex, 0, missing, Unstored},
		{"granted in the other namespace", globex, 0, Outcome{Result: Stored}, Stored},
		{"still missing in the first", acme, 0, missing, Refused},
		{"granted in the first", acme, 0, Outcome{Result: Duplicate}, Duplicate},
		{"missing again", acme, 0, missing, Unstored},
		{"another obstacle", acme, 2 * startTime, Outcome{Result: Unstored}, Unstored},
		{"missing all the while", acme, 0, missing, Refused},
		{"forgotten, because nobody posted", acme, absenceKept + time.Second, missing, Unstored},
	} {
		clock.SetTime(clock.Now().Add(step.passes))
		got := rights.judge(step.namespace, step.outcome)
		if got.Result != step.want || got.Reason != step.outcome.Reason || got.Message != step.outcome.Message {
			t.Errorf("%s: got %+v, want %s", step.name, got, step.want)
		}
	}
	if got := (*MissingRights)(nil).judge(acme, missing); got != missing {
		t.Errorf("without rights: got %+v", got)
	}
}
