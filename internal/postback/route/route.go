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

// Package route holds the routes: Postbacks as the dispatcher needs them. The manager writes each route into a Secret
// in the install namespace. The dispatcher reads nothing else of a tenant's configuration.
package route

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// SecretType is the type of the Secrets that hold routes. The dispatcher selects them by the field "type".
	SecretType corev1.SecretType = "postback.dev/route"
	// dataKey is the data key of the route, as JSON, in its Secret.
	dataKey = "route.json"
)

// Route is one Postback as the dispatcher needs it, with every reference resolved.
type Route struct {
	Namespace  string    `json:"namespace"`
	Name       string    `json:"name"`
	UID        types.UID `json:"uid"`
	Generation int64     `json:"generation"`
	// EndpointGeneration is the generation in which URL last changed, or 0 if it is not known.
	EndpointGeneration int64                  `json:"endpointGeneration,omitempty"`
	URL                string                 `json:"url"`
	Triggers           []v1alpha1.Trigger     `json:"triggers"`
	State              v1alpha1.PostbackState `json:"state"`
	// Filter is a CEL expression, or "" if every event is sent.
	Filter     string                     `json:"filter,omitempty"`
	Format     v1alpha1.PayloadFormat     `json:"format,omitempty"` // "" means JSON
	Headers    []Header                   `json:"headers,omitempty"`
	Auth       *Auth                      `json:"auth,omitempty"`
	TLS        *TLS                       `json:"tls,omitempty"`
	Signatures []v1alpha1.SignatureScheme `json:"signatures"`
	// Keys are the signing keys in the form that partners see ("whsec_…"). The current key comes first, then the
	// previous keys in their overlap, newest first. There is at least one.
	Keys        []string        `json:"keys"`
	Timeout     metav1.Duration `json:"timeout"`
	MaxAttempts int32           `json:"maxAttempts,omitempty"` // 0: no limit
	GiveUpAfter metav1.Duration `json:"giveUpAfter,omitzero"`  // 0: no limit
	MaxPending  int32           `json:"maxPending"`
	// MaxPendingSet says that the Postback sets MaxPending. Otherwise MaxPending is the default.
	MaxPendingSet bool `json:"maxPendingSet,omitempty"`
	// MaxConcurrent and PerSecond are 0 if the Postback sets no such limit.
	MaxConcurrent int32   `json:"maxConcurrent,omitempty"`
	PerSecond     int32   `json:"perSecond,omitempty"`
	History       History `json:"history"`
}

// Postback returns the Postback with the fields that a Kubernetes Event about it needs.
func (r *Route) Postback() *v1alpha1.Postback {
	return &v1alpha1.Postback{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Postback"},
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name, UID: r.UID},
	}
}

// EndpointSince returns the generation of the Postback since which its URL is the present one. If that is unknown, the
// endpoint counts as new: to forget a Retry-After is better than to obey that of another endpoint.
func (r *Route) EndpointSince() int64 {
	return cmp.Or(r.EndpointGeneration, r.Generation)
}

// Exclusive reports whether one replica has to make all attempts, so that the Postback's limits are exact.
func (r *Route) Exclusive() bool { return r.MaxConcurrent > 0 || r.PerSecond > 0 }

// History is the number of finished deliveries to keep, and the longest time to keep one.
type History struct {
	Delivered int32           `json:"delivered"`
	Failed    int32           `json:"failed"`
	TTL       metav1.Duration `json:"ttl"`
}

// Auth is the source of the header Authorization. Exactly one field is set.
type Auth struct {
	Basic *BasicAuth `json:"basic,omitempty"`
	// Bearer is a token.
	Bearer string  `json:"bearer,omitempty"`
	OAuth2 *OAuth2 `json:"oauth2,omitempty"`
}

// BasicAuth is a user name and password.
type BasicAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// OAuth2 holds the parameters to get a token by the client credentials grant.
type OAuth2 struct {
	TokenURL     string   `json:"tokenURL"`
	ClientID     string   `json:"clientID"`
	ClientSecret string   `json:"clientSecret"`
	Scopes       []string `json:"scopes,omitempty"`
	Audience     string   `json:"audience,omitempty"`
}

// TLS has the certificates and the key for the TLS handshake with the endpoint, in PEM. "" means the default.
type TLS struct {
	// CA contains the certificates of the authorities to trust, instead of the public authorities.
	CA string `json:"ca,omitempty"`
	// Certificate and Key are the client certificate that the dispatcher presents, and its private key.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
}

// Header is an HTTP header with its value resolved.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Secret says that the value comes from a Secret.
	Secret bool `json:"secret,omitempty"`
}

// Key returns the namespace and name of the Postback.
func (r *Route) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
}

// SecretName returns the name of the Secret that holds the route of the Postback with this UID.
func SecretName(postback types.UID) string {
	return "route-" + string(postback)
}

// UIDOf is the inverse of SecretName. It returns false for a name that is not a route Secret's.
func UIDOf(secretName string) (types.UID, bool) {
	uid, ok := strings.CutPrefix(secretName, "route-")
	return types.UID(uid), ok
}

// ToSecret returns the Secret that holds the route, in the given namespace. Equal routes give equal data.
func (r *Route) ToSecret(namespace string) (*corev1.Secret, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode route of Postback %s: %w", r.Key(), err)
	}
	labels := v1alpha1.OwnLabels()
	labels[v1alpha1.WatchLabel] = "true"
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretName(r.UID), Labels: labels},
		Type:       SecretType,
		Data:       map[string][]byte{dataKey: data},
	}, nil
}

// SameData reports whether two Secrets hold the same route.
func SameData(a, b *corev1.Secret) bool {
	return bytes.Equal(a.Data[dataKey], b.Data[dataKey])
}

// FromSecret returns the route in a Secret. Its errors quote no value of the route.
func FromSecret(secret *corev1.Secret) (*Route, error) {
	data, ok := secret.Data[dataKey]
	if !ok {
		return nil, fmt.Errorf("no data key %q", dataKey)
	}
	r := &Route{}
	if err := json.Unmarshal(data, r); err != nil {
		// A JSON error may quote the text around the mistake, which may be a key.
		return nil, fmt.Errorf("data key %q is not a route", dataKey)
	}
	switch {
	case r.UID == "" || r.Namespace == "" || r.Name == "":
		return nil, errors.New("route without namespace, name or uid")
	case SecretName(r.UID) != secret.Name:
		return nil, errors.New("route of another Postback than the Secret's name says")
	case len(r.Keys) == 0:
		return nil, errors.New("route without a signing key")
	case r.Timeout.Duration < time.Second:
		return nil, errors.New("route without a timeout")
	}
	return r, nil
}
