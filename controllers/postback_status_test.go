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

package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// firstPass and secondPass are the times of two passes. The second one has a fraction, which the API does not store.
var (
	firstPass  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	secondPass = firstPass.Add(90*time.Second + 700*time.Millisecond)
)

// statusScope returns a pass over the second generation of a Postback, whose earlier pass had the given conclusion.
// An earlier generation of 0 means that there was no earlier pass.
func statusScope(earlierGeneration int64, earlier *readiness) *postbackScope {
	p := newPostback("crm", func(p *v1alpha1.Postback) { p.Namespace, p.UID, p.Generation = crm.Namespace, "uid-of-crm", 2 })
	if earlierGeneration > 0 {
		p.Status.ObservedGeneration = earlierGeneration
		conditionSetter{&p.Status.Conditions, earlierGeneration, firstPass}.apply(earlier)
	}
	return &postbackScope{postback: p, before: p.DeepCopy(), now: secondPass, requeue: requeue{now: secondPass}}
}

// conditionNamed returns a condition that has to exist.
func conditionNamed(t *testing.T, conditions []metav1.Condition, conditionType string) metav1.Condition {
	t.Helper()
	condition := meta.FindStatusCondition(conditions, conditionType)
	if condition == nil {
		t.Fatalf("there is no condition %s in %s", conditionType, describe(conditions))
	}
	return *condition
}

func TestReadyOfAPostback(t *testing.T) {
	everythingLoaded, badURL := routed(v1alpha1.PostbackEnabled, ""), invalidField(v1alpha1.InvalidURLReason, "spec.url", "has no host")
	for name, test := range map[string]struct {
		earlierGeneration int64
		earlier           *readiness
		concluded         *readiness
		outdated          bool
		state             state
		reason            string
		message           string
		observed          int64
		since             time.Time
	}{
		"an error in the first pass": {
			state: stateReconciling, reason: "Progressing", message: "The last step failed. The operator tries again.", observed: 2, since: secondPass,
		},
		"an error after a change of the spec": {
			earlierGeneration: 1, earlier: everythingLoaded,
			state: stateReconciling, reason: "Progressing", message: "The last step failed.", observed: 2, since: secondPass,
		},
		"an error keeps an earlier Ready of this generation": {
			earlierGeneration: 2, earlier: everythingLoaded,
			state: stateReady, reason: "Routed", message: "Every dispatcher replica", observed: 2, since: firstPass,
		},
		"an error keeps an earlier Stalled of this generation": {
			earlierGeneration: 2, earlier: badURL,
			state: stateStalled, reason: "InvalidURL", message: "spec.url has no host.", observed: 2, since: firstPass,
		},
		"an unpublished route in the first pass": {
			outdated: true,
			state:    stateReconciling, reason: "Progressing", message: "The route is not published", observed: 2, since: secondPass,
		},
		"an unpublished route ends an earlier Ready of this generation": {
			earlierGeneration: 2, earlier: everythingLoaded, outdated: true,
			state: stateReconciling, reason: "Progressing", message: "The route is not published", observed: 2, since: secondPass,
		},
		"a mistake in the spec takes precedence over an unpublished route": {
			earlierGeneration: 1, earlier: everythingLoaded, concluded: badURL, outdated: true,
			state: stateStalled, reason: "InvalidURL", message: "spec.url has no host.", observed: 2, since: secondPass,
		},
		"a conclusion of this pass replaces an earlier one of this generation": {
			earlierGeneration: 2, earlier: badURL, concluded: everythingLoaded,
			state: stateReady, reason: "Routed", message: "Every dispatcher replica", observed: 2, since: secondPass,
		},
		"Ready of a new generation keeps the time of its transition": {
			earlierGeneration: 1, earlier: everythingLoaded, concluded: everythingLoaded,
			state: stateReady, reason: "Routed", message: "Every dispatcher replica", observed: 2, since: firstPass,
		},
		"not ready for another reason keeps the time of the transition": {
			earlierGeneration: 1, earlier: badURL, concluded: noDispatcher(),
			state: stateReconciling, reason: "NoDispatcher", message: "no dispatcher replica is running", observed: 2, since: firstPass,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := statusScope(test.earlierGeneration, test.earlier)
			s.readiness, s.published.outdated = test.concluded, test.outdated
			status := &s.postback.Status
			observeReady(s, conditionSetter{&status.Conditions, s.postback.Generation, s.now})

			checkConditions(t, status.Conditions, test.state, test.reason, test.message)
			ready := conditionNamed(t, status.Conditions, v1alpha1.ReadyCondition)
			if status.ObservedGeneration != test.observed || ready.ObservedGeneration != test.observed {
				t.Errorf("observedGeneration %d, and %d in Ready; want %d", status.ObservedGeneration, ready.ObservedGeneration, test.observed)
			}
			if want := test.since.Truncate(time.Second); !ready.LastTransitionTime.Time.Equal(want) {
				t.Errorf("lastTransitionTime %s, want %s", ready.LastTransitionTime, want)
			}
			if test.state != stateReady {
				same := conditionNamed(t, status.Conditions, string(test.state))
				if same.Reason != ready.Reason || same.Message != ready.Message {
					t.Errorf("%s says %s: %s; Ready says %s: %s", same.Type, same.Reason, same.Message, ready.Reason, ready.Message)
				}
			}
		})
	}
}

// TestReadyOfAPublishedRoute covers the reasons that follow from the dispatcher replicas.
func TestReadyOfAPublishedRoute(t *testing.T) {
	const published = "10"
	for name, test := range map[string]struct {
		loaded      map[string]string // by replica
		postback    v1alpha1.PostbackState
		certificate string
		age         time.Duration // of the Leases
		state       state
		reason      string
		message     string
		requeue     time.Duration
	}{
		"no replica":                        {state: stateReconciling, reason: "NoDispatcher", message: "no dispatcher replica is running"},
		"only a replica that has expired":   {loaded: map[string]string{"east": "10"}, age: 16 * time.Second, state: stateReconciling, reason: "NoDispatcher", message: "no dispatcher"},
		"one of two replicas":               {loaded: map[string]string{"east": "10", "north": "9"}, state: stateReconciling, reason: "WaitingForDispatcher", message: "1 of 2 dispatcher replicas have loaded it"},
		"none of two replicas":              {loaded: map[string]string{"east": "9", "north": ""}, state: stateReconciling, reason: "WaitingForDispatcher", message: "0 of 2"},
		"a claim from before a restore":     {loaded: map[string]string{"east": "5000"}, state: stateReconciling, reason: "WaitingForDispatcher", message: "0 of 1", requeue: requeueSoon},
		"every replica":                     {loaded: map[string]string{"east": "10", "north": "11"}, state: stateReady, reason: "Routed", message: "Every dispatcher replica has loaded the route."},
		"every replica, Paused":             {loaded: map[string]string{"east": "10"}, postback: v1alpha1.PostbackPaused, state: stateReady, reason: "Routed", message: "The state is Paused: events are stored and wait."},
		"every replica, Disabled":           {loaded: map[string]string{"east": "10"}, postback: v1alpha1.PostbackDisabled, state: stateReady, reason: "Routed", message: "The state is Disabled: new events are skipped"},
		"every replica, old certificate":    {loaded: map[string]string{"east": "10"}, certificate: "It was valid until noon: renew it.", state: stateReady, reason: "Routed", message: "the route. It was valid until noon: renew it."},
		"missing replica before the states": {loaded: map[string]string{"east": "9"}, postback: v1alpha1.PostbackPaused, certificate: "Renew it.", state: stateReconciling, reason: "WaitingForDispatcher", message: "0 of 1"},
	} {
		t.Run(name, func(t *testing.T) {
			clock := testingclock.NewFakeClock(firstPass)
			r := &PostbackReconciler{Replicas: newTestReplicas(clock)}
			r.Replicas.Version = reached("12")
			for replica, loaded := range test.loaded {
				r.Replicas.set(lease(replica, loaded, clock.Now()))
			}
			clock.Step(test.age)
			r.Replicas.expire()
			s := statusScope(0, nil)
			s.postback.Spec.State, s.certificateWarning = test.postback, test.certificate
			s.published.secret = publishedSecret(published)
			if err := r.observeRoute(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			checkReadiness(t, s.readiness, test.state, test.reason, test.message)
			if s.requeue.after != test.requeue {
				t.Errorf("requeued after %s, want %s", s.requeue.after, test.requeue)
			}
		})
	}
}

// Without a published route, or without an answer of the API server, the replicas permit no conclusion.
func TestReadyWithoutAnAnswerAboutTheRoute(t *testing.T) {
	clock := testingclock.NewFakeClock(firstPass)
	r := &PostbackReconciler{Replicas: newTestReplicas(clock)}
	r.Replicas.Version = func(context.Context) (string, error) { return "", errors.New("away") }
	r.Replicas.set(lease("east", "10", clock.Now()))
	t.Run("no route", func(t *testing.T) {
		s := statusScope(0, nil)
		if err := r.observeRoute(t.Context(), s); err != nil || s.readiness != nil {
			t.Errorf("error %v, readiness %+v; want neither", err, s.readiness)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		s := statusScope(0, nil)
		s.published.secret = publishedSecret("10")
		if err := r.observeRoute(t.Context(), s); err == nil || s.readiness != nil {
			t.Errorf("error %v, readiness %+v; want an error only", err, s.readiness)
		}
	})
}

// TestReadyWithoutAPostbackSecretThatIsReady covers the conclusions from the conditions of the PostbackSecret.
func TestReadyWithoutAPostbackSecretThatIsReady(t *testing.T) {
	for name, test := range map[string]struct {
		secret *readiness // nil means that the PostbackSecret has no conditions yet
		state  state
		says   string
	}{
		"a new PostbackSecret":          {nil, stateReconciling, `The PostbackSecret "crm" is not ready: it is new.`},
		"a Reconciling PostbackSecret":  {keySecretNotFound("crm"), stateReconciling, `The PostbackSecret "crm" is not ready: Secret "crm" does not exist yet: put the signing key into it, under the data key "secret".`},
		"a Stalled PostbackSecret":      {secretImmutable("crm"), stateStalled, `The PostbackSecret "crm" is not ready: Secret "crm" has immutable: true`},
		"a PostbackSecret that errored": {progressing(), stateReconciling, `The PostbackSecret "crm" is not ready: The last step failed. The operator tries again.`},
	} {
		t.Run(name, func(t *testing.T) {
			s := statusScope(0, nil)
			s.resolved.secret = newPostbackSecret("crm", nil)
			if test.secret != nil {
				conditionSetter{&s.resolved.secret.Status.Conditions, 1, firstPass}.apply(test.secret)
			}
			if err := (&PostbackReconciler{}).reconcileKeys(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			checkReadiness(t, s.readiness, test.state, "SecretNotReady", test.says)
			if !strings.HasSuffix(s.readiness.message, ".") {
				t.Errorf("the message is no sentence: %s", s.readiness.message)
			}
		})
	}
}

func TestFieldsOfAPostbacksStatus(t *testing.T) {
	earlier := v1alpha1.PostbackStatus{SecretName: "before", EndpointHost: "before.example.com", LastHandledRotateSecret: "1"}
	for name, test := range map[string]struct {
		pass func(*postbackScope)
		want v1alpha1.PostbackStatus
	}{
		"a pass that learns nothing keeps the fields": {func(*postbackScope) {}, earlier},
		"a rotation that was passed on": {
			func(s *postbackScope) { s.handledRotate = "2" },
			v1alpha1.PostbackStatus{SecretName: "before", EndpointHost: "before.example.com", LastHandledRotateSecret: "2"},
		},
		"the core Secret of the PostbackSecret": {
			func(s *postbackScope) {
				s.resolved.secret = newPostbackSecret("crm", func(p *v1alpha1.PostbackSecret) { p.Spec.SecretName = "crm-key" })
			},
			v1alpha1.PostbackStatus{SecretName: "crm-key", EndpointHost: "before.example.com", LastHandledRotateSecret: "1"},
		},
		"the host of the published route, without path and query": {
			func(s *postbackScope) {
				s.published.route = &route.Route{URL: "https://crm.example.com:8443/hooks?token=t0ken"}
			},
			v1alpha1.PostbackStatus{SecretName: "before", EndpointHost: "crm.example.com:8443", LastHandledRotateSecret: "1"},
		},
		"a removed route has no host": {
			func(s *postbackScope) { s.published.removed = true },
			v1alpha1.PostbackStatus{SecretName: "before", LastHandledRotateSecret: "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := statusScope(0, nil)
			s.postback.Status = earlier
			test.pass(s)
			observePostback(s)
			got := s.postback.Status
			if got.SecretName != test.want.SecretName || got.EndpointHost != test.want.EndpointHost || got.LastHandledRotateSecret != test.want.LastHandledRotateSecret {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// The conditions of one pass stand in a fixed order, and the dispatcher's condition stays as it is.
func TestConditionsOfOnePass(t *testing.T) {
	s := statusScope(0, nil)
	health := metav1.Condition{
		Type: v1alpha1.EndpointHealthyCondition, Status: metav1.ConditionFalse, Reason: string(v1alpha1.OutcomeFailed5xx),
		Message: "The last 5 attempts failed.", LastTransitionTime: metav1.NewTime(firstPass),
	}
	s.postback.Status.Conditions = []metav1.Condition{health}
	s.acceptRedelivery("24h")
	s.testEvent = &testEventResult{handled: "lead.created/1", stored: true, reason: v1alpha1.TestEventStoredReason, message: "It is stored."}
	s.readiness = noDispatcher()
	observePostback(s)
	var order []string
	for _, condition := range s.postback.Status.Conditions {
		order = append(order, condition.Type)
	}
	if got, want := strings.Join(order, " "), "Ready Reconciling EndpointHealthy TestEvent Redelivery"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	if got := conditionNamed(t, s.postback.Status.Conditions, v1alpha1.EndpointHealthyCondition); got != health {
		t.Errorf("%+v, want %+v", got, health)
	}
}

func TestWarningOfAClientCertificate(t *testing.T) {
	const warning = `The client certificate in Secret "mtls" was valid until 2026-03-01T11:00:00Z: renew it.`
	warned, silent := routed(v1alpha1.PostbackEnabled, warning), routed(v1alpha1.PostbackEnabled, "")
	for name, test := range map[string]struct {
		earlier   *readiness
		concluded *readiness
		warning   string
		told      bool
	}{
		"a valid certificate":                   {earlier: silent, concluded: silent},
		"a certificate that has just expired":   {earlier: silent, concluded: warned, warning: warning, told: true},
		"in the first pass":                     {concluded: warned, warning: warning, told: true},
		"told in an earlier pass":               {earlier: warned, concluded: warned, warning: warning},
		"a Postback that is not ready":          {earlier: silent, concluded: noDispatcher(), warning: warning},
		"another warning than the earlier pass": {earlier: routed(v1alpha1.PostbackEnabled, "Not valid before noon."), concluded: warned, warning: warning, told: true},
	} {
		t.Run(name, func(t *testing.T) {
			generation := int64(0)
			if test.earlier != nil {
				generation = 2
			}
			s := statusScope(generation, test.earlier)
			s.readiness, s.certificateWarning = test.concluded, test.warning
			recorder := events.NewFakeRecorder(2)
			(&PostbackReconciler{Events: recorder}).recordCertificateWarning(s)
			want := ""
			if test.told {
				want = "Warning ClientCertificateInvalid " + warning
			}
			if got := onlyEvent(t, recorder); got != want {
				t.Errorf("event %q, want %q", got, want)
			}
		})
	}
}
