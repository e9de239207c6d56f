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

package unfinished

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const recall = time.Minute

// named returns a delivery of a Postback. version distinguishes its states.
func named(namespace string, postback types.UID, name, version string) *v1alpha1.PostbackDelivery {
	return &v1alpha1.PostbackDelivery{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, ResourceVersion: version},
		Spec:       v1alpha1.PostbackDeliverySpec{PostbackRef: v1alpha1.PostbackReference{Name: "crm", UID: postback}},
	}
}

// states returns namespace, name and version of each delivery, sorted.
func states(deliveries []*v1alpha1.PostbackDelivery) string {
	var all []string
	for _, d := range deliveries {
		all = append(all, fmt.Sprintf("%s/%s@%s", d.Namespace, d.Name, d.ResourceVersion))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// told is one call of an informer's handler.
type told func(toolscache.ResourceEventHandler)

func added(d *v1alpha1.PostbackDelivery) told {
	return func(h toolscache.ResourceEventHandler) { h.OnAdd(d, true) }
}

func updated(before, now *v1alpha1.PostbackDelivery) told {
	return func(h toolscache.ResourceEventHandler) { h.OnUpdate(before, now) }
}

func deleted(object any) told {
	return func(h toolscache.ResourceEventHandler) { h.OnDelete(object) }
}

func TestIndexAnswers(t *testing.T) {
	one, two, changedOne := named("acme", "crm", "one", "1"), named("acme", "crm", "two", "1"), named("acme", "crm", "one", "2")
	otherOne, foreign := named("acme", "erp", "one", "1"), named("mallory", "crm", "foreign", "1")
	for name, test := range map[string]struct {
		events []told
		// of has the states of the deliveries of Postback crm in namespace acme, all the states of all deliveries.
		of, all string
		full    bool
		// recent has the names of the deliveries for which Recent is true, followed the calls of a follower.
		recent, followed string
	}{
		"nothing": {},
		"deliveries that come": {
			events: []told{added(one), added(two)},
			of:     "acme/one@1 acme/two@1", all: "acme/one@1 acme/two@1", full: true, recent: "one two", followed: "one@1 two@1",
		},
		"a change replaces the object": {
			events: []told{added(one), updated(one, changedOne)},
			of:     "acme/one@2", all: "acme/one@2", recent: "one", followed: "one@1 one@2",
		},
		"the same delivery twice counts once": {
			events: []told{added(one), added(changedOne)},
			of:     "acme/one@2", all: "acme/one@2", recent: "one", followed: "one@1 one@2",
		},
		"a delivery that left is recent": {
			events: []told{added(one), added(two), deleted(one)},
			of:     "acme/two@1", all: "acme/two@1", recent: "one two", followed: "one@1 two@1 -one@1",
		},
		"a deletion that the watch missed": {
			events: []told{added(one), deleted(toolscache.DeletedFinalStateUnknown{Key: "acme/one", Obj: one})},
			recent: "one", followed: "one@1 -one@1",
		},
		"a delivery that comes back": {
			events: []told{added(one), deleted(one), added(changedOne)},
			of:     "acme/one@2", all: "acme/one@2", recent: "one", followed: "one@1 -one@1 one@2",
		},
		"a delivery that leaves twice": {
			events: []told{added(one), added(two), deleted(one), deleted(one)},
			of:     "acme/two@1", all: "acme/two@1", recent: "one two", followed: "one@1 two@1 -one@1 -one@1",
		},
		"a delivery of another namespace that names the Postback": {
			events: []told{added(one), added(foreign)},
			of:     "acme/one@1", all: "acme/one@1 mallory/foreign@1", recent: "foreign one", followed: "one@1 foreign@1",
		},
		"a delivery of another Postback under the same name": {
			events: []told{added(otherOne), updated(otherOne, changedOne)},
			of:     "acme/one@2", all: "acme/one@2", recent: "one", followed: "one@1 one@2",
		},
		"a deletion without an object": {
			events: []told{deleted(toolscache.DeletedFinalStateUnknown{Key: "acme/one"})},
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newIndex(nil, recall, clocktesting.NewFakePassiveClock(time.Now()))
			var followed []string
			x.Follow(func(d *v1alpha1.PostbackDelivery, gone bool) {
				state := d.Name + "@" + d.ResourceVersion
				if gone {
					state = "-" + state
				}
				followed = append(followed, state)
				if listed := slices.Contains(x.All(), d); listed == gone {
					t.Errorf("at %s, All() holds it: %t", state, listed)
				}
			})
			for _, tell := range test.events {
				tell(x.handler())
			}
			crm := &route.Route{Namespace: "acme", UID: "crm", MaxPending: 2}
			if got := states(x.Of(crm)); got != test.of {
				t.Errorf("Of() = %s, want %s", got, test.of)
			}
			if got, want := x.Count(crm), len(strings.Fields(test.of)); got != want {
				t.Errorf("Count() = %d, want %d", got, want)
			}
			if got := x.Full(crm); got != test.full {
				t.Errorf("Full() = %t", got)
			}
			if got := states(x.All()); got != test.all {
				t.Errorf("All() = %s, want %s", got, test.all)
			}
			if want := len(strings.Fields(test.all)); x.size != want {
				t.Errorf("the size is %d, want %d", x.size, want)
			}
			var recent []string
			for _, d := range []*v1alpha1.PostbackDelivery{foreign, one, two} {
				if x.Recent(d) {
					recent = append(recent, d.Name)
				}
			}
			if got := strings.Join(recent, " "); got != test.recent {
				t.Errorf("recent are %q, want %q", got, test.recent)
			}
			if got := strings.Join(followed, " "); got != test.followed {
				t.Errorf("followed %q, want %q", got, test.followed)
			}
		})
	}
}

func TestRecallEnds(t *testing.T) {
	one := named("acme", "crm", "one", "1")
	for name, test := range map[string]struct {
		recall, after time.Duration
		want          bool
	}{
		"just left":          {recall, 0, true},
		"to the last moment": {recall, recall, true},
		"too long ago":       {recall, recall + 1, false},
		"without recall":     {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := clocktesting.NewFakePassiveClock(time.Now())
			x := newIndex(nil, test.recall, c)
			x.handler().OnAdd(one, false)
			x.handler().OnDelete(one)
			c.SetTime(c.Now().Add(test.after))
			if got := x.Recent(one); got != test.want {
				t.Errorf("Recent() = %t", got)
			}
		})
	}
}

// The Index forgets deliveries that left, however many leave.
func TestRecallIsBounded(t *testing.T) {
	c := clocktesting.NewFakePassiveClock(time.Now())
	x := newIndex(nil, recall, c)
	most := 0
	for i := range 1000 {
		d := named("acme", types.UID(fmt.Sprint(i)), fmt.Sprint(i), "1")
		x.handler().OnAdd(d, false)
		x.handler().OnDelete(d)
		c.SetTime(c.Now().Add(time.Second))
		most = max(most, len(x.departed))
	}
	if limit := int(recall.Seconds())*3/2 + 1; most > limit {
		t.Errorf("%d deliveries were remembered, more than the %d that leave in one and a half times the recall", most, limit)
	}
	if len(x.byPostback) != 0 {
		t.Errorf("%d Postbacks without a delivery are held", len(x.byPostback))
	}
}

// A later follower first gets the present deliveries, then the changes.
func TestFollowerThatComesLater(t *testing.T) {
	x := newIndex(nil, 0, clocktesting.NewFakePassiveClock(time.Now()))
	one, two := named("acme", "crm", "one", "1"), named("acme", "crm", "two", "1")
	x.handler().OnAdd(one, true)
	var followed []string
	x.Follow(func(d *v1alpha1.PostbackDelivery, gone bool) {
		followed = append(followed, fmt.Sprint(d.Name, " ", gone))
	})
	x.handler().OnAdd(two, false)
	x.handler().OnDelete(one)
	if want := []string{"one false", "two false", "one true"}; !slices.Equal(followed, want) {
		t.Errorf("followed %q, want %q", followed, want)
	}
}

// A follower misses no delivery and gets changes in order, whenever it begins.
func TestFollowersHearOfEachDeliveryInOrder(t *testing.T) {
	x := newIndex(nil, 0, clocktesting.NewFakePassiveClock(time.Now()))
	const deliveries, changes, followers = 20, 50, 10
	var running sync.WaitGroup
	running.Go(func() {
		for change := range changes {
			for i := range deliveries {
				x.handler().OnAdd(named("acme", "crm", fmt.Sprint(i), strings.Repeat("i", change+1)), false)
			}
		}
	})
	heard := make([]map[string]string, followers)
	for i := range heard {
		versions := map[string]string{}
		x.Follow(func(d *v1alpha1.PostbackDelivery, _ bool) {
			if before := versions[d.Name]; len(before) > len(d.ResourceVersion) {
				t.Errorf("delivery %s: version %s is told after %s", d.Name, d.ResourceVersion, before)
			}
			versions[d.Name] = d.ResourceVersion
		})
		heard[i] = versions
	}
	running.Wait()
	want := map[string]string{}
	for i := range deliveries {
		want[fmt.Sprint(i)] = strings.Repeat("i", changes)
	}
	for i, versions := range heard {
		if !maps.Equal(versions, want) {
			t.Errorf("follower %d does not know the last state of each delivery", i)
		}
	}
}

// cacheOf is a cache with one delivery, or with an error.
type cacheOf struct {
	client.Reader
	d   *v1alpha1.PostbackDelivery
	err error
}

func (c cacheOf) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	if c.err != nil {
		return c.err
	}
	if key != client.ObjectKeyFromObject(c.d) {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "postbackdeliveries"}, key.Name)
	}
	*object.(*v1alpha1.PostbackDelivery) = *c.d
	return nil
}

func TestGetReadsTheCache(t *testing.T) {
	one := named("acme", "crm", "one", "1")
	for name, test := range map[string]struct {
		cache cacheOf
		key   types.NamespacedName
		want  *v1alpha1.PostbackDelivery
		fails bool
	}{
		"a delivery":             {cache: cacheOf{d: one}, key: client.ObjectKeyFromObject(one), want: one},
		"none":                   {cache: cacheOf{d: one}, key: types.NamespacedName{Namespace: "acme", Name: "two"}},
		"a cache that has ended": {cache: cacheOf{err: context.Canceled}, key: client.ObjectKeyFromObject(one), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			x := newIndex(test.cache, 0, clocktesting.NewFakePassiveClock(time.Now()))
			got, err := x.Get(t.Context(), test.key)
			if (err != nil) != test.fails {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("wrong (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMemoryOfTheIndex checks that the Index takes less memory than the field index that it replaced
// (docs/decisions/0058). The objects themselves do not count, because the cache has them anyway.
func TestMemoryOfTheIndex(t *testing.T) {
	const deliveries, most = 100_000, 70
	for name, postbacks := range map[string]int{"of one Postback": 1, "of 100 Postbacks": 100, "of 10,000 Postbacks": 10_000} {
		t.Run(name, func(t *testing.T) {
			objects := make([]*v1alpha1.PostbackDelivery, deliveries)
			for i := range objects {
				objects[i] = named("acme", types.UID(fmt.Sprintf("%036d", i%postbacks)), fmt.Sprintf("crm-%026d", i), "1")
				strip(objects[i])
			}
			before := heap()
			x := newIndex(nil, recall, clocktesting.NewFakePassiveClock(time.Now()))
			for _, d := range objects {
				x.handler().OnAdd(d, true)
			}
			each := (heap() - before) / deliveries
			runtime.KeepAlive(objects)
			runtime.KeepAlive(x)
			if each > most {
				t.Errorf("the index takes %d bytes a delivery, more than %d", each, most)
			}
			t.Logf("the index takes %d bytes a delivery", each)
		})
	}
}
