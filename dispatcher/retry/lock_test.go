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
	"errors"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// newLock returns the lock of a replica in a cluster without a Lease, and the record that the replica would write.
func newLock(identity string, cluster *fake.Clientset) (*watchedLock, resourcelock.LeaderElectionRecord) {
	lock := &watchedLock{election: &Election{Identity: identity}, LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: "postback-system", Name: v1alpha1.RetriesLeaseName},
		Client:     cluster.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}}
	return lock, resourcelock.LeaderElectionRecord{HolderIdentity: identity, LeaseDurationSeconds: 15}
}

// deleteLease lets the locks read the Lease, deletes it, and lets the locks find it missing.
func deleteLease(t *testing.T, g *WithT, cluster *fake.Clientset, locks ...*watchedLock) {
	t.Helper()
	for _, lock := range locks {
		_, _, err := lock.Get(t.Context())
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(cluster.CoordinationV1().Leases("postback-system").Delete(t.Context(), v1alpha1.RetriesLeaseName, metav1.DeleteOptions{})).To(Succeed())
}

func miss(t *testing.T, g *WithT, lock *watchedLock) {
	t.Helper()
	_, _, err := lock.Get(t.Context())
	g.Expect(err).To(MatchError(ContainSubstring("not found")))
}

// After a partition, a replica does not know when the holder last renewed a missing Lease.
func TestDeletedLeaseIsHeldFromWhenItIsMissed(t *testing.T) {
	g := NewWithT(t)
	cluster := fake.NewClientset()
	a, byA := newLock("first", cluster)
	b, byB := newLock("second", cluster)
	g.Expect(a.Create(t.Context(), byA)).To(Succeed(), "there has been none: a first installation")
	deleteLease(t, g, cluster, b)
	miss(t, g, b)
	g.Expect(b.Create(t.Context(), byB)).To(MatchError(errMayBeHeld))
	b.goneSince = b.goneSince.Add(-b.election.leaseDuration() + time.Minute)
	miss(t, g, b)
	g.Expect(b.Create(t.Context(), byB)).To(MatchError(errMayBeHeld), "it counts from the first miss on, and no further miss matters")
	b.goneSince = b.goneSince.Add(-time.Minute)
	g.Expect(b.Create(t.Context(), byB)).To(Succeed())
	g.Expect(*b.predecessor.Load()).To(Equal(anybody))
}

// The holder recreates a deleted Lease, unless it has expired: then another replica may have held it meanwhile.
func TestHolderOfADeletedLease(t *testing.T) {
	g := NewWithT(t)
	cluster := fake.NewClientset()
	a, byA := newLock("first", cluster)
	g.Expect(a.Create(t.Context(), byA)).To(Succeed())
	deleteLease(t, g, cluster, a)
	miss(t, g, a)
	g.Expect(a.Create(t.Context(), byA)).To(Succeed())
	deleteLease(t, g, cluster, a)
	a.election.renewed(time.Now().Add(-time.Hour))
	miss(t, g, a)
	g.Expect(a.Create(t.Context(), byA)).To(MatchError(errMayBeHeld))
}

// Another replica may acquire a released Lease before the response of the API server arrives.
func TestReleasedLeaseIsNotHeld(t *testing.T) {
	g := NewWithT(t)
	cluster := fake.NewClientset()
	a, byA := newLock("first", cluster)
	g.Expect(a.Create(t.Context(), byA)).To(Succeed())
	g.Expect(a.election.HoldsLease()).To(BeFalse(), "it is not elected yet")
	a.election.elected.Store(true)
	g.Expect(a.election.HoldsLease()).To(BeTrue())
	_, _, err := a.Get(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.release(t.Context())).To(Succeed())
	g.Expect(a.election.HoldsLease()).To(BeFalse())
	record, _, err := a.Get(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(record.HolderIdentity).To(BeEmpty())
}

// A replica that ends does not release a Lease that another replica has acquired meanwhile.
func TestReleaseLeavesASuccessorsLease(t *testing.T) {
	g := NewWithT(t)
	cluster := fake.NewClientset()
	a, byA := newLock("first", cluster)
	b, byB := newLock("second", cluster)
	g.Expect(a.Create(t.Context(), byA)).To(Succeed())
	_, _, err := b.Get(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(b.Update(t.Context(), byB)).To(Succeed())
	g.Expect(a.release(t.Context())).To(Succeed())
	record, _, err := b.Get(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(record.HolderIdentity).To(Equal("second"))
}

// The predecessor is known even if the response to the acquisition is lost.
func TestPredecessorIsKnown(t *testing.T) {
	g := NewWithT(t)
	cluster := fake.NewClientset()
	a, byA := newLock("first", cluster)
	b, byB := newLock("second", cluster)
	g.Expect(b.Create(t.Context(), byB)).To(Succeed())
	_, _, err := a.Get(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	lost := errors.New("connection reset by peer")
	g.Expect(a.write(time.Now(), func() error {
		g.Expect(a.LeaseLock.Update(t.Context(), byA)).To(Succeed())
		return lost
	})).To(MatchError(lost))
	_, _, err = a.Get(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.Update(t.Context(), byA)).To(Succeed())
	g.Expect(*a.predecessor.Load()).To(Equal("second"))
}

// The monotonic clock stops while a machine is suspended, and the wall clock may be set back. A Lease has expired if
// it has by either.
func TestLeaseRunsOutByEitherClock(t *testing.T) {
	g := NewWithT(t)
	e := &Election{Identity: "first"}
	e.elected.Store(true)
	e.renewed(time.Now())
	until := e.validUntil.Load()
	g.Expect(e.HoldsLease()).To(BeTrue())
	e.validUntil.Store(&deadline{monotonic: until.monotonic, wall: until.wall.Add(-time.Minute)})
	g.Expect(e.HoldsLease()).To(BeFalse(), "suspended")
	e.validUntil.Store(&deadline{monotonic: until.monotonic.Add(-time.Minute), wall: until.wall})
	g.Expect(e.HoldsLease()).To(BeFalse(), "set back")
}

// A replica inherits only from a predecessor that may have left attempts unrecorded.
func TestWhoIsInheritedFrom(t *testing.T) {
	for name, test := range map[string]struct {
		predecessor string
		led, want   bool
	}{
		"released":                       {"", false, false},
		"another, dead":                  {"second", false, true},
		"another, after a first term":    {"second", true, true},
		"itself, cut off for a while":    {"first", true, false},
		"a container that was restarted": {"first", false, true},
		"gone":                           {anybody, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := &Election{Identity: "first", led: test.led}
			if got := e.inherits(test.predecessor); got != test.want {
				t.Errorf("inherits is %t", got)
			}
		})
	}
}
