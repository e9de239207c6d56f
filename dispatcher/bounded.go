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

// maxRequests bounds the concurrent requests about deliveries to the API server, watches and Leases excepted. A
// server with more requests than CPUs finishes no more of them, but delays its watches, which tell the elected
// replica of due deliveries.
const maxRequests = 32

// bounded limits the requests in flight. A request counts until its response begins; waiting requests go in order of
// arrival.
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
