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
	"context"
	"fmt"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// rightsAge is how long an answer about rights is believed.
	rightsAge = 30 * time.Second
	// reviewTimeout bounds a question, and retryAge is how long none is asked again after one that was not answered.
	reviewTimeout = 5 * time.Second
	retryAge      = 3 * time.Second
)

// right is something that a user may do or not.
type right struct {
	verb, group, resource, namespace, name string
}

// rights asks the API server what the user may do, and remembers the answers for a while.
type rights struct {
	reviews authorizationclient.AuthorizationV1Interface
	clock   clock.PassiveClock

	mu    sync.Mutex
	known map[right]verdict
}

type verdict struct {
	allowed bool
	at      time.Time
}

func newRights(reviews authorizationclient.AuthorizationV1Interface, c clock.PassiveClock) *rights {
	return &rights{reviews: reviews, clock: c, known: map[right]verdict{}}
}

// may reports whether the user has a right. If that cannot be found out, what was known before counts, or else they are let
// try: the API server decides.
func (r *rights) may(ctx context.Context, wanted right) bool {
	now := r.clock.Now()
	r.mu.Lock()
	v, ok := r.known[wanted]
	r.mu.Unlock()
	if ok && now.Sub(v.at) < rightsAge {
		return v.allowed
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	review, err := r.reviews.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: wanted.verb, Group: wanted.group, Resource: wanted.resource, Namespace: wanted.namespace, Name: wanted.name,
		}},
	}, metav1.CreateOptions{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		v = verdict{allowed: v.allowed || !ok, at: now.Add(retryAge - rightsAge)}
	} else {
		v = verdict{allowed: review.Status.Allowed, at: now}
	}
	r.known[wanted] = v
	return v.allowed
}

// actions are what the user may do with one Postback. Each is "" if they may, or says why not.
type actions struct {
	Edit, Delete, Redeliver, Rotate, Secret string
}

// of asks for all rights that concern a Postback and its signing key, at the same time.
func (r *rights) of(ctx context.Context, p *v1alpha1.Postback, secret *v1alpha1.PostbackSecret) actions {
	var a actions
	var asking sync.WaitGroup
	ask := func(answer *string, verb, resource, name, to string) {
		group := v1alpha1.GroupVersion.Group
		if resource == "secrets" {
			group = ""
		}
		asking.Go(func() {
			if !r.may(ctx, right{verb, group, resource, p.Namespace, name}) {
				*answer = fmt.Sprintf("You may not %s: it takes the right to %s %s in the namespace %s.", to, verb, resource, p.Namespace)
			}
		})
	}
	ask(&a.Edit, "patch", "postbacks", p.Name, "change this Postback")
	ask(&a.Delete, "delete", "postbacks", p.Name, "delete this Postback")
	ask(&a.Redeliver, "patch", "postbackdeliveries", "", "redeliver")
	if secret != nil {
		ask(&a.Rotate, "patch", "postbacksecrets", secret.Name, "rotate this key")
	}
	if p.Status.SecretName != "" {
		ask(&a.Secret, "get", "secrets", p.Status.SecretName, "see this key")
	}
	asking.Wait()
	switch {
	case secret == nil:
		a.Rotate = "The signing key has not been made yet."
	case secret.Spec.GetSource() == v1alpha1.SecretExternal:
		a.Rotate = "The key comes from somewhere else (source: External): rotate it there."
	}
	if p.Status.SecretName == "" {
		a.Secret = "The signing key has not been made yet."
	}
	return a
}

// create returns "" if the user may create Postbacks in a namespace, or why not.
func (r *rights) create(ctx context.Context, namespace string) string {
	if r.may(ctx, right{"create", v1alpha1.GroupVersion.Group, "postbacks", namespace, ""}) {
		return ""
	}
	if namespace == "" {
		return "You may not add Postbacks: it takes the right to create postbacks."
	}
	return "You may not add Postbacks: it takes the right to create postbacks in the namespace " + namespace + "."
}
