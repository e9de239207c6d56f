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
	"fmt"
	"strings"
	"time"
)

const never = 1000 * time.Hour

// table returns the results of scenarios as a Markdown table.
func table(results []*measured) string {
	var b strings.Builder
	b.WriteString("| | failed attempts | most attempts a second: in the outage, after it | most slots in use: in the outage, after it | " +
		"time to deliver half, 90%, all after the outage | delay at healthy endpoints in the outage: p99, most | the same after it: p99, most |\n" +
		"|---|---|---|---|---|---|---|\n")
	for _, m := range results {
		end := before + m.scenario.outage
		fmt.Fprintf(&b, "| %s | %d | %d, %d | %d, %d | %s, %s, %s | %s, %s | %s, %s |\n", m.scenario.name, m.failed,
			highest(span(m.perSecond, before, end)), highest(span(m.perSecond, end, never)),
			highest(span(m.inFlight, before, end)), highest(span(m.inFlight, end, never)),
			rounded(percentile(m.back, 50)), rounded(percentile(m.back, 90)), rounded(percentile(m.back, 100)),
			rounded(percentile(m.inOutage, 99)), rounded(percentile(m.inOutage, 100)),
			rounded(percentile(m.afterwards, 99)), rounded(percentile(m.afterwards, 100)))
	}
	return b.String()
}

// rounded returns a duration rounded for readers.
func rounded(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}
