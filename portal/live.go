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
	"net/http"
	"sync"
	"time"
)

// slowRead is the time in which a visitor has to read what a live page sends. Then the page is closed, and the browser
// connects again.
const slowRead = 20 * time.Second

// livePage is the response of a live page. Each write waits for the visitor, for slowRead at most. So a slow reader
// holds back one page and one part of its content, and nothing collects behind it.
type livePage struct {
	http.ResponseWriter
	connection *http.ResponseController

	mu sync.Mutex
	// unread are the bytes that were written since the last flush.
	unread int
	ended  bool
	closed bool
}

func newLivePage(w http.ResponseWriter) *livePage {
	return &livePage{ResponseWriter: w, connection: http.NewResponseController(w)}
}

// Write implements http.ResponseWriter.
func (l *livePage) Write(content []byte) (n int, err error) {
	l.mu.Lock()
	l.unread += len(content)
	l.mu.Unlock()
	liveUnwritten.Add(float64(len(content)))
	err = l.bounded(func() error {
		n, err = l.ResponseWriter.Write(content)
		return err
	})
	return n, err
}

// FlushError is what http.ResponseController calls to flush.
func (l *livePage) FlushError() error {
	defer l.read()
	return l.bounded(l.connection.Flush)
}

// read counts what was written as read, or given up.
func (l *livePage) read() {
	l.mu.Lock()
	defer l.mu.Unlock()
	liveUnwritten.Sub(float64(l.unread))
	l.unread = 0
}

// Unwrap lets http.ResponseController reach the connection.
func (l *livePage) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// bounded calls write, which has to end within slowRead.
func (l *livePage) bounded(write func() error) error {
	began := time.Now()
	if err := l.deadline(began.Add(slowRead)); err != nil {
		return err
	}
	err := write()
	if err != nil {
		if time.Since(began) >= slowRead {
			refusedTotal.WithLabelValues(boundRead).Inc()
		}
		return err
	}
	// Between writes there is no deadline: HTTP/2 would close an idle stream at it.
	return l.deadline(time.Time{})
}

// deadline sets the deadline of writes, unless the visit has ended.
func (l *livePage) deadline(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	return l.connection.SetWriteDeadline(at)
}

// close ends the use of the connection, before the handler returns: net/http panics if it is used later.
func (l *livePage) close() {
	l.read()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// end leaves a last moment for a pending write.
func (l *livePage) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.closed {
		return
	}
	_ = l.connection.SetWriteDeadline(time.Now().Add(lastWrite))
}
