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
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestDoctorComparesClocks(t *testing.T) {
	const second = time.Second
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		date string
		want string
	}{
		"the same":      {now.Format(http.TimeFormat), "ok    This machine's clock agrees with the API server's\n"},
		"some seconds":  {now.Add(-4 * second).Format(http.TimeFormat), "ok    This machine's clock agrees with the API server's\n"},
		"it is ahead":   {now.Add(-90 * second).Format(http.TimeFormat), "warn  This machine's clock differs from the API server's by 1m30s\n      -> Set the clocks"},
		"it is behind":  {now.Add(time.Hour).Format(http.TimeFormat), "warn  This machine's clock differs from the API server's by -1h0m0s\n"},
		"nobody tells":  {"yesterday", ""},
		"no API server": {"", "?     The clock of the API server cannot be read\n      -> "},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/version" {
					t.Errorf("asks for %s", r.URL.Path)
				}
				w.Header().Set("Date", tt.date)
			}))
			defer server.Close()
			if tt.date == "" {
				server.Close()
			}
			var out bytes.Buffer
			e := &env{clock: clocktesting.NewFakeClock(now)}
			e.IOStreams = genericiooptions.IOStreams{Out: &out, ErrOut: &out}
			o := &doctorOptions{logSource: &logSource{reach: reach{env: e}}}
			o.checkClock(t.Context(), &rest.Config{Host: server.URL + "/"}, &report{env: e})
			if got := out.String(); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("it says %q, want %q", got, tt.want)
			}
		})
	}
}

// The doctor names a live replica that cannot use its streams, with the reason.
func TestDoctorNamesAReplicaThatAcceptsNothing(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	lease := func(identity, unready string) *coordinationv1.Lease {
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "postback-system", Name: "postback-dispatcher-" + identity,
				Labels: map[string]string{v1alpha1.ReplicaLabel: "true"}, Annotations: map[string]string{v1alpha1.UnreadyReasonAnnotation: unready},
			},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &identity, RenewTime: ptr.To(metav1.NewMicroTime(now)), LeaseDurationSeconds: ptr.To[int32](15),
			},
		}
	}
	var out bytes.Buffer
	e := &env{clock: clocktesting.NewFakeClock(now)}
	e.IOStreams = genericiooptions.IOStreams{Out: &out, ErrOut: &out}
	o := &doctorOptions{logSource: &logSource{reach: reach{env: e, installNamespace: "postback-system"}}}
	s := &scope{WithWatch: fake.NewClientBuilder().WithObjects(lease("healthy", ""), lease("broken", "the streams have a wrong configuration")).Build()}
	r := &report{env: e}
	o.checkReplicas(r, o.replicas(t.Context(), s, r))
	want := "FAIL  Dispatcher replica broken accepts no events: the streams have a wrong configuration\n      -> "
	if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "replica healthy accepts") {
		t.Errorf("it says %q, want %q", got, want)
	}
}
