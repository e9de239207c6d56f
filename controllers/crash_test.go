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
	"slices"
	"testing"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// keyHistory checks that no key is lost or skipped, and that the route is never without a key.
type keyHistory struct {
	b       *bench
	byID    map[int64]string
	version int64
	routed  bool
}

func (h *keyHistory) check(overlap time.Duration) {
	t := h.b.t
	t.Helper()
	if secret := h.b.secret("crm"); secret != nil {
		k := keyring.Read(secret, keyring.Remembered{}, h.b.clock.Now())
		if k.Version != h.version && k.Version != h.version+1 {
			t.Errorf("version %d follows %d", k.Version, h.version)
		}
		if known, ok := h.byID[k.Version]; ok && known != k.Current {
			t.Errorf("version %d has had two keys", k.Version)
		}
		if before, ok := h.byID[k.Version-1]; ok && overlap > 0 && k.Version > h.version && !slices.Contains(k.Keys()[1:], before) {
			t.Errorf("key %d was lost when key %d came", k.Version-1, k.Version)
		}
		h.byID[k.Version], h.version = k.Current, k.Version
	} else if h.version != 0 {
		t.Error("the Secret is gone")
	}
	r := h.b.route("crm")
	if r == nil {
		if h.routed {
			t.Error("the route is gone")
		}
		return
	}
	h.routed = true
	// FromSecret refuses a route without keys. The route may lag behind the Secret, but has no key that was never
	// made.
	for _, key := range r.Keys {
		known := false
		for _, made := range h.byID {
			known = known || made == key
		}
		if !known {
			t.Error("the route has a key that was never in the Secret")
		}
	}
}

// step runs the reconcilers until they make no more writes. It restarts them after each failure, and checks after
// each pass.
func (h *keyHistory) step(overlap time.Duration) {
	b := h.b
	b.t.Helper()
	for range 30 {
		before := b.faulty.count()
		for _, reconcile := range []func() (ctrl.Result, error){
			func() (ctrl.Result, error) {
				return b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
			},
			func() (ctrl.Result, error) {
				return b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
			},
		} {
			if _, err := reconcile(); err != nil {
				b.tolerate(err)
				b.restart()
				b.heartbeat("east", loadedEverything)
			}
			h.check(overlap)
		}
		if b.faulty.count() == before {
			return
		}
	}
	b.t.Fatal("the reconcilers do not come to rest")
}

// Each write of the manager fails in turn, once before and once after it takes effect.
func TestCrashAtEachStepOfARotation(t *testing.T) {
	for name, test := range map[string]struct {
		overlap time.Duration
		after   bool
	}{
		"before the write":                 {time.Hour, false},
		"after the write":                  {time.Hour, true},
		"after the write, without overlap": {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; rotateWithCrash(t, test.overlap, n, test.after); n++ {
			}
		})
	}
}

// rotateWithCrash makes the nth write fail. It returns false if there were fewer writes.
func rotateWithCrash(t *testing.T, overlap time.Duration, n int, after bool) bool {
	t.Helper()
	b := newBench(t)
	b.create(newPostbackSecret("shared", nil)) // another PostbackSecret, which must not matter
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.faulty.arm(n, after)
	h := &keyHistory{b: b, byID: map[int64]string{}}
	h.step(24 * time.Hour)
	modify(b, &v1alpha1.PostbackSecret{}, "crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(0, overlap) })
	h.step(overlap)
	for _, token := range []string{"one", "two"} {
		b.clock.Step(10 * time.Minute)
		annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, token)
		h.step(overlap)
	}
	if keys := len(b.keyring("crm").Keys()); overlap > 0 && keys != 3 || overlap == 0 && keys != 1 {
		t.Errorf("write %d: %d keys sign after two rotations", n, keys)
	}
	b.clock.Step(2 * time.Hour)
	h.step(overlap)
	k := b.keyring("crm")
	if k.Version != 3 || len(h.byID) != 3 || len(k.Previous) != 0 || !slices.Equal(b.route("crm").Keys, []string{k.Current}) {
		t.Errorf("write %d: version %d, %d keys seen, %d previous", n, k.Version, len(h.byID), len(k.Previous))
	}
	if status := b.postbackSecret("crm").Status; status.Version != 3 || status.LastHandledRotateSecretFromPostback != "crm/two" {
		t.Errorf("write %d: status %+v", n, status)
	}
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	return b.faulty.fired() && !t.Failed()
}
