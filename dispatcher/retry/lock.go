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

package retry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// watchedLock tells an Election at once when its Lease changes hands. client-go's elector leads until RenewDeadline
// although another replica holds the Lease, and acquires a deleted Lease although its holder is alive.
type watchedLock struct {
	*resourcelock.LeaseLock

	election *Election
	// seen is true if there was a Lease. holder held it when it was last read or written, or is "" if nobody did.
	seen   bool
	holder string
	// goneSince is when the Lease was first missing; zero means that it exists.
	goneSince time.Time
	// predecessor is the holder before this replica acquired the Lease in this term, or tried to; "" means that it
	// was released.
	predecessor atomic.Pointer[string]
}

// anybody is the holder of a deleted Lease that may have changed hands before.
const anybody = "not known"

// errMayBeHeld means that the Lease was deleted and its holder may not know it yet.
var errMayBeHeld = errors.New("the Lease was deleted, and its holder may still count on it")

// Get implements resourcelock.Interface. The elector calls it before it acquires the Lease; while it leads, only
// after a failed renewal.
func (l *watchedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.LeaseLock.Get(ctx)
	switch {
	case err == nil:
		l.seen, l.holder, l.goneSince = true, record.HolderIdentity, time.Time{}
		if l.holder != l.election.Identity {
			l.predecessor.Store(nil)
			l.election.lost()
		}
	case apierrors.IsNotFound(err) && l.seen:
		if l.goneSince.IsZero() {
			l.goneSince = time.Now()
		}
		if !l.election.valid() {
			l.holder = anybody
		}
	}
	return record, raw, err
}

// Create implements resourcelock.Interface. It refuses while the holder of the deleted Lease may still be valid: the
// holder may have renewed it just before the deletion was noticed.
func (l *watchedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	began := time.Now()
	if l.holder == anybody && began.Sub(l.goneSince) < l.election.leaseDuration() {
		return errMayBeHeld
	}
	return l.write(began, func() error { return l.LeaseLock.Create(ctx, record) })
}

// Update implements resourcelock.Interface.
func (l *watchedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(time.Now(), func() error { return l.LeaseLock.Update(ctx, record) })
}

// write acquires or renews the Lease by a request that began at a time.
func (l *watchedLock) write(began time.Time, write func() error) error {
	// Store the predecessor before the write, whose response may be lost.
	before := l.holder
	l.predecessor.CompareAndSwap(nil, &before)
	if err := write(); err != nil {
		return err
	}
	l.seen, l.holder, l.goneSince = true, l.election.Identity, time.Time{}
	l.election.renewed(began)
	return nil
}

// release releases the Lease if this replica holds it. Its attempts must be recorded before. ReleaseOnCancel of the
// elector would release after every term, without reading the present holder.
func (l *watchedLock) release(ctx context.Context) error {
	l.election.lost()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.election.renewDeadline())
	defer cancel()
	for l.holder == l.election.Identity {
		record, _, err := l.Get(ctx)
		if err != nil {
			return err
		}
		if l.holder != l.election.Identity {
			break
		}
		now := metav1.Now()
		err = l.LeaseLock.Update(ctx, resourcelock.LeaderElectionRecord{
			LeaseDurationSeconds: 1, AcquireTime: now, RenewTime: now, LeaderTransitions: record.LeaderTransitions,
		})
		if !apierrors.IsConflict(err) { // A renewal in flight may conflict.
			return err
		}
	}
	return nil
}
