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
	"net/http"

	"golang.org/x/sync/semaphore"
)

// maxRequests is how many requests about deliveries are at the API server at a time, watches and Leases left out. A server
// with more requests than CPU does not finish more of them, but delays its watches. The elected replica learns of due
// deliveries by these watches.
const maxRequests = 32

// bounded bounds the requests in flight, each until its response begins. Requests that wait are sent in order of arrival.
type bounded struct {
	http.RoundTripper

	slots *semaphore.Weighted
}

func bound(to http.RoundTripper, requests int) *bounded {
	return &bounded{to, semaphore.NewWeighted(int64(requests))}
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := b.slots.Acquire(r.Context(), 1); err != nil {
		return nil, err
	}
	defer b.slots.Release(1)
	return b.RoundTripper.RoundTrip(r)
}
