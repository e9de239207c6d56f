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

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/e2e/apiproxy"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	// fewestWrites is the least number of writes in a rotation: the request passed on, the key, the route and
	// statuses. mostWrites ends an endless search.
	fewestWrites, mostWrites = 4, 20
)

// isWrite reports whether a request is one of a rotation's writes.
func isWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/leases") && !strings.Contains(r.URL.Path, "/events")
}

// nthWrite returns a function that accepts the nth write, counted from 1.
func nthWrite(n int) func(*http.Request) bool {
	count := 0
	return func(r *http.Request) bool {
		if !isWrite(r) {
			return false
		}
		count++
		return count == n
	}
}

// rotation is a Postback whose key is rotated repeatedly while its manager is killed.
type rotation struct {
	*tenant
	manager  *operator.Process
	proxy    *apiproxy.Proxy
	postback *v1alpha1.Postback
	version  int
	events   int
}

// TestManagerCrashInRotation kills (SIGKILL) the manager at each write of a rotation: before the API server gets it,
// and after it took effect. No key is lost or skipped, and each event is signed with keys of the Secret.
func TestManagerCrashInRotation(t *testing.T) {
	n := newTenant(t)
	without(t, manager)
	proxy := startProxy(t)
	// Without the election, a successor does not wait for the Lease of the killed manager.
	mortal, err := op.StartManager(t.Context(), "postback-manager-mortal", operator.WithAPIServer(proxy.Host(), proxy.CA()),
		operator.WithArgs("--allow-plain-http", "--leader-elect=false"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if mortal.Running() {
			terminate(t, mortal)
		}
	})
	r := &rotation{tenant: n, manager: mortal, proxy: proxy, version: 1}
	r.postback = n.postback("crm")
	for _, moment := range []apiproxy.Moment{apiproxy.Before, apiproxy.After} {
		write := 1
		for write <= mostWrites && r.crashAt(moment, write) {
			write++
		}
		t.Logf("%s: %d writes", moment, write-1)
		if write-1 < fewestWrites || write > mostWrites {
			t.Errorf("%s: a rotation has %d writes, not %d to %d", moment, write-1, fewestWrites, mostWrites)
		}
	}
}

// crashAt begins a rotation and kills the manager at the given write. It returns false if the rotation completes with
// fewer writes.
func (r *rotation) crashAt(moment apiproxy.Moment, write int) bool {
	r.t.Helper()
	hold := r.proxy.Hold(moment, nthWrite(write))
	defer hold.Release()
	token := fmt.Sprintf("%s-%d", strings.Fields(string(moment))[0], write)
	old := r.secret()
	r.kubectl("annotate", "--overwrite", "postback", "crm", "postback.dev/rotate-secret="+token)

	complete := make(chan error, 1)
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	go func() { complete <- r.waitComplete(ctx, token) }()
	select {
	case err := <-complete:
		if err != nil {
			r.t.Fatalf("%s, write %d: %v", moment, write, err)
		}
		r.checkKeys(old, moment, write)
		return false
	case <-hold.Reached:
	}
	r.sendEvent(moment, write)
	if err := r.manager.Kill(); err != nil {
		r.t.Fatal(err)
	}
	r.sendEvent(moment, write)
	if err := r.manager.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if err := <-complete; err != nil {
		r.t.Fatalf("%s, write %d: %v", moment, write, err)
	}
	r.checkKeys(old, moment, write)
	return true
}

func (r *rotation) secret() *corev1.Secret {
	r.t.Helper()
	s := &corev1.Secret{}
	if err := api.Get(r.t.Context(), client.ObjectKey{Namespace: r.namespace, Name: "crm"}, s); err != nil {
		r.t.Fatal(err)
	}
	r.learn([]corev1.Secret{*s})
	return s
}

// waitComplete returns once everything that a user can see shows a complete rotation.
func (r *rotation) waitComplete(ctx context.Context, token string) error {
	for {
		err := r.complete(ctx, token)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the rotation %s is not complete: %w", token, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *rotation) complete(ctx context.Context, token string) error {
	key := client.ObjectKey{Namespace: r.namespace, Name: "crm"}
	p, s, secret := &v1alpha1.Postback{}, &v1alpha1.PostbackSecret{}, &corev1.Secret{}
	for _, object := range []client.Object{p, s, secret} {
		if err := api.Get(ctx, key, object); err != nil {
			return err
		}
	}
	current := string(secret.Data[v1alpha1.SigningKeyName])
	switch {
	case p.Status.LastHandledRotateSecret != token:
		return fmt.Errorf("the Postback has handled %q", p.Status.LastHandledRotateSecret)
	case s.Status.Version <= int64(r.version):
		return fmt.Errorf("the PostbackSecret has version %d", s.Status.Version)
	case !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ReadyCondition):
		return fmt.Errorf("the Postback is not ready: %+v", p.Status.Conditions)
	}
	values := []string{current}
	for version := int(s.Status.Version) - 1; version > 0; version-- {
		if previous, ok := secret.Data["previous-"+strconv.Itoa(version)]; ok {
			values = append(values, string(previous))
		}
	}
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return op.WaitSignedWith(limited, r.postback.UID, values...)
}

// checkKeys compares the Secret after a rotation with the one before: the version is one higher, and the old key is
// the previous one.
func (r *rotation) checkKeys(old *corev1.Secret, moment apiproxy.Moment, write int) {
	r.t.Helper()
	now := r.secret()
	want := strconv.Itoa(r.version + 1)
	if got := now.Annotations["postback.dev/version"]; got != want {
		r.t.Errorf("%s, write %d: the key has version %s, want %s", moment, write, got, want)
	}
	if string(now.Data["previous-"+strconv.Itoa(r.version)]) != string(old.Data[v1alpha1.SigningKeyName]) {
		r.t.Errorf("%s, write %d: the key of version %d is lost", moment, write, r.version)
	}
	if string(now.Data[v1alpha1.SigningKeyName]) == string(old.Data[v1alpha1.SigningKeyName]) {
		r.t.Errorf("%s, write %d: the key is the old one", moment, write)
	}
	r.version++
	e := r.sendEvent(moment, write)
	if current := "crm/" + want; !slices.Equal(e.dub, []string{current}) || !slices.Contains(e.standard, current) {
		r.t.Errorf("%s, write %d: after the rotation an event verified by %v and %v, want %s", moment, write, e.standard, e.dub, current)
	}
}

// verified names the keys that verified an event.
type verified struct{ standard, dub []string }

// sendEvent posts an event. The request must be signed with a key of the Secret.
func (r *rotation) sendEvent(moment apiproxy.Moment, write int) verified {
	r.t.Helper()
	r.events++
	id := fmt.Sprintf("evt_%d", r.events)
	r.post(lead(id))
	r.wait(r.events)
	arrivals := r.arrivals(id)
	if len(arrivals) != 1 || !arrivals[0].Verified() {
		r.t.Fatalf("%s, write %d: event %s arrived %d times, or not signed", moment, write, id, len(arrivals))
	}
	return verified{arrivals[0].StandardWebhooks, arrivals[0].Dub}
}
