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
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/postback-dev/postback-operator/console"
)

// maxLenders bounds the visits whose tokens one request tries.
const maxLenders = 3

var errNoVisitor = errors.New("no visitor of the namespace is here")

// shared is the data of a namespace, which its visits share. Each visit has passed a review of its own right to all of
// the data. A request carries the token of one visit, the lender, and ends with that visit. The watches then continue
// with another lender. So the audit log of the API server names a visitor who was there.
type shared struct {
	data *console.Data
	end  context.CancelFunc

	mu     sync.Mutex
	visits map[*visit]bool
	// lender is the visit whose token was last accepted, or nil.
	lender *visit
}

func (s *shared) join(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits[v] = true
}

// leave removes a visit, and returns the number of the others.
func (s *shared) leave(v *visit) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.visits, v)
	if s.lender == v {
		s.lender = nil
	}
	return len(s.visits)
}

// next returns the lender, or another visit that was not tried, or nil.
func (s *shared) next(tried map[*visit]bool) *visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lender != nil && !tried[s.lender] {
		return s.lender
	}
	for v := range s.visits {
		if !tried[v] {
			return v
		}
	}
	return nil
}

// accept records whether the API server accepted the token of a visit.
func (s *shared) accept(v *visit, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case accepted && s.visits[v]:
		s.lender = v
	case !accepted && s.lender == v:
		s.lender = nil
	}
}

// wrap returns a transport that sends requests with the token of a lender. If the API server refuses one, whose rights
// may have ended since the last review, it asks with another.
func (s *shared) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		tried := map[*visit]bool{}
		for {
			lender := s.next(tried)
			if lender == nil {
				return nil, errNoVisitor
			}
			tried[lender] = true
			response, err := lender.send(next, r)
			if err != nil && lender.ctx.Err() != nil && r.Context().Err() == nil {
				continue // The lender left. A visit that ended lends no more, so this ends.
			}
			if err != nil {
				return nil, err
			}
			refused := response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
			s.accept(lender, !refused)
			if !refused || len(tried) == maxLenders || s.next(tried) == nil {
				return response, nil
			}
			_ = response.Body.Close()
		}
	})
}

// send sends a request without a body with the token of the visit. Request and response end with the visit.
func (v *visit) send(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(v.ctx, cancel) //nolint:contextcheck // The request ends with its visit, too.
	end := func() { stop(); cancel() }
	r = r.Clone(ctx)
	r.Header.Set("Authorization", "Bearer "+v.bearer.latest())
	response, err := next.RoundTrip(r)
	if err != nil {
		end()
		return nil, err
	}
	response.Body = &lentBody{response.Body, end}
	return response, nil
}

// lentBody is the body of a response, whose close also ends the request.
type lentBody struct {
	io.ReadCloser

	end func()
}

// Close implements io.Closer.
func (b *lentBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
