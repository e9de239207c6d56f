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
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/watched"
)

const inTime = time.Minute

// live is a bench whose reconcilers run in a manager, on real watches and the real clock.
type live struct {
	*bench
	gomega *WithT
	mgr    manager.Manager
	stop   func()
}

func newLive(t *testing.T, poll time.Duration) *live {
	t.Helper()
	l := &live{bench: newBench(t), gomega: NewWithT(t)}
	l.gomega.SetDefaultEventuallyTimeout(inTime)
	l.gomega.SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	l.start(poll)
	return l
}

// start starts a manager that works for this test's namespace only.
func (l *live) start(poll time.Duration) {
	l.t.Helper()
	namespaces := watched.Of(l.ns)
	mgr, err := ctrl.NewManager(cp.Config, ctrl.Options{
		Scheme: scheme, Cache: CacheOptions(l.install, namespaces), Client: ClientOptions(),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	l.must(err)
	l.must(Setup(l.ctx, mgr, Options{
		Namespace: l.install, Watched: namespaces, Policy: Policy{SignatureHeader: "Dub-Signature"}, PollInterval: poll, Clock: clock.RealClock{},
		Version: reached(loadedEverything),
	}))
	ctx, cancel := context.WithCancel(l.ctx)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	l.mgr = mgr
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the manager: %v", err)
		}
	})
	l.t.Cleanup(l.stop)
}

// renew makes or renews the Lease of a dispatcher replica.
func (l *live) renew(replica, loaded string, seconds int32) {
	l.t.Helper()
	want := lease(replica, loaded, time.Now())
	want.Namespace = l.install
	want.Spec.LeaseDurationSeconds = ptr.To(seconds)
	current := &coordinationv1.Lease{}
	err := l.direct.Get(l.ctx, client.ObjectKeyFromObject(want), current)
	if apierrors.IsNotFound(err) {
		l.must(l.direct.Create(l.ctx, want))
		return
	}
	l.must(err)
	want.ResourceVersion = current.ResourceVersion
	l.must(l.direct.Update(l.ctx, want))
}

// newest returns the highest resourceVersion among the route Secrets.
func (l *live) newest() string {
	l.t.Helper()
	list := &corev1.SecretList{}
	l.must(l.direct.List(l.ctx, list, client.InNamespace(l.install)))
	newest := "0"
	for i := range list.Items {
		version := list.Items[i].ResourceVersion
		if order, err := resourceversion.CompareResourceVersion(version, newest); err != nil || order > 0 {
			newest = version
		}
	}
	return newest
}

func (l *live) expectPostback(name string, want state, reason, message string) {
	l.t.Helper()
	l.gomega.Eventually(func() string {
		postback := l.postback(name)
		if postback.Status.ObservedGeneration != postback.Generation {
			return "the status is about an old generation"
		}
		return conditionMistake(postback.Status.Conditions, want, reason, message)
	}).Should(BeEmpty())
}

func (l *live) expectKeys(name string, want func() []string) {
	l.t.Helper()
	l.gomega.Eventually(func() []string {
		if r := l.route(name); r != nil {
			return r.Keys
		}
		return nil
	}).Should(WithTransform(func(got []string) bool { return slices.Equal(got, want()) }, BeTrue()))
}

func TestManagerFollowsTheDispatcher(t *testing.T) {
	t.Parallel()
	l := newLive(t, time.Hour)
	l.create(newPostback("crm", nil))
	l.expectPostback("crm", stateReconciling, v1alpha1.NoDispatcherReason, "")
	l.renew("east", "1", 600)
	l.expectPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "0 of 1")
	l.renew("east", l.newest(), 600)
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	l.renew("north", "", 600)
	l.expectPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "1 of 2")
	l.renew("north", l.newest(), 600)
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")

	modify(l.bench, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.State = v1alpha1.PostbackPaused })
	l.expectPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "0 of 2")
	l.renew("east", l.newest(), 600)
	l.expectPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "1 of 2")
	// The Lease of the other replica is deleted: the Postback no longer waits for that replica.
	gone := lease("north", "", time.Time{})
	gone.Namespace = l.install
	l.must(l.direct.Delete(l.ctx, gone))
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	// The last replica dies without deleting its Lease.
	l.renew("east", l.newest(), 1)
	l.expectPostback("crm", stateReconciling, v1alpha1.NoDispatcherReason, "")
}

// A restart of the manager makes no writes.
func TestManagerRestartMakesNoWrites(t *testing.T) {
	t.Parallel()
	l := newLive(t, time.Hour)
	l.renew("east", loadedEverything, 600)
	l.create(newPostback("crm", nil))
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	versions := func() []string {
		return []string{
			l.postback("crm").ResourceVersion, l.postbackSecret("crm").ResourceVersion,
			l.secret("crm").ResourceVersion, l.newest(),
		}
	}
	before := versions()
	l.stop()
	l.start(time.Hour)
	// When the new Postback is ready and deleted again, the manager has also reconciled the old one.
	l.create(newPostback("last", nil))
	l.expectPostback("last", stateReady, v1alpha1.RoutedReason, "")
	l.must(l.direct.Delete(l.ctx, l.postback("last")))
	l.gomega.Eventually(func() bool { return l.routes() == 1 }).Should(BeTrue())
	if after := versions(); !slices.Equal(before, after) {
		t.Errorf("resourceVersions %v before, %v after", before, after)
	}
}

func TestManagerRotates(t *testing.T) {
	t.Parallel()
	l := newLive(t, time.Hour)
	l.renew("east", loadedEverything, 600)
	l.create(newPostback("crm", nil))
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	first := l.keyring("crm").Current
	modify(l.bench, &v1alpha1.PostbackSecret{}, "crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(0, 3*time.Second) })
	annotate(l.bench, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "now")
	l.expectKeys("crm", func() []string { return []string{l.keyring("crm").Current, first} })
	// The overlap ends without another write.
	l.expectKeys("crm", func() []string { return []string{l.keyring("crm").Current} })
	if version := l.keyring("crm").Version; version != 2 {
		t.Errorf("version %d", version)
	}
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}

func TestManagerRepairs(t *testing.T) {
	t.Parallel()
	l := newLive(t, time.Hour)
	l.renew("east", loadedEverything, 600)
	l.create(newPostback("crm", nil))
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	remove := func() {
		l.t.Helper()
		secret, err := getSecret(l.ctx, l.direct, client.ObjectKey{Namespace: l.install, Name: "route-" + string(l.postback("crm").UID)})
		l.must(err)
		l.must(l.direct.Delete(l.ctx, secret))
	}
	remove()
	l.expectKeys("crm", func() []string { return []string{l.keyring("crm").Current} })
	old := l.keyring("crm").Current
	l.must(l.direct.Delete(l.ctx, l.secret("crm")))
	l.gomega.Eventually(func() bool {
		r := l.route("crm")
		return r != nil && r.Keys[0] != old && l.postbackSecret("crm").Status.Version == 2
	}).Should(BeTrue())
	// The Postback's own PostbackSecret is made again, too.
	uid := l.postbackSecret("crm").UID
	l.must(l.direct.Delete(l.ctx, l.postbackSecret("crm")))
	l.gomega.Eventually(func() bool {
		secret := &v1alpha1.PostbackSecret{}
		return l.direct.Get(l.ctx, l.key("crm"), secret) == nil && secret.UID != uid && secret.Status.Version == 1
	}).Should(BeTrue())
	l.expectKeys("crm", func() []string {
		if secret := l.secret("crm"); secret != nil {
			return keyring.Read(secret, keyring.Remembered{}, time.Now()).Keys()
		}
		return nil
	})
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}

func TestManagerSeesForeignSecrets(t *testing.T) {
	t.Parallel()
	for name, watched := range map[string]bool{"watched": true, "polled": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			poll := time.Second
			var labels map[string]string
			if watched {
				poll, labels = time.Hour, map[string]string{v1alpha1.WatchLabel: "true"}
			}
			l := newLive(t, poll)
			l.renew("east", loadedEverything, 600)
			l.create(newPostbackSecret("vault", func(s *v1alpha1.PostbackSecret) { s.Spec.Source = v1alpha1.SecretExternal }))
			l.create(newPostback("crm", func(p *v1alpha1.Postback) {
				p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "vault"}
				p.Spec.Headers = []v1alpha1.Header{{Name: "X-Key", ValueFrom: &v1alpha1.HeaderSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "tokens", Key: "key"}}}}
				p.Spec.Auth, p.Spec.TLS = bearer("credential", "token"), tlsOf("authorities", "")
			}))
			l.expectPostback("crm", stateReconciling, v1alpha1.SecretNotReadyReason, "")
			key := keyring.New()
			l.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "vault", Labels: labels}, Data: map[string][]byte{"secret": []byte(key)}})
			l.expectPostback("crm", stateReconciling, v1alpha1.HeaderSecretNotFoundReason, "")
			l.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "tokens", Labels: labels}, Data: map[string][]byte{"key": []byte("k1")}})
			l.expectPostback("crm", stateReconciling, v1alpha1.AuthSecretNotFoundReason, "")
			l.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "credential", Labels: labels}, Data: map[string][]byte{"token": []byte("t1")}})
			l.expectPostback("crm", stateReconciling, v1alpha1.TLSSecretNotFoundReason, "")
			crt, _ := certificate(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			l.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "authorities", Labels: labels}, Data: map[string][]byte{"ca.crt": []byte(crt)}})
			l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
			modify(l.bench, &corev1.Secret{}, "credential", func(s *corev1.Secret) { s.Data["token"] = []byte("t2") })
			l.gomega.Eventually(func() string { return l.route("crm").Auth.Bearer }).Should(Equal("t2"))
			next := keyring.New()
			modify(l.bench, &corev1.Secret{}, "vault", func(s *corev1.Secret) { s.Data["secret"] = []byte(next) })
			modify(l.bench, &corev1.Secret{}, "tokens", func(s *corev1.Secret) { s.Data["key"] = []byte("k2") })
			l.expectKeys("crm", func() []string { return []string{next} })
			l.gomega.Eventually(func() route.Header { return l.route("crm").Headers[0] }).Should(Equal(route.Header{Name: "X-Key", Value: "k2", Secret: true}))
		})
	}
}

// The deletion of a namespace removes every object in it, and its routes.
func TestManagerDeletesNamespace(t *testing.T) {
	t.Parallel()
	l := newLive(t, time.Hour)
	l.renew("east", loadedEverything, 600)
	for i := range 10 {
		l.create(newPostback(fmt.Sprintf("crm-%d", i), func(p *v1alpha1.Postback) {
			p.Annotations = map[string]string{v1alpha1.SendTestAnnotation: "lead.created"}
			if i%2 == 1 {
				p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "crm-0"}
			}
		}))
	}
	for i := range 10 {
		l.expectPostback(fmt.Sprintf("crm-%d", i), stateReady, v1alpha1.RoutedReason, "")
	}
	l.must(l.direct.Delete(l.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.ns}}))
	l.gomega.Eventually(func() bool {
		return apierrors.IsNotFound(l.direct.Get(l.ctx, client.ObjectKey{Name: l.ns}, &corev1.Namespace{}))
	}, 2*inTime).Should(BeTrue())
	if routes := l.routes(); routes != 0 {
		t.Errorf("%d routes are left", routes)
	}
}

// The manager's cache holds no Secrets that the operator does not use.
func TestForeignSecretsDoNotEnterTheCache(t *testing.T) {
	const count, writers = 10000, 32
	l := newLive(t, time.Hour)
	l.create(newPostback("crm", nil))
	l.expectPostback("crm", stateReconciling, v1alpha1.NoDispatcherReason, "")
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for i := writer; i < count; i += writers {
				secret := &corev1.Secret{
					ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: fmt.Sprintf("foreign-%05d", i)},
					Data:       map[string][]byte{"password": []byte("x")},
				}
				if err := l.direct.Create(l.ctx, secret); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	// A restarted manager lists all Secrets again.
	l.stop()
	l.start(time.Hour)
	l.create(newPostback("last", nil))
	l.expectPostback("last", stateReconciling, v1alpha1.NoDispatcherReason, "")

	cached := &metav1.PartialObjectMetadataList{}
	cached.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	l.must(l.mgr.GetCache().List(l.ctx, cached))
	if len(cached.Items) != 4 {
		t.Errorf("%d Secrets in the cache, want 4: two keys and two routes", len(cached.Items))
	}
	err := l.mgr.GetCache().Get(l.ctx, l.key("crm"), &corev1.Secret{})
	if _, ok := errors.AsType[*cache.ErrResourceNotCached](err); !ok {
		t.Errorf("whole Secrets are cached: %v", err)
	}
}

// The manager removes the route of a Postback that lost its finalizer, and a route that was restored from a backup.
func TestManagerRemovesLeftovers(t *testing.T) {
	t.Parallel()
	l := newLive(t, time.Hour)
	l.renew("east", loadedEverything, 600)
	l.create(newPostback("crm", nil))
	l.create(newPostback("stays", nil))
	l.expectPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	l.expectPostback("stays", stateReady, v1alpha1.RoutedReason, "")
	leftover, err := l.route("crm").ToSecret(l.install)
	l.must(err)
	// The Postback disappears while the manager is down.
	l.stop()
	modify(l.bench, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Finalizers = nil })
	l.must(l.direct.Delete(l.ctx, l.postback("crm")))
	l.start(time.Hour)
	l.gomega.Eventually(l.routes).Should(Equal(1))
	l.must(l.direct.Create(l.ctx, leftover))
	l.gomega.Eventually(l.routes).Should(Equal(1))
	l.expectKeys("stays", func() []string { return []string{l.keyring("stays").Current} })
}
