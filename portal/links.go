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

package portal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

const (
	// linkLife is how long a link can be opened.
	linkLife = 5 * time.Minute
	// linkLabel marks the ConfigMaps of links, which the portal deletes after linkLife.
	linkLabel = "postback.dev/portal-link"
	linkKey   = "link"
	// sweepEvery is the interval at which expired links are deleted, and sweepMost the largest number in one sweep.
	sweepEvery = time.Minute
	sweepMost  = 500
	// callTimeout bounds a call to the API server.
	callTimeout = 10 * time.Second
)

// ServiceAccount returns the name of the ServiceAccount for a role.
func ServiceAccount(role string) string { return "postback-portal-" + role }

// errUsed means that a code is invalid, expired or used.
var errUsed = errors.New("this link was used already, or is older than 5 minutes")

// grant is the access that a link gives.
type grant struct {
	Namespace string        `json:"namespace"`
	Role      string        `json:"role"`
	TTL       time.Duration `json:"ttl"`
	Until     time.Time     `json:"until"`
}

// links are the unopened links. Each is a ConfigMap in the portal's own namespace, so that all replicas see it. Its
// deletion succeeds only once, and uses it up.
type links struct {
	api       kubernetes.Interface
	namespace string
	sealer    *sealer
	clock     clock.PassiveClock
}

// name returns the name of a code's ConfigMap. The name does not reveal the code.
func name(code string) string {
	digest := sha256.Sum256([]byte(code))
	return "link-" + hex.EncodeToString(digest[:])
}

// create stores a link and returns its code.
func (l *links) create(ctx context.Context, g grant) (code string, err error) {
	code = rand.Text()
	g.Until = l.clock.Now().Add(linkLife)
	// The seal keeps users who may write these ConfigMaps from making links, and from copying one link over another.
	sealed, err := l.sealer.seal(purposeLink, name(code), g)
	if err != nil {
		return "", err
	}
	_, err = l.api.CoreV1().ConfigMaps(l.namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name(code), Labels: map[string]string{linkLabel: "true"}},
		Data:       map[string]string{linkKey: sealed},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("store the link: %w", err)
	}
	return code, nil
}

// redeem returns the grant of a code, once.
func (l *links) redeem(ctx context.Context, code string) (grant, error) {
	var g grant
	stored, err := l.api.CoreV1().ConfigMaps(l.namespace).Get(ctx, name(code), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return g, errUsed
	case err != nil:
		return g, fmt.Errorf("read the link: %w", err)
	}
	if !l.sealer.open(purposeLink, stored.Name, stored.Data[linkKey], &g) {
		return grant{}, errUsed
	}
	err = l.api.CoreV1().ConfigMaps(l.namespace).Delete(ctx, stored.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(stored.UID))})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), err == nil && !l.clock.Now().Before(g.Until):
		return grant{}, errUsed
	case err != nil:
		return grant{}, fmt.Errorf("use the link: %w", err)
	}
	return g, nil
}

// session returns a session for a grant, with a new token of the role's ServiceAccount.
func (l *links) session(ctx context.Context, g grant) (session, error) {
	seconds := int64(g.TTL.Seconds())
	token, err := l.api.CoreV1().ServiceAccounts(g.Namespace).CreateToken(ctx, ServiceAccount(g.Role),
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return session{}, fmt.Errorf("request a token of ServiceAccount %s in the namespace %s: %w", ServiceAccount(g.Role), g.Namespace, err)
	}
	// The API server may shorten or extend the lifetime.
	until := l.clock.Now().Add(g.TTL)
	if granted := token.Status.ExpirationTimestamp.Time; granted.Before(until) {
		until = granted
	}
	return session{Namespace: g.Namespace, Role: g.Role, Token: token.Status.Token, Until: until}, nil
}

// sweep deletes expired links.
func (l *links) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	old, err := l.api.CoreV1().ConfigMaps(l.namespace).List(ctx, metav1.ListOptions{LabelSelector: linkLabel, Limit: sweepMost})
	if err != nil {
		return fmt.Errorf("list the links: %w", err)
	}
	for i := range old.Items {
		if l.clock.Since(old.Items[i].CreationTimestamp.Time) < linkLife {
			continue
		}
		err := l.api.CoreV1().ConfigMaps(l.namespace).Delete(ctx, old.Items[i].Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete an old link: %w", err)
		}
	}
	return nil
}
