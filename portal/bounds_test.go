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

package portal

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/internal/portallink"
)

func TestFloods(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "flood-acme")
	cookie := r.visitor(acme, "viewer")
	refusedAfter := func(most int, ask func() answered) {
		t.Helper()
		for range most + 1 {
			if got := ask(); got.StatusCode == http.StatusTooManyRequests && got.Header.Get("Retry-After") != "" {
				return
			}
		}
		t.Errorf("%d requests are within the rate", most+1)
	}
	refusedAfter(addressBurst, func() answered { return r.open("x") })
	refusedAfter(sessionBurst, func() answered { return r.ask(http.MethodGet, "/none", "", "Cookie", cookie) })
	refusedAfter(linkBurst, func() answered {
		return r.ask(http.MethodPost, portallink.Path(acme), "", "Authorization", "Bearer x")
	})
}

func TestOpenPagesAreBounded(t *testing.T) {
	r := start(t, keys)
	v := r.portal.door.visits
	until := time.Now().Add(time.Hour)
	alone := func() *shared { return &shared{visits: map[*visit]bool{}, end: func() {}} }
	for i := range maxSessions {
		v.open[[32]byte{byte(i), byte(i >> 8), 1}] = &visit{session: session{Until: until}, shared: alone(), end: func() {}, requests: 1}
	}
	if _, err := v.enter(session{Token: "one more"}, "", nil); err == nil {
		t.Error("more sessions than the bound are open")
	}
	clear(v.open)
	for i := range maxOfNamespace {
		v.open[[32]byte{byte(i), byte(i >> 8), 2}] = &visit{session: session{Namespace: "greedy", Until: until}, shared: alone(), end: func() {}, requests: 1}
	}
	if _, err := v.enter(session{Namespace: "greedy", Token: "one more"}, "", nil); !errors.Is(err, errFull) {
		t.Errorf("a namespace has more sessions than its bound: %v", err)
	}
	for i := range maxNamespaces {
		v.shared[fmt.Sprint("watched-", i)] = alone()
	}
	if _, err := v.enter(session{Namespace: "none", Token: "mine", Until: until}, "", nil); !errors.Is(err, errBusy) {
		t.Errorf("more namespaces than the bound are watched: %v", err)
	}
	clear(v.shared)
	for i := range maxLive + 1 {
		if v.openLive() != (i < maxLive) {
			t.Fatalf("live page %d is open: %t", i, i >= maxLive)
		}
	}
	s := session{Namespace: "none", Token: "mine", Until: until}
	for i := range maxRequests + 1 {
		if _, err := v.enter(s, "", nil); (err != nil) != (i == maxRequests) {
			t.Errorf("request %d of a session: %v", i, err)
		}
	}
}
