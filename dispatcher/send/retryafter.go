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
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

// maxRetryAfter bounds the wait that an endpoint may ask for to the longest time between two attempts.
const maxRetryAfter = delivery.MaxDelay

// retryAfter returns the earliest time of another attempt according to Retry-After (RFC 9110, section 10.2.3: seconds
// or a date), at most 24 hours ahead. It returns nil if the header is absent, in the past or invalid.
func retryAfter(header http.Header, now time.Time) *metav1.MicroTime {
	value := strings.TrimSpace(header.Get("Retry-After"))
	latest := now.Add(maxRetryAfter)
	at := latest
	if value != "" && strings.Trim(value, "0123456789") == "" {
		// The only possible error is too many digits, which means more than a day.
		if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
			at = now.Add(time.Duration(seconds) * time.Second)
		}
	} else {
		var err error
		if at, err = http.ParseTime(value); err != nil {
			return nil
		}
	}
	if !at.After(now) {
		return nil
	}
	if at.After(latest) {
		at = latest
	}
	// The API has microseconds. Rounding down would be earlier than the endpoint asked.
	stored := at.UTC().Truncate(time.Microsecond)
	if stored.Before(at) {
		stored = stored.Add(time.Microsecond)
	}
	return ptr.To(metav1.NewMicroTime(stored))
}
