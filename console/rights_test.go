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

package console

import (
	"errors"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

func TestRightsInAnOutage(t *testing.T) {
	const denied, allowed, down = "denied", "allowed", "down"
	type question struct {
		after  time.Duration // since the question before
		server string
		may    bool
		asked  int
	}
	for name, questions := range map[string][]question{
		"an unknown right may be tried":    {{0, down, true, 1}, {retryAge - 1, allowed, true, 1}, {1, denied, false, 2}},
		"a refusal outlives the server":    {{0, denied, false, 1}, {rbacreview.DeniedFor, down, false, 2}, {retryAge, down, false, 3}, {retryAge, allowed, true, 4}},
		"a permission outlives the server": {{0, allowed, true, 1}, {rbacreview.AllowedFor - 1, down, true, 1}, {1, down, true, 2}, {retryAge, denied, false, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			clients, clock := fake.NewClientset(), clocktesting.NewFakePassiveClock(time.Unix(0, 0))
			asked, server := 0, ""
			clients.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
				asked++
				review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
				review.Status.Allowed = server == allowed
				if server == down {
					return true, nil, errors.New("connection refused")
				}
				return true, review, nil
			})
			r := newRights(clients.AuthorizationV1(), clock)
			for i, q := range questions {
				clock.SetTime(clock.Now().Add(q.after))
				server = q.server
				if got := r.may(t.Context(), rbacreview.Right{Verb: "patch", Resource: "postbacks", Namespace: "acme"}); got != q.may || asked != q.asked {
					t.Errorf("question %d: may %v after %d reviews, want %v after %d", i+1, got, asked, q.may, q.asked)
				}
			}
		})
	}
}
