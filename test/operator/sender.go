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

package operator

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// Sender is the name of the ServiceAccount that SenderToken creates.
	Sender = "events-sender"
	// SenderRole is the shipped role of producers.
	SenderRole = "postback-event-sender"
)

// SenderToken returns a new token for posting events in a namespace. It creates the ServiceAccount, and the binding
// of the shipped role, if necessary. It returns once the API server permits the posts.
func (o *Operator) SenderToken(ctx context.Context, namespace string) (string, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: Sender}}
	if _, err := o.clients.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create ServiceAccount %s/%s: %w", namespace, Sender, err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: Sender},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: SenderRole},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: Sender}},
	}
	if _, err := o.clients.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create RoleBinding %s/%s: %w", namespace, Sender, err)
	}
	err := o.waitAllowed(ctx, "system:serviceaccount:"+namespace+":"+Sender, authorizationv1.ResourceAttributes{
		Namespace: namespace, Verb: "create", Group: v1alpha1.GroupVersion.Group, Resource: "postbackevents",
	})
	if err != nil {
		return "", err
	}
	config, err := o.ControlPlane.ServiceAccountConfig(ctx, namespace, Sender)
	if err != nil {
		return "", err
	}
	return config.BearerToken, nil
}

// waitAllowed waits until the API server grants a right to a user. The API server learns of a new binding by a watch.
func (o *Operator) waitAllowed(ctx context.Context, user string, right authorizationv1.ResourceAttributes) error {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &right}}
	err := wait.PollUntilContextTimeout(ctx, pollInterval, startTimeout, true, func(ctx context.Context) (bool, error) {
		answer, err := o.clients.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		return err == nil && answer.Status.Allowed, err
	})
	if err != nil {
		return fmt.Errorf("wait until %s may %s %s: %w", user, right.Verb, right.Resource, err)
	}
	return nil
}
