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

package deliverylog

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

const names message.Names = "TEST"

type suite struct {
	servers *natsserver.Cluster
	js      jetstream.JetStream
	routes  *route.Index
	reader  *Reader
	waiting *Waiting
	n       int
}

func newSuite(t testing.TB) *suite {
	t.Helper()
	servers := natsserver.New(t, natsserver.Options{})
	nc := servers.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{servers: servers, js: js, routes: route.NewIndex()}
	s.reader = &Reader{JetStream: js, Names: names, Routes: s.routes}
	s.waiting = &Waiting{JetStream: js, Names: names, Routes: s.routes}
	s.createLog(t)
	return s
}

func (s *suite) createLog(t testing.TB) {
	t.Helper()
	if _, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: names.LogStream(), Subjects: []string{names.AllLog()}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) postback(namespace, name string) *route.Route {
	r := &route.Route{Namespace: namespace, Name: name, UID: types.UID("uid-" + namespace + "-" + name)}
	s.routes.Set(r)
	return r
}

// log publishes n deliveries of a Postback to the delivery log and waits until they are stored.
func (s *suite) log(t testing.TB, r *route.Route, eventType string, n int) (logged []string) {
	t.Helper()
	logged = s.publish(t, r, eventType, n)
	s.published(t)
	return logged
}

// publish publishes n deliveries of a Postback without waiting.
func (s *suite) publish(t testing.TB, r *route.Route, eventType string, n int) (logged []string) {
	t.Helper()
	for range n {
		s.n++
		id := fmt.Sprintf("evt_%06d", s.n)
		d, err := delivery.New(r.Namespace, v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, "", &event.Event{
			ID: id, Type: eventType, CreatedAt: time.Now(), Data: []byte(`{}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := names.Log(d, time.Now(), v1alpha1.Attempt{Time: metav1.NowMicro(), Outcome: v1alpha1.OutcomeSucceeded})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
		logged = append(logged, d.Name)
	}
	return logged
}

// published waits until the stream has stored all published deliveries.
func (s *suite) published(t testing.TB) {
	t.Helper()
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(20 * time.Second):
		t.Fatal("not published")
	}
}
