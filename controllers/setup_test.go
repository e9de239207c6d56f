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

package controllers

import (
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// After an outage of the API server, no object waits longer than lastRetry.
func TestBackOffIsBounded(t *testing.T) {
	limiter, request := controllerOptions().RateLimiter, reconcile.Request{}
	if limiter == nil {
		t.Fatal("the library's own back-off grows to 1000s")
	}
	first, last := limiter.When(request), time.Duration(0)
	for range 100 {
		last = limiter.When(request)
	}
	if first > 10*time.Millisecond || last != 30*time.Second {
		t.Errorf("the first wait is %s, the last %s", first, last)
	}
	if controllerOptions().RateLimiter.When(request) != first {
		t.Error("the controllers share their failures")
	}
}
