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

package feed

import (
	"context"
	"slices"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliverylog"
)

const (
	// firstLogged is how many rows of the delivery log are read at the start, loggedPage how many at a time.
	firstLogged = 5000
	loggedPage  = 500
	// loggedRetry is the pause after the log could not be read.
	loggedRetry = 2 * time.Second
)

// follow keeps the rows of the delivery log current until ctx ends, or a dispatcher says that asking does not help.
func (f *Feed) follow(ctx context.Context) {
	var version string
	for {
		var err error
		version, err = f.readLogged(ctx)
		if err == nil || ctx.Err() != nil {
			break
		}
		f.heardLog(err)
		if deliverylog.IsRefused(err) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(loggedRetry):
		}
	}
	f.heardLog(nil)
	err := f.successes.Follow(ctx, deliverylog.Query{Namespace: f.namespace}, version, deliverylog.Follower{
		Delivery: func(d *v1alpha1.PostbackDelivery) error {
			f.putLogged(d)
			return nil
		},
		// The omitted entries exceed what a page can show.
		LeftOut: func(int) {},
		Trouble: f.heardLog,
	})
	if err != nil && ctx.Err() == nil {
		f.heardLog(err)
	}
}

// readLogged reads the newest rows and returns the state of the log.
func (f *Feed) readLogged(ctx context.Context) (version string, err error) {
	var all []*v1alpha1.PostbackDelivery
	for q := (deliverylog.Query{Namespace: f.namespace, Limit: loggedPage}); ; {
		page, err := f.successes.List(ctx, q)
		if err != nil {
			return "", err
		}
		if version == "" {
			version = page.ResourceVersion
		}
		for i := range page.Items {
			d := &page.Items[i]
			strip(d)
			all = append(all, d)
		}
		if q.Continue = page.Continue; q.Continue == "" || len(all) >= firstLogged {
			break
		}
	}
	slices.Reverse(all)
	f.putLogged(all...)
	return version, nil
}

// putLogged adds rows of the log, the oldest first.
func (f *Feed) putLogged(deliveries ...*v1alpha1.PostbackDelivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range deliveries {
		r := NewRow(d)
		r.Logged = true
		f.note(f.logs.putLogged(r)...)
	}
	f.wake()
}

// heardLog notes the error of the delivery log, or nil.
func (f *Feed) heardLog(err error) {
	if deliverylog.IsNoLog(err) {
		err = nil // Then all is at the API server.
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if (f.unread == nil) != (err == nil) || err != nil && f.unread.Error() != err.Error() {
		f.unread = err
		f.noteStatus()
		f.wake()
	}
}
