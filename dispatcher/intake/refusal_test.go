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
	for i, test := range []struct {
		namespace string
		passes    time.Duration
		outcome   Outcome
		want      Result
	}{
		{"a", 0, missing, Unstored},
		{"a", startTime, missing, Unstored},
		{"a", time.Second, missing, Refused},
		{"b", 0, missing, Unstored},
		{"b", 0, Outcome{Result: Stored}, Stored},
		{"a", 0, missing, Refused},
		{"a", 0, Outcome{Result: Duplicate}, Duplicate},
		{"a", 0, missing, Unstored},
		{"a", 2 * startTime, Outcome{Result: Unstored}, Unstored},
		{"a", 0, missing, Refused},
		{"a", absenceKept + time.Second, missing, Unstored},
	} {
		clock.SetTime(clock.Now().Add(test.passes))
		got := rights.judge(test.namespace, test.outcome)
		if got.Result != test.want || got.Reason != test.outcome.Reason || got.Message != test.outcome.Message {
			t.Errorf("step %d: got %+v, want %s", i, got, test.want)
		}
	}
	if got := (*MissingRights)(nil).judge("a", missing); got != missing {
		t.Errorf("without rights: got %+v", got)
	}
}
