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

package watched

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
)

const (
	// askAgain is the shortest interval at which missing rights are checked again. Jitter up to twice as long keeps
	// the replicas from restarting together.
	askAgain = 10 * time.Second
	// answered bounds the time for the reviews at the start.
	answered = 30 * time.Second
	remedy   = "is it there, with the Roles and RoleBindings of config/rbac/namespace?"
)

// Settle returns the namespaces in which the program may list and watch the resources. A cache that cannot be filled
// keeps a program from starting. One deleted namespace, or one without its Roles, must not end the service for all
// others. If no namespace is left, Settle fails.
func Settle(ctx context.Context, config *rest.Config, log logr.Logger, n Namespaces, resources ...schema.GroupResource) (Namespaces, *Missing, error) {
	client, err := authorizationclient.NewForConfig(config)
	if err != nil {
		return n, nil, fmt.Errorf("make a client: %w", err)
	}
	m := &Missing{reviews: client.SelfSubjectAccessReviews(), resources: resources}
	if n.All() {
		return n, m, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answered)
	defer cancel()
	var settled Namespaces
	for _, namespace := range n.names {
		lacking, err := m.lacking(ctx, namespace)
		switch {
		case err != nil:
			return n, nil, fmt.Errorf("ask what may be watched in namespace %s: %w", namespace, err)
		case lacking == "":
			settled.names = append(settled.names, namespace)
		default:
			log.Info("Not watching a namespace", "namespace", namespace, "lacking", lacking, "remedy", remedy)
			m.names = append(m.names, namespace)
		}
	}
	if settled.All() {
		return n, nil, fmt.Errorf("no namespace of --%s=%s may be watched: %s", Flag, n, remedy)
	}
	return settled, m, nil
}

// Missing are the namespaces that Settle left out. As a manager.Runnable it ends the program once one of them can be
// watched, because the namespaces of a running cache cannot change.
type Missing struct {
	names     []string
	reviews   authorizationclient.SelfSubjectAccessReviewInterface
	resources []schema.GroupResource
}

// lacking returns a right that the program lacks in a namespace, or "".
func (m *Missing) lacking(ctx context.Context, namespace string) (string, error) {
	for _, resource := range m.resources {
		for _, verb := range []string{"list", "watch"} {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Verb: verb, Group: resource.Group, Resource: resource.Resource,
				},
			}}
			review, err := m.reviews.Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return "", err
			}
			if !review.Status.Allowed {
				return verb + " " + resource.String(), nil
			}
		}
	}
	return "", nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (m *Missing) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (m *Missing) Start(ctx context.Context) error {
	for len(m.names) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait.Jitter(askAgain, 1)):
		}
		for _, namespace := range m.names {
			// After an error, the next interval asks again.
			if lacking, err := m.lacking(ctx, namespace); err == nil && lacking == "" {
				return fmt.Errorf("namespace %s may be watched now: start again", namespace)
			}
		}
	}
	return nil
}
