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

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	outagesNamespace = "outages"
	// outagesRate is the rate of events for all endpoints of TestOutages together, in events per second. healthyFor
	// is how long the endpoints are well first.
	outagesRate = 60
	healthyFor  = 3 * time.Second
	// waysDown is in how many ways endpoints are down: they answer 503, do not answer, or refuse connections.
	waysDown = 3
	refusing = "refusing"
)

// fleet is a set of endpoints that are down at the same time.
type fleet struct {
	all  map[string]*endpoint
	down atomic.Bool
}

func startFleet(t *testing.T, random *rand.Rand) *fleet {
	t.Helper()
	f := &fleet{all: map[string]*endpoint{}}
	var postbacks []*v1alpha1.Postback
	for i := range *down {
		name := fmt.Sprintf("%s-%d", []string{"unwell", "hanging", refusing}[i%waysDown], i)
		e, err := startEndpoint(t.Context(), name, rand.New(rand.NewPCG(random.Uint64(), uint64(i))).Float64)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.close() })
		e.temper = f.temper(i)
		f.all[name] = e
		postbacks = append(postbacks, postback(outagesNamespace, name, e.url(), v1alpha1.Trigger(name+".created")))
	}
	create(t, postbacks...)
	verifyAll(t, outagesNamespace, f.all)
	return f
}

func (f *fleet) temper(i int) temper {
	bad := []behaviour{unwell, hanging, well}[i%waysDown]
	return func(func() float64, int, time.Duration) behaviour {
		if f.down.Load() {
			return bad
		}
		return well
	}
}

// refusing returns the endpoints that refuse connections while they are down.
func (f *fleet) refusing() []*endpoint {
	var some []*endpoint
	for name, e := range f.all {
		if strings.HasPrefix(name, refusing) {
			some = append(some, e)
		}
	}
	return some
}

// outage makes all endpoints fail for a while, and calls harm meanwhile.
func (f *fleet) outage(ctx context.Context, harm func() error) error {
	end := time.Now().Add(*downFor)
	f.down.Store(true)
	for _, e := range f.refusing() {
		if err := e.shutdown(); err != nil {
			return err
		}
	}
	err := harm()
	pause(ctx, time.Until(end))
	f.down.Store(false)
	for _, e := range f.refusing() {
		err = errors.Join(err, e.listen(e.address))
	}
	return err
}

// TestOutages: many endpoints are down at the same time, in different ways, while events for all of them are posted.
// A dispatcher and NATS are killed meanwhile. Afterwards each event must have arrived, none before its time, and the
// records must match the arrivals.
func TestOutages(t *testing.T) {
	dumpOnFailure(t)
	random := rand.New(rand.NewPCG(7, 8))
	source := newSource(outagesNamespace, newNamespace(t, outagesNamespace), dispatchers...)
	f := startFleet(t, random)
	harm := &chaos{random: rand.New(rand.NewPCG(9, 10))}
	names := slices.Sorted(maps.Keys(f.all))

	ended := make(chan error, 1)
	go func() {
		pause(t.Context(), healthyFor)
		ended <- f.outage(t.Context(), func() error {
			err := harm.kill(t.Context(), dispatchers[0])
			if op.NATS != nil {
				err = errors.Join(err, harm.killNATS(t.Context()))
			}
			return err
		})
	}()
	n := int(outagesRate * (healthyFor + *downFor).Seconds())
	err := source.load(t.Context(), random, n, outagesRate, func(i int) posted {
		id := fmt.Sprintf("out_%d", i)
		data := fmt.Sprintf(`{"id":%q}`, id)
		return posted{ID: id, Type: names[i%len(names)] + ".created", CreatedAt: time.Now().UTC(), Data: json.RawMessage(data)}
	})
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d endpoints were down for %s; requests that were not accepted and sent again: %d", len(names), *downFor, source.refused)
	asked := finish(t, outagesNamespace, names)
	judgeAll(t, source, f.all, harm, asked)
}
