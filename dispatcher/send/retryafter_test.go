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

package send

import (
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"-1":                             0,
		"1.5":                            0,
		"soon":                           0,
		"120":                            2 * time.Minute,
		" 120 ":                          2 * time.Minute,
		"86400":                          24 * time.Hour,
		"86401":                          24 * time.Hour,
		"4294967295":                     24 * time.Hour,
		"99999999999999999999":           24 * time.Hour,
		"0x10":                           0,
		"1 2":                            0,
		"Sun, 01 Mar 2026 12:10:00 GMT":  10 * time.Minute,
		"Sun, 01 Mar 2026 11:00:00 GMT":  0,
		"Mon, 01 Mar 2027 12:00:00 GMT":  24 * time.Hour,
		"Sunday, 01-Mar-26 12:10:00 GMT": 10 * time.Minute,
	} {
		t.Run(value, func(t *testing.T) {
			got := retryAfter(http.Header{"Retry-After": {value}}, now)
			switch {
			case want == 0 && got != nil:
				t.Errorf("Retry-After %q asks for %s", value, got)
			case want > 0 && (got == nil || got.Sub(now) != want):
				t.Errorf("Retry-After %q is %v, want %s", value, got, want)
			}
		})
	}
}

// The stored time has microseconds, but is never earlier than the requested one.
func TestRetryAfterIsRoundedUp(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 1, time.UTC)
	got := retryAfter(http.Header{"Retry-After": {"1"}}, now)
	if got == nil || got.Before(&metav1.MicroTime{Time: now.Add(time.Second)}) {
		t.Errorf("Retry-After of 1s at %s is %s", now, got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "120", "-1", "1e9", "Sun, 01 Mar 2026 12:10:00 GMT", "Sunday, 01-Mar-26 12:10:00 GMT", "99999999999999999999"} {
		f.Add(seed)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		got := retryAfter(http.Header{"Retry-After": {value}}, now)
		if got != nil && (!got.After(now) || got.Sub(now) > maxRetryAfter || got.Nanosecond()%1000 != 0) {
			t.Errorf("Retry-After %q gives %s", value, got)
		}
	})
}
