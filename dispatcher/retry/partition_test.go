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

package retry_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// partition delays requests from cut until mend, or until their contexts end.
type partition struct {
	http.RoundTripper

	mu    sync.Mutex
	whole chan struct{}
	// passed counts the requests that passed.
	passed atomic.Int32
}

func (p *partition) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole = make(chan struct{})
}

func (p *partition) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole != nil {
		close(p.whole)
		p.whole = nil
	}
}

func (p *partition) RoundTrip(request *http.Request) (*http.Response, error) {
	p.mu.Lock()
	whole := p.whole
	p.mu.Unlock()
	if whole != nil {
		select {
		case <-whole:
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
	}
	response, err := p.RoundTripper.RoundTrip(request)
	p.passed.Add(1)
	return response, err
}

// newPair starts two replicas. The first owns the retries, and line can cut it off from its Lease.
func newPair(t *testing.T, r *rig, change func(owner *replica)) (owner, other *replica, line *partition) {
	t.Helper()
	g := NewWithT(t)
	owner, other, line = newReplica(t, r, "owner"), newReplica(t, r, "other"), &partition{}
	for _, replica := range []*replica{owner, other} {
		// The other replica acquires the Lease while the partition delays the owner's last renewal.
		replica.election.LeaseDuration, replica.election.RenewDeadline, replica.election.RetryPeriod = 6*time.Second, 5*time.Second, 500*time.Millisecond
	}
	config := rest.CopyConfig(cp.Config)
	config.Wrap(func(transport http.RoundTripper) http.RoundTripper {
		line.RoundTripper = transport
		return line
	})
	var err error
	owner.election.Client, err = kubernetes.NewForConfig(config)
	g.Expect(err).NotTo(HaveOccurred())
	change(owner)
	owner.start(t)
	g.Eventually(owner.election.HoldsLease).WithTimeout(30 * time.Second).Should(BeTrue())
	other.start(t)
	g.Eventually(other.looked.Load).WithTimeout(30 * time.Second).Should(BeNumerically(">", 1))
	t.Cleanup(line.mend)
	return owner, other, line
}

// A replica that was cut off does not touch the Lease that another replica has acquired meanwhile.
func TestReplicaThatWasCutOffLeavesTheLeaseToItsSuccessor(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	_, other, line := newPair(t, r, func(*replica) {})
	lease := func() (holder string, transitions int32) {
		l := &coordinationv1.Lease{}
		g.Expect(r.client.Get(t.Context(), client.ObjectKey{Namespace: r.postback.Namespace, Name: v1alpha1.RetriesLeaseName}, l)).To(Succeed())
		return ptr.Deref(l.Spec.HolderIdentity, ""), ptr.Deref(l.Spec.LeaseTransitions, 0)
	}
	line.cut()
	g.Eventually(other.election.HoldsLease).WithTimeout(60 * time.Second).Should(BeTrue())
	_, taken := lease()
	before := line.passed.Load()
	line.mend()
	// The delayed request passes, followed by enough reads for the replica to acquire an expired Lease.
	g.Eventually(line.passed.Load).WithTimeout(60 * time.Second).Should(BeNumerically(">", before+4))
	holder, transitions := lease()
	g.Expect(holder).To(Equal("other"))
	g.Expect(transitions).To(Equal(taken), "nobody has taken it in between")
}

// The Lease is lost while an attempt waits for its read: the attempt is not made. The successor makes it, with a
// note.
func TestAttemptThatWaitsWhileTheLeaseIsLost(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	reading, goOn := make(chan struct{}), make(chan struct{})
	var begun, answered sync.Once
	answer := func() { answered.Do(func() { close(goOn) }) }
	owner, other, line := newPair(t, r, func(owner *replica) {
		owner.election.Reconciler.Live = readThen{r.client, func() {
			begun.Do(func() { close(reading) })
			<-goOn
		}}
	})
	t.Cleanup(answer)
	d := r.storeDeferred(t, "evt_waits")
	g.Eventually(reading).WithTimeout(30 * time.Second).Should(BeClosed())
	line.cut()
	g.Eventually(other.election.HoldsLease).WithTimeout(60 * time.Second).Should(BeTrue())
	g.Eventually(func() []v1alpha1.Attempt { return r.read(t, d).Status.Attempts }).WithTimeout(30 * time.Second).Should(HaveLen(1))
	g.Expect(r.read(t, d).Status.Attempts[0].Message).To(ContainSubstring("the endpoint may have received the event before"))
	line.mend()
	answer()
	owner.election.Reconciler.Finish()
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}

// Without the Lease, the Reconciler does not read from the API server, whose overload may be the reason for the loss.
// It keeps the delivery.
func TestNothingIsReadWithoutTheLease(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.storeDeferred(t, "evt_unread")
	reconciler := r.reconciler(t, clock.RealClock{})
	held, reads := false, 0
	reconciler.HoldsLease = func() bool { return held }
	reconciler.Live = readThen{r.client, func() { reads++ }}
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}
	for range 3 {
		_, err := reconciler.Reconcile(t.Context(), request)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(reads).To(BeZero())
	held = true
	_, err := reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}
