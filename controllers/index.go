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
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// Indexes of cached objects. An object whose spec names no other one is indexed by the default name.
const (
	// secretNameIndex finds PostbackSecrets by the name of their core Secret.
	secretNameIndex = ".spec.secretName"
	// secretRefIndex finds Postbacks by the name of their PostbackSecret.
	secretRefIndex = ".spec.secretRef.name"
	// valueSecretIndex finds Postbacks by the names of the Secrets that hold values of their headers, credentials and
	// certificates.
	valueSecretIndex = ".valueSecretNames"
	// routeSecretIndex finds a Postback by the name of its route Secret.
	routeSecretIndex = ".routeSecretName"
)

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range []struct {
		object  client.Object
		name    string
		extract client.IndexerFunc
	}{
		{&v1alpha1.PostbackSecret{}, secretNameIndex, indexPostbackSecret},
		{&v1alpha1.Postback{}, secretRefIndex, indexPostback(func(p *v1alpha1.Postback) []string { return []string{p.GetPostbackSecretName()} })},
		{&v1alpha1.Postback{}, valueSecretIndex, indexPostback(valueSecrets)},
		{&v1alpha1.Postback{}, routeSecretIndex, indexPostback(func(p *v1alpha1.Postback) []string { return []string{route.SecretName(p.UID)} })},
	} {
		if err := indexer.IndexField(ctx, index.object, index.name, index.extract); err != nil {
			return fmt.Errorf("index %T by %s: %w", index.object, index.name, err)
		}
	}
	return nil
}

func indexPostbackSecret(object client.Object) []string {
	secret, ok := object.(*v1alpha1.PostbackSecret)
	if !ok {
		return nil
	}
	return []string{secret.GetSecretName()}
}

func indexPostback(extract func(*v1alpha1.Postback) []string) client.IndexerFunc {
	return func(object client.Object) []string {
		postback, ok := object.(*v1alpha1.Postback)
		if !ok {
			return nil
		}
		return extract(postback)
	}
}

// valueSecrets returns the names of the Secrets that a Postback's headers, credentials and certificates refer to,
// each once.
func valueSecrets(postback *v1alpha1.Postback) []string {
	names := map[string]bool{}
	for _, header := range postback.Spec.Headers {
		if header.ValueFrom != nil && header.ValueFrom.SecretKeyRef != nil {
			names[header.ValueFrom.SecretKeyRef.Name] = true
		}
	}
	if auth := postback.Spec.Auth; auth != nil {
		switch {
		case auth.Basic != nil:
			names[auth.Basic.SecretRef.Name] = true
		case auth.Bearer != nil:
			names[auth.Bearer.SecretKeyRef.Name] = true
		case auth.OAuth2 != nil:
			names[auth.OAuth2.ClientSecretRef.Name] = true
		}
	}
	if tls := postback.Spec.TLS; tls != nil {
		if tls.CASecretRef != nil {
			names[tls.CASecretRef.Name] = true
		}
		if tls.ClientCertificateSecretRef != nil {
			names[tls.ClientCertificateSecretRef.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// lookup maps a changed object to the objects that depend on it.
type lookup struct {
	cache client.Reader
	// namespace is the namespace of the installation.
	namespace string
	// watched are the namespaces whose Postbacks and PostbackSecrets are in the cache.
	watched watched.Namespaces
}

// postbackSecretsForSecret maps a core Secret to the PostbackSecrets that name it.
func (l lookup) postbackSecretsForSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	return l.find(ctx, &v1alpha1.PostbackSecretList{}, secret.GetNamespace(), secretNameIndex, secret.GetName())
}

// postbacksForPostbackSecret maps a PostbackSecret to the Postbacks that use it.
func (l lookup) postbacksForPostbackSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	return l.find(ctx, &v1alpha1.PostbackList{}, secret.GetNamespace(), secretRefIndex, secret.GetName())
}

// postbacksForSecret maps a core Secret to the Postbacks that depend on it. The Secret holds their signing key, their
// route, or the value of a header, credential or certificate.
func (l lookup) postbacksForSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	namespace, name := secret.GetNamespace(), secret.GetName()
	requests := l.find(ctx, &v1alpha1.PostbackList{}, namespace, valueSecretIndex, name)
	for _, r := range l.find(ctx, &v1alpha1.PostbackSecretList{}, namespace, secretNameIndex, name) {
		requests = append(requests, l.find(ctx, &v1alpha1.PostbackList{}, namespace, secretRefIndex, r.Name)...)
	}
	if namespace == l.namespace {
		requests = append(requests, l.postbackForRoute(ctx, secret)...)
	}
	return requests
}

// postbackForRoute maps a route Secret to its Postback. If no Postback has it, the request names the Secret itself.
func (l lookup) postbackForRoute(ctx context.Context, secret client.Object) []reconcile.Request {
	requests := l.find(ctx, &v1alpha1.PostbackList{}, metav1.NamespaceAll, routeSecretIndex, secret.GetName())
	if _, ok := route.UIDOf(secret.GetName()); ok && len(requests) == 0 {
		requests = []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(secret)}}
	}
	return requests
}

// enqueueRouteOfDeleted enqueues the route of a Postback that was deleted without its finalizer.
func (l lookup) enqueueRouteOfDeleted(_ context.Context, e event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: l.namespace, Name: route.SecretName(e.Object.GetUID())}})
}

func (l lookup) find(ctx context.Context, list client.ObjectList, namespace, index, value string) []reconcile.Request {
	if namespace != metav1.NamespaceAll && !l.watched.Has(namespace) {
		return nil // Secrets of the installation are watched for their own sake.
	}
	err := l.cache.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{index: value}, client.UnsafeDisableDeepCopy)
	if err != nil {
		// The cache fails only while it is not running. Every object is reconciled when it starts.
		logf.FromContext(ctx).Error(err, "Cannot find the dependants of an object", "index", index, "value", value)
		return nil
	}
	var requests []reconcile.Request
	add := func(object client.Object) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}})
	}
	switch list := list.(type) {
	case *v1alpha1.PostbackList:
		for i := range list.Items {
			add(&list.Items[i])
		}
	case *v1alpha1.PostbackSecretList:
		for i := range list.Items {
			add(&list.Items[i])
		}
	}
	return requests
}
