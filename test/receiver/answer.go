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

package receiver

import (
	"io"
	"maps"
	"net/http"
	"time"
)

// Answer says how to answer a request. The zero value answers 200 at once.
type Answer struct {
	// Status is the status code; 0 means 200.
	Status int
	Header http.Header
	Body   string
	// Before is called with the recorded request before the response. It may block.
	Before func(*Request)
	// Delay is the time before the response.
	Delay time.Duration
	// Hang sends no response until the client gives up or the receiver is closed.
	Hang bool
	// Abort closes the connection without a response.
	Abort bool
	// Times is the number of requests that get this answer; 0 means all that follow.
	Times int
}

// Times returns an answer with a status code for n requests.
func Times(n, status int) Answer { return Answer{Status: status, Times: n} }

func (a Answer) status() int {
	switch {
	case a.Hang || a.Abort:
		return 0
	case a.Status == 0:
		return http.StatusOK
	default:
		return a.Status
	}
}

// Answer sets the answers on a path from now on, each for the number of requests in Times. Requests after the last
// one get 200.
func (r *Receiver) Answer(path string, answers ...Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[path] = append([]Answer(nil), answers...)
}

// next returns the answer to the next request on a path.
func (r *Receiver) next(path string) Answer {
	script := r.answers[path]
	if len(script) == 0 {
		return Answer{}
	}
	answer := script[0]
	if answer.Times > 0 {
		script[0].Times--
		if script[0].Times == 0 {
			r.answers[path] = script[1:]
		}
	}
	return answer
}

// give sends an answer, or returns an error if the connection must be closed instead.
func (r *Receiver) give(w http.ResponseWriter, request *http.Request, received *Request, answer Answer) error {
	if answer.Before != nil {
		answer.Before(received)
	}
	if answer.Hang {
		select {
		case <-request.Context().Done():
		case <-r.closing.Done():
		}
		return errNoAnswer
	}
	if answer.Delay > 0 {
		timer := time.NewTimer(answer.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-request.Context().Done():
			return errNoAnswer
		case <-r.closing.Done():
			return errNoAnswer
		}
	}
	if answer.Abort {
		return errNoAnswer
	}
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.status())
	// A client that has gone does not read the body.
	_, _ = io.WriteString(w, answer.Body)
	return nil
}
