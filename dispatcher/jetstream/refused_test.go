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

package jetstream

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

func TestBackoff(t *testing.T) {
	for tries, want := range map[uint64]time.Duration{
		0: 30 * time.Second, 1: 30 * time.Second, 2: time.Minute, 5: 8 * time.Minute, 6: 16 * time.Minute, 7: 16 * time.Minute, 1 << 40: 16 * time.Minute,
	} {
		t.Run(fmt.Sprintf("after %d tries", tries), func(t *testing.T) {
			if got := backoff(backRefused, longestRefused, tries); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// denyingStore is an API server with a policy that denies every delivery.
type denyingStore struct{ intake.API }

func (denyingStore) Create(context.Context, client.Object, ...client.CreateOption) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: `admission webhook "w" denied the request: not this week`,
	}}
}

// A policy denies the PostbackDelivery of an accepted delivery that has to leave the stream. An Event on the Postback
// says so, and the delivery stays in the stream.
func TestPolicyDeniesWhatLeavesTheStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	broken := newEndpoint(t)
	broken.status.Store(http.StatusInternalServerError)
	target := r.postback("denied", broken)
	x := r.replica(false)
	recorder := events.NewFakeRecorder(10)
	x.consumer.API = denyingStore{r.api}
	x.consumer.Attempter.Events = recorder
	g.Expect(x.store(target, "evt_1", data(1)).Result).To(Equal(intake.Stored))
	x.consume()
	g.Eventually(recorder.Events).WithTimeout(patience).Should(Receive(And(
		ContainSubstring("Warning DeliveryRefused"), ContainSubstring("PolicyDenied"), ContainSubstring("not this week"))))
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(1))
}
