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
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

// retryAge is the time before a review is repeated after a failure.
const retryAge = 3 * time.Second

// rights reviews the rights of the user, and caches the answers.
type rights struct {
	reviews   authorizationclient.AuthorizationV1Interface
	questions *rbacreview.Questions
	known     *rbacreview.Cache[bool]
}

func newRights(reviews authorizationclient.AuthorizationV1Interface, c clock.PassiveClock) *rights {
	return &rights{reviews: reviews, questions: rbacreview.NewQuestions(), known: rbacreview.New[bool](c)}
}

// may reports whether the user has a right. If the API server does not answer, the last answer counts. Without one,
// may returns true, because the API server checks the action itself.
func (r *rights) may(ctx context.Context, wanted rbacreview.Right) bool {
	key := wanted.Key()
	may, err := r.known.Get(ctx, key, func(ctx context.Context) (bool, time.Duration, error) {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: wanted.Attributes()}}
		err := r.questions.Ask(ctx, func(ctx context.Context) error {
			var err error
			review, err = r.reviews.SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			return err
		})
		if err != nil {
			return r.lastOrTry(key), retryAge, nil //nolint:nilerr // this is the answer while the API server gives none
		}
		return review.Status.Allowed, rbacreview.Holds(review.Status.Allowed), nil
	})
	if err != nil { // The client disconnected before the answer.
		return r.lastOrTry(key)
	}
	return may
}

// lastOrTry returns the answer of may while the API server does not respond.
func (r *rights) lastOrTry(key string) bool {
	may, known := r.known.Last(key)
	return may || !known
}

// actions are the user's rights for one Postback. Each is "" if permitted, or the reason why not.
type actions struct {
	Edit, Delete, Redeliver, Drop, Rotate, Secret string
}

// of reviews all rights for a Postback and its signing key, concurrently.
func (r *rights) of(ctx context.Context, p *v1alpha1.Postback, secret *v1alpha1.PostbackSecret) actions {
	var a actions
	var asking sync.WaitGroup
	ask := func(answer *string, verb, resource, name, to string) {
		group := v1alpha1.GroupVersion.Group
		if resource == "secrets" {
			group = ""
		}
		asking.Go(func() {
			if !r.may(ctx, rbacreview.Right{Verb: verb, Group: group, Resource: resource, Namespace: p.Namespace, Name: name}) {
				*answer = fmt.Sprintf("You may not %s: it requires the right to %s %s in the namespace %s.", to, verb, resource, p.Namespace)
			}
		})
	}
	ask(&a.Edit, "patch", "postbacks", p.Name, "change this Postback")
	ask(&a.Delete, "delete", "postbacks", p.Name, "delete this Postback")
	ask(&a.Redeliver, "patch", "postbackdeliveries", "", "redeliver")
	ask(&a.Drop, "drop", "postbackdeliveries", "", "drop events")
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

// create returns "" if the user may create Postbacks in a namespace, or the reason why not.
func (r *rights) create(ctx context.Context, namespace string) string {
	if r.may(ctx, rbacreview.Right{Verb: "create", Group: v1alpha1.GroupVersion.Group, Resource: "postbacks", Namespace: namespace}) {
		return ""
	}
	if namespace == "" {
		return "You may not add Postbacks: it requires the right to create postbacks."
	}
	return "You may not add Postbacks: it requires the right to create postbacks in the namespace " + namespace + "."
}
