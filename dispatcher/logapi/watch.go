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

package logapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
)

// These constants bound a watch. It omits and counts deliveries beyond them, because no reader can follow more.
const (
	watchedPerSecond = 500
	watchedBurst     = 1000
	watchedBytes     = 4 << 20
	// watchLasts is the duration of a watch; a client then begins another one.
	watchLasts = 5 * time.Minute
	// bookmarkEvery is the time between bookmarks, which also show that the watch is alive.
	bookmarkEvery = 5 * time.Second
	// watchWrite bounds one write.
	watchWrite = 10 * time.Second
	// watchRights is the time between checks of the caller's right.
	watchRights = time.Minute
)

// watchEvent is a line of a watch, in the form of a watch event of the Kubernetes API.
type watchEvent struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

// entry is a delivery, or with nil only the sequence that the watch has reached.
type entry struct {
	sequence uint64
	d        *v1alpha1.PostbackDelivery
}

// watchLogged writes each delivery logged from now on, one JSON object per line. It returns an answer only if it has
// written nothing.
func (h *Handler) watchLogged(w http.ResponseWriter, r *http.Request, q *logRequest) *problem.Answer {
	query, err := logQuery(q.namespace, r.URL.Query())
	after, err2 := number(r.URL.Query(), resourceVersionParam, 0)
	if err = errors.Join(err, err2); err != nil {
		return problem.Refuse(problem.InvalidQuery, "%s.", err.Error())
	}
	ctx, cancel := context.WithTimeout(r.Context(), watchLasts)
	defer cancel()
	// An explicit version 0, from the list of an empty log, must not become the newest sequence: the watch would miss
	// deliveries logged since.
	if r.URL.Query().Get(resourceVersionParam) == "" {
		if after, err = h.options.Reader.Newest(ctx); err != nil {
			return h.unreadable(r, err)
		}
	}
	stream := newWatchStream(w, after)
	if err := stream.open(); err != nil {
		return nil
	}
	news := make(chan entry)
	ended := make(chan error, 1)
	go func() {
		ended <- h.options.Reader.Follow(ctx, query, after, func(sequence uint64, d *v1alpha1.PostbackDelivery) error {
			select {
			case news <- entry{sequence, d}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	err = h.passOn(ctx, r, q, stream, news, ended)
	if err != nil && r.Context().Err() == nil {
		h.options.Log.V(1).Info("A watch of the delivery log ends", "namespace", q.namespace, "reason", err.Error())
	}
	return nil
}

// passOn writes entries until the watch ends.
func (h *Handler) passOn(ctx context.Context, r *http.Request, q *logRequest, stream *watchStream, news <-chan entry, ended <-chan error) error {
	bookmark, rights := time.NewTicker(bookmarkEvery), time.NewTicker(watchRights)
	defer bookmark.Stop()
	defer rights.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.stopping:
			return nil
		case n := <-news:
			err = stream.add(n)
		case <-bookmark.C:
			err = stream.bookmark()
		case <-rights.C:
			if a := h.authorizeReader(ctx, r, q); a != nil && a.Status < http.StatusInternalServerError {
				return stream.send(watchEvent{"ERROR", a.Problem})
			}
		case failed := <-ended:
			a := h.unreadable(r, failed)
			return errors.Join(failed, stream.send(watchEvent{"ERROR", a.Problem}))
		}
		if err != nil {
			return err
		}
	}
}

// watchStream is the response to a watch.
type watchStream struct {
	w          http.ResponseWriter
	controller *http.ResponseController
	count      *rate.Limiter
	bytes      *rate.Limiter
	sequence   uint64
	leftOut    int
}

func newWatchStream(w http.ResponseWriter, sequence uint64) *watchStream {
	return &watchStream{
		w: w, controller: http.NewResponseController(w), sequence: sequence,
		count: rate.NewLimiter(watchedPerSecond, watchedBurst), bytes: rate.NewLimiter(watchedBytes, watchedBytes),
	}
}

// open lifts the timeouts of other requests, and sends the header.
func (s *watchStream) open() error {
	if err := s.controller.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	header := s.w.Header()
	header.Set("Content-Type", "application/json;stream=watch")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	return s.bookmark()
}

// add writes a delivery, or omits and counts it if there are too many.
func (s *watchStream) add(n entry) error {
	s.sequence = n.sequence
	if n.d == nil {
		return nil
	}
	now := time.Now()
	if !s.count.AllowN(now, 1) || !s.bytes.AllowN(now, min(len(n.d.Spec.Body), watchedBytes)) {
		s.leftOut++
		return nil
	}
	return s.send(watchEvent{"ADDED", withKind(n.d)})
}

// bookmark writes the sequence that the watch has reached, and the number of omitted deliveries.
func (s *watchStream) bookmark() error {
	mark := &metav1.PartialObjectMetadata{}
	mark.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDelivery"))
	mark.ResourceVersion = strconv.FormatUint(s.sequence, decimal)
	if s.leftOut > 0 {
		mark.Annotations = map[string]string{v1alpha1.LeftOutAnnotation: strconv.Itoa(s.leftOut)}
	}
	s.leftOut = 0
	return s.send(watchEvent{"BOOKMARK", mark})
}

func (s *watchStream) send(e watchEvent) error {
	if err := s.controller.SetWriteDeadline(time.Now().Add(watchWrite)); err != nil {
		return err
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := s.w.Write(append(line, '\n')); err != nil {
		return err
	}
	return s.controller.Flush()
}
