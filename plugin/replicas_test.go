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

package plugin

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestClockOfAReplica(t *testing.T) {
	written := metav1.NewTime(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC))
	for name, tt := range map[string]struct{ ahead, want time.Duration }{
		"it agrees": {}, "an hour ahead": {time.Hour, time.Hour}, "an hour behind": {-time.Hour, -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			lease := &coordinationv1.Lease{}
			lease.ManagedFields = []metav1.ManagedFieldsEntry{{Time: &metav1.Time{Time: written.Add(-time.Hour)}}, {Time: &written}, {}}
			lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(written.Add(tt.ahead)))
			if got := clockAhead(lease); got != tt.want {
				t.Errorf("it is %s ahead, want %s", got, tt.want)
			}
		})
	}
}

// TestDoctorNamesAReplicasClock checks that a replica whose clock is behind counts as alive.
func TestDoctorNamesAReplicasClock(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: "postback-system", Name: "postback-dispatcher-0", Labels: map[string]string{v1alpha1.ReplicaLabel: "true"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "dispatcher", Operation: metav1.ManagedFieldsOperationUpdate, Time: &metav1.Time{Time: now}}},
	}}
	lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = ptr.To[int32](15), ptr.To(metav1.NewMicroTime(now.Add(-time.Hour)))
	var out bytes.Buffer
	e := &env{clock: clocktesting.NewFakeClock(now)}
	e.IOStreams = genericiooptions.IOStreams{Out: &out, ErrOut: &out}
	o := &doctorOptions{logSource: &logSource{reach: reach{env: e, installNamespace: "postback-system"}}}
	r := &report{env: e}
	leases := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).Build(), interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
			list.(*coordinationv1.LeaseList).Items = []coordinationv1.Lease{*lease}
			return nil
		},
	})
	o.checkReplicas(r, o.replicas(t.Context(), &scope{WithWatch: leases}, r))
	if got := out.String(); !strings.Contains(got, "postback-dispatcher-0 is 1h0m0s behind the API server's") ||
		!strings.Contains(got, "Dispatcher replicas that are alive: 1") || strings.Contains(got, "delete") {
		t.Errorf("it says\n%s", got)
	}
}
