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

package deliveries

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var start = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// logged returns an entry of the delivery log that was stored some minutes after start.
func logged(name, eventID string, minutes int) *v1alpha1.PostbackDelivery {
	d := &v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{
		Namespace: "acme", Name: name, CreationTimestamp: metav1.NewTime(start.Add(time.Duration(minutes) * time.Minute)),
	}}
	d.Spec.PostbackRef.Name, d.Spec.Body = "crm", "{}"
	d.Spec.Event = v1alpha1.EventReference{ID: eventID, Type: "lead.created", CreatedAt: metav1.NewMicroTime(start)}
	d.Status.Phase = v1alpha1.DeliveryDelivered
	return d
}

// object returns a PostbackDelivery that was stored some minutes after start.
func object(name, eventID string, minutes int) *v1alpha1.PostbackDelivery {
	d := logged(name, eventID, minutes)
	d.UID = "uid"
	return d
}

// stream is a fake of the dispatcher's delivery log API. dispatcher/logapi and test/deliverylog test the real one
// with the same requests.
type stream struct {
	// deliveries and waiting are sorted newest first.
	deliveries, waiting []*v1alpha1.PostbackDelivery
	// old makes it answer like a dispatcher of an earlier version, without a waiting stream.
	old bool
	// problem, unless "", is the answer to every request.
	problem string
}

func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.problem != "" {
		refuse(w, s.problem)
		return
	}
	query := r.URL.Query()
	if _, name, ok := strings.Cut(r.URL.Path, "/deliveries/"); ok {
		for _, d := range s.deliveries {
			if d.Name == name {
				_ = json.NewEncoder(w).Encode(d)
				return
			}
		}
		refuse(w, "no-delivery")
		return
	}
	deliveries := s.deliveries
	if strings.HasSuffix(r.URL.Path, "/waiting") {
		if s.old {
			refuse(w, "not-found")
			return
		}
		deliveries = s.waiting
	}
	list := &v1alpha1.PostbackDeliveryList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(len(s.deliveries))}}
	begin, _ := strconv.Atoi(query.Get("continue"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	for i, d := range deliveries[begin:] {
		if len(list.Items) == limit {
			list.Continue = strconv.Itoa(begin + i)
			break
		}
		if named := query.Get("name"); named != "" && d.Name != named {
			continue
		}
		if (query.Get("eventID") == "" || d.Spec.Event.ID == query.Get("eventID")) && strings.HasPrefix(d.Spec.Event.ID, query.Get("prefix")) {
			list.Items = append(list.Items, *d)
		}
	}
	_ = json.NewEncoder(w).Encode(list)
}

func refuse(w http.ResponseWriter, kind string) {
	w.WriteHeader(http.StatusNotFound)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:postback:problem:" + kind, "title": "Refused: " + kind})
}

// clientOf returns a client of a dispatcher that handler stands in for.
func clientOf(t *testing.T, handler http.Handler) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return New(func(context.Context) (*Connection, error) {
		return &Connection{URL: server.URL, Transport: server.Client().Transport}, nil
	})
}

// logOf returns a Reader of PostbackDeliveries and a stream.
func logOf(t *testing.T, s *stream, objects ...*v1alpha1.PostbackDelivery) *Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme)
	for _, o := range objects {
		api.WithObjects(o)
	}
	return &Reader{API: api.Build(), Log: clientOf(t, s)}
}

// names returns the names of deliveries, with a star for PostbackDeliveries.
func names(deliveries []*v1alpha1.PostbackDelivery) string {
	var all []string
	for _, d := range deliveries {
		if IsObject(d) {
			all = append(all, d.Name+"*")
			continue
		}
		all = append(all, d.Name)
	}
	return strings.Join(all, " ")
}

func TestList(t *testing.T) {
	failed := object("failed", "evt_5", 5)
	failed.Status.Phase = v1alpha1.DeliveryFailed
	objects := []*v1alpha1.PostbackDelivery{object("both", "evt_3", 3), object("again", "evt_1", 1), failed}
	// The query by time selects the log entry of "again", but not its PostbackDelivery.
	entries := []*v1alpha1.PostbackDelivery{logged("again", "evt_1", 8), logged("new", "evt_4", 4), logged("both", "evt_3", 3), logged("old", "evt_2", 2)}
	for name, test := range map[string]struct {
		query   Query
		problem string
		want    string
		total   int
		more    bool
		unread  bool
	}{
		"the newest first, each once": {want: "failed* new both* old again*", total: 5},
		"a limit":                     {query: Query{Limit: 2}, want: "failed* new", total: 4, more: true},
		"an object hides its entry though not selected":    {query: Query{Since: start.Add(2 * time.Minute)}, want: "failed* new both* old", total: 4},
		"a stream that cannot be read is not an empty one": {problem: "log-unavailable", want: "failed* both* again*", total: 3, unread: true},
		"a caller who may not read it is told":             {problem: "forbidden-log", want: "failed* both* again*", total: 3, unread: true},
		"without a stream the objects are all":             {problem: "no-log", want: "failed* both* again*", total: 3},
	} {
		t.Run(name, func(t *testing.T) {
			query := test.query
			query.Namespace = "acme"
			seen := 0
			page, err := logOf(t, &stream{deliveries: entries, problem: test.problem}, objects...).List(t.Context(), query, false, func(*v1alpha1.PostbackDelivery) { seen++ })
			if err != nil {
				t.Fatal(err)
			}
			if got := names(page.Deliveries); got != test.want || page.Total != test.total || seen != test.total || page.More != test.more || (page.Unread != nil) != test.unread {
				t.Errorf("got %q of %d, %d seen, more %t, unread %v; want %+v", got, page.Total, seen, page.More, page.Unread, test)
			}
			if known := page.Version != ""; known != (test.problem == "") {
				t.Errorf("the version of the stream is %q", page.Version)
			}
			for _, d := range page.Deliveries {
				if d.Spec.Body != "" {
					t.Errorf("%s has a body", d.Name)
				}
			}
		})
	}
}

func TestGet(t *testing.T) {
	entries := []*v1alpha1.PostbackDelivery{logged("both", "evt_2", 2), logged("logged", "evt_1", 1)}
	key := func(name string) types.NamespacedName { return types.NamespacedName{Namespace: "acme", Name: name} }
	log := logOf(t, &stream{deliveries: entries}, object("both", "evt_2", 2))
	for name, isObject := range map[string]bool{"both": true, "logged": false} {
		t.Run(name, func(t *testing.T) {
			if d, err := log.Get(t.Context(), key(name)); err != nil || d.Name != name || IsObject(d) != isObject {
				t.Errorf("%s is %+v, %v", name, d, err)
			}
		})
	}
	if _, err := log.Get(t.Context(), key("none")); !apierrors.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
	for problem, unread := range map[string]bool{"log-unavailable": true, "forbidden-log": true, "no-log": false} {
		t.Run(problem, func(t *testing.T) {
			_, err := logOf(t, &stream{problem: problem}).Get(t.Context(), key("logged"))
			if _, ok := errors.AsType[*UnreadError](err); ok != unread || apierrors.IsNotFound(err) == unread {
				t.Errorf("%s: %v", problem, err)
			}
		})
	}
}

func TestFind(t *testing.T) {
	entries := []*v1alpha1.PostbackDelivery{logged("both", "evt_12", 2), logged("logged", "evt_1", 1), logged("other", "evt_13", 1)}
	objects := []*v1alpha1.PostbackDelivery{object("both", "evt_12", 2), object("retried", "evt_2", 2)}
	for name, test := range map[string]struct{ id, problem, want string }{
		"the id of an entry":       {id: "evt_1", want: "both* logged"},
		"the id of an object":      {id: "evt_2", want: "retried*"},
		"the beginning of several": {id: "evt_", want: "both* logged other retried*"},
		"the beginning of a name":  {id: "retr", want: "retried*"},
		"none":                     {id: "sale"},
		"while it cannot be read":  {id: "evt_1", problem: "log-unavailable", want: "both*"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := 0
			page, err := logOf(t, &stream{deliveries: entries, problem: test.problem}, objects...).Find(t.Context(), "acme", test.id, 11, func(*v1alpha1.PostbackDelivery) { seen++ })
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(page.Deliveries, func(a, b *v1alpha1.PostbackDelivery) int { return strings.Compare(a.Name, b.Name) })
			if got := names(page.Deliveries); got != test.want || seen != len(objects) || (page.Unread != nil) != (test.problem != "") {
				t.Errorf("found %q, %d objects seen, unread %v", got, seen, page.Unread)
			}
		})
	}
}

// Follow begins with the newest deliveries even if the delivery log cannot be read at first. It continues where a
// watch ended.
func TestFollow(t *testing.T) {
	s := &stream{deliveries: []*v1alpha1.PostbackDelivery{logged("newest", "evt_3", 3), logged("middle", "evt_2", 2), logged("oldest", "evt_1", 1)}}
	requests := 0
	var watched []string
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		switch {
		case requests == 1:
			refuse(w, "log-unavailable")
		case r.URL.Query().Get("watch") == "":
			s.ServeHTTP(w, r)
		default:
			watched = append(watched, r.URL.Query().Get("resourceVersion"))
			d := logged("watched-"+strconv.Itoa(len(watched)), "evt_4", 4)
			d.ResourceVersion = strconv.Itoa(3 + len(watched))
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": d})
		}
	}))
	var got []string
	var troubles []bool
	enough := errors.New("enough")
	err := c.Follow(t.Context(), Query{Namespace: "acme", Limit: 2}, "", Follower{
		Trim: func(d *v1alpha1.PostbackDelivery) { d.Spec.Body = "" },
		Deliveries: func(deliveries ...*v1alpha1.PostbackDelivery) error {
			got = append(got, names(deliveries))
			if len(got) == 3 {
				return enough
			}
			if deliveries[0].Spec.Body != "" {
				t.Error("a body is not trimmed")
			}
			return nil
		},
		Trouble: func(err error) { troubles = append(troubles, err != nil) },
	})
	if !errors.Is(err, enough) || !slices.Equal(got, []string{"middle newest", "watched-1", "watched-2"}) || !slices.Equal(watched, []string{"3", "4"}) || !slices.Equal(troubles, []bool{true, false}) {
		t.Errorf("got %q of watches from %q, troubles %v, %v", got, watched, troubles, err)
	}
	if err := clientOf(t, &stream{problem: "forbidden-log"}).Follow(t.Context(), Query{}, "", Follower{}); !IsRefused(err) {
		t.Errorf("a caller who may not read it: %v", err)
	}
}

func TestUnion(t *testing.T) {
	key := func(name string) types.NamespacedName { return types.NamespacedName{Namespace: "acme", Name: name} }
	for name, test := range map[string]struct {
		do func(*Union[string])
		// want are the calls of show.
		want []string
	}{
		"an entry":                     {func(u *Union[string]) { u.PutLogged(key("first"), "logged") }, []string{">logged"}},
		"an entry that is read again":  {func(u *Union[string]) { u.PutLogged(key("first"), "logged"); u.PutLogged(key("first"), "logged") }, []string{">logged"}},
		"an object replaces its entry": {func(u *Union[string]) { u.PutLogged(key("first"), "logged"); u.PutObject(key("first"), "object") }, []string{">logged", "logged>object"}},
		"an entry of an object":        {func(u *Union[string]) { u.PutObject(key("first"), "object"); u.PutLogged(key("first"), "logged") }, []string{">object"}},
		"after the object the entry": {func(u *Union[string]) {
			u.PutLogged(key("first"), "logged")
			u.PutObject(key("first"), "object")
			u.DropObject(key("first"))
		}, []string{">logged", "logged>object", "object>logged"}},
		"after the object nothing": {func(u *Union[string]) { u.PutObject(key("first"), "object"); u.DropObject(key("first")) }, []string{">object", "object>"}},
		"a list of objects lacks one": {func(u *Union[string]) {
			u.PutLogged(key("second"), "logged")
			u.PutObject(key("first"), "object")
			u.DropObjects(nil)
		}, []string{">logged", ">object", "object>"}},
		"the oldest entry goes": {func(u *Union[string]) {
			u.PutLogged(key("first"), "entry 1")
			u.PutLogged(key("second"), "entry 2")
			u.PutLogged(key("third"), "entry 3")
		}, []string{">entry 1", ">entry 2", ">entry 3", "entry 1>"}},
		"a waiting copy counts only alone": {func(u *Union[string]) {
			u.PutWaiting(key("a"), "waiting")
			u.PutLogged(key("a"), "logged")
			u.DropWaiting(key("a"))
		}, []string{">waiting", "waiting>logged"}},
		"a retry replaces a waiting copy, and a drop removes it": {func(u *Union[string]) {
			u.PutWaiting(key("a"), "first")
			u.PutWaiting(key("a"), "second")
			u.DropWaiting(key("a"))
		}, []string{">first", "first>second", "second>"}},
		"an object made of a waiting delivery": {func(u *Union[string]) {
			u.PutWaiting(key("a"), "waiting")
			u.PutObject(key("a"), "object")
			u.PutWaiting(key("a"), "waiting")
			u.DropWaiting(key("a"))
		}, []string{">waiting", "waiting>object"}},
		"the oldest entry of an object": {func(u *Union[string]) {
			u.PutLogged(key("first"), "entry 1")
			u.PutObject(key("first"), "object")
			u.PutLogged(key("second"), "entry 2")
			u.PutLogged(key("third"), "entry 3")
			u.DropObject(key("first"))
		}, []string{">entry 1", "entry 1>object", ">entry 2", ">entry 3", "object>"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			test.do(NewUnion(2, func(before, now string) { got = append(got, before+">"+now) }))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// pending returns a delivery in the waiting stream.
func pending(name, eventID string, minutes int) *v1alpha1.PostbackDelivery {
	d := logged(name, eventID, minutes)
	d.Status.Phase = v1alpha1.DeliveryPending
	return d
}

func namesOf(deliveries []*v1alpha1.PostbackDelivery) (names []string) {
	for _, d := range deliveries {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return names
}

func TestWaitingDeliveriesAreListedWithTheRest(t *testing.T) {
	s := &stream{
		deliveries: []*v1alpha1.PostbackDelivery{logged("crm-2", "evt_2", 2), logged("crm-1", "evt_1", 1)},
		// One was delivered, and another became an object, while the streams were read.
		waiting: []*v1alpha1.PostbackDelivery{pending("crm-5", "evt_5", 5), pending("crm-3", "evt_3", 3), pending("crm-2", "evt_2", 2)},
	}
	l := logOf(t, s, object("crm-3", "evt_3", 3))
	for name, test := range map[string]struct {
		query Query
		want  []string
	}{
		"with the rest":       {Query{Namespace: "acme", Waiting: true}, []string{"crm-1", "crm-2", "crm-3", "crm-5"}},
		"not unless selected": {Query{Namespace: "acme"}, []string{"crm-1", "crm-2", "crm-3"}},
		"the newest":          {Query{Namespace: "acme", Waiting: true, Limit: 1}, []string{"crm-5"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := l.List(t.Context(), test.query, false, nil)
			if err != nil || p.Unread != nil {
				t.Fatal(err, p.Unread)
			}
			if got := namesOf(p.Deliveries); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	p, err := l.Find(t.Context(), "acme", "evt_5", 5, func(*v1alpha1.PostbackDelivery) {})
	if err != nil || !slices.Equal(namesOf(p.Deliveries), []string{"crm-5"}) || !IsWaiting(p.Deliveries[0]) {
		t.Errorf("by the event: %v, %v", p, err)
	}
	s.old = true
	if p, err := l.List(t.Context(), Query{Namespace: "acme", Waiting: true}, false, nil); err != nil || p.Unread != nil || len(p.Deliveries) != 3 {
		t.Errorf("of an earlier dispatcher: %+v, %v", p, err)
	}
}

func TestOneDeliveryOfAllStreams(t *testing.T) {
	s := &stream{
		deliveries: []*v1alpha1.PostbackDelivery{logged("crm-1", "evt_1", 1)},
		waiting:    []*v1alpha1.PostbackDelivery{pending("crm-2", "evt_2", 2), pending("crm-1", "evt_1", 1)},
	}
	l := logOf(t, s, object("crm-3", "evt_3", 3))
	for name, test := range map[string]struct{ found, waits bool }{
		"crm-1": {found: true}, "crm-2": {found: true, waits: true}, "crm-3": {found: true}, "crm-4": {},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := l.GetOf(t.Context(), types.NamespacedName{Namespace: "acme", Name: name}, "crm")
			switch {
			case !test.found && !apierrors.IsNotFound(err):
				t.Errorf("%v, want that it is not found", err)
			case test.found && (err != nil || IsWaiting(d) != test.waits):
				t.Errorf("%v, %v", d, err)
			}
		})
	}
}
