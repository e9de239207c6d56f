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
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

var (
	cp     *controlplane.ControlPlane
	scheme = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr), zap.UseDevMode(true), zap.Level(levelOf(os.Getenv("TEST_LOG_LEVEL")))))
	result := controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c })
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	if missing := seenReasons.missing(); result == 0 && whole && len(missing) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: no test looked, as kstatus and Argo CD do, at the states %v\n", missing)
		result = 1
	}
	os.Exit(result)
}

// bench runs the reconcilers pass by pass, with a fake clock and writes that can fail.
type bench struct {
	t       *testing.T
	ctx     context.Context
	direct  client.WithWatch
	faulty  *faultyWrites
	clock   *testingclock.FakeClock
	events  *events.FakeRecorder
	ns      string
	install string

	secrets   *PostbackSecretReconciler
	postbacks *PostbackReconciler
}

func newBench(t *testing.T) *bench {
	t.Helper()
	direct, err := client.NewWithWatch(cp.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		t: t, ctx: t.Context(), direct: direct, faulty: &faultyWrites{},
		// The API server sets creation times by the real clock, so the fake clock starts at the same time.
		clock:  testingclock.NewFakeClock(time.Now()),
		events: events.NewFakeRecorder(1000),
	}
	b.ns, b.install = makeNamespace(t, direct, "tenant-"), makeNamespace(t, direct, "install-")
	b.restart()
	return b
}

// restart replaces the reconcilers, like a restart of the manager: their memory is lost.
func (b *bench) restart() {
	writer := client.WithFieldOwner(b.faulty.wrap(b.direct), v1alpha1.ManagerFieldOwner)
	b.secrets = &PostbackSecretReconciler{
		Client: writer, Live: b.direct, Scheme: scheme, Events: b.events, Clock: b.clock, PollInterval: time.Minute,
	}
	b.postbacks = &PostbackReconciler{
		Client: writer, Live: b.direct, Scheme: scheme, Events: b.events, Clock: b.clock,
		Replicas: newTestReplicas(b.clock), Namespace: b.install,
		Policy: Policy{SignatureHeader: "Dub-Signature"}, PollInterval: time.Minute,
	}
}

// reached returns a Replicas.Version function with a fixed result.
func reached(version string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return version, nil }
}

func newTestReplicas(clock *testingclock.FakeClock) *Replicas {
	r := newReplicas(nil, reached(loadedEverything), clock)
	r.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	return r
}

func makeNamespace(t *testing.T, c client.Client, prefix string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

func (b *bench) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: b.ns, Name: name}
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) create(object client.Object) {
	b.t.Helper()
	object.SetNamespace(b.ns)
	b.must(b.direct.Create(b.ctx, object))
}

// modify changes an object as a user would.
func modify[T client.Object](b *bench, object T, name string, change func(T)) {
	b.t.Helper()
	b.must(b.direct.Get(b.ctx, b.key(name), object))
	before, ok := object.DeepCopyObject().(T)
	if !ok {
		b.t.Fatal("copy of another type")
	}
	change(object)
	b.must(b.direct.Patch(b.ctx, object, client.MergeFrom(before)))
}

func annotate(b *bench, object client.Object, name, annotation, value string) {
	b.t.Helper()
	modify(b, object, name, func(o client.Object) { o.SetAnnotations(map[string]string{annotation: value}) })
}

// settle runs both reconcilers on the objects of a name until a round makes no write. It returns the results of the
// last round.
func (b *bench) settle(name string) (secret, postback ctrl.Result) {
	b.t.Helper()
	for range 20 {
		before := b.faulty.count()
		var err error
		request := ctrl.Request{NamespacedName: b.key(name)}
		postback, err = b.postbacks.Reconcile(b.ctx, request)
		b.tolerate(err)
		secret, err = b.secrets.Reconcile(b.ctx, request)
		b.tolerate(err)
		if b.faulty.count() == before {
			return secret, postback
		}
	}
	b.t.Fatal("the reconcilers do not come to rest")
	return secret, postback
}

func (b *bench) tolerate(err error) {
	b.t.Helper()
	if err != nil && !errors.Is(err, errFault) {
		b.t.Fatal(err)
	}
}

func (b *bench) postbackSecret(name string) *v1alpha1.PostbackSecret {
	b.t.Helper()
	object := &v1alpha1.PostbackSecret{}
	b.must(b.direct.Get(b.ctx, b.key(name), object))
	checkReaders(b.t, "PostbackSecret", object, object.Status.ObservedGeneration, object.Status.Conditions, false)
	return object
}

func (b *bench) postback(name string) *v1alpha1.Postback {
	b.t.Helper()
	object := &v1alpha1.Postback{}
	b.must(b.direct.Get(b.ctx, b.key(name), object))
	checkReaders(b.t, "Postback", object, object.Status.ObservedGeneration, object.Status.Conditions, object.Spec.GetState() != v1alpha1.PostbackEnabled)
	return object
}

// secret returns a core Secret, or nil if it does not exist.
func (b *bench) secret(name string) *corev1.Secret {
	b.t.Helper()
	secret, err := getSecret(b.ctx, b.direct, b.key(name))
	b.must(err)
	return secret
}

func (b *bench) keyring(name string) keyring.Keyring {
	b.t.Helper()
	secret := b.secret(name)
	if secret == nil {
		b.t.Fatalf("there is no Secret %s", name)
	}
	return keyring.Read(secret, keyring.Remembered{}, b.clock.Now())
}

// route returns the route of a Postback, or nil if it has none.
func (b *bench) route(name string) *route.Route {
	b.t.Helper()
	secret, err := getSecret(b.ctx, b.direct, b.postbacks.routeKey(b.postback(name)))
	b.must(err)
	if secret == nil {
		return nil
	}
	r, err := route.FromSecret(secret)
	b.must(err)
	return r
}

// told returns the Kubernetes Events since the last call.
func (b *bench) told() []string {
	var all []string
	for {
		select {
		case event := <-b.events.Events:
			all = append(all, event)
		default:
			return all
		}
	}
}

func newPostback(name string, change func(*v1alpha1.Postback)) *v1alpha1.Postback {
	p := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PostbackSpec{URL: "https://crm.example.com/hooks?token=t0ken", Triggers: []v1alpha1.Trigger{"lead.created", "sale.*"}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func newPostbackSecret(name string, change func(*v1alpha1.PostbackSecret)) *v1alpha1.PostbackSecret {
	s := &v1alpha1.PostbackSecret{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if change != nil {
		change(s)
	}
	return s
}

// errFault is the error of an injected fault.
var errFault = errors.New("made to fail")

// faultyWrites counts the writes of the reconcilers, and can make one fail before or after it takes effect.
type faultyWrites struct {
	mu     sync.Mutex
	writes int
	// failAt is the number of the write that fails, from 1; 0 means none.
	failAt int
	// after makes the write take effect before it fails.
	after bool
	kinds []string
	// refuse, if set, returns the error of a write that is refused, or nil.
	refuse func(what string, object client.Object) error
}

func (f *faultyWrites) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// arm makes the nth write from now on fail.
func (f *faultyWrites) arm(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.after, f.kinds = f.writes+n, after, nil
}

// fired reports whether the armed fault has happened.
func (f *faultyWrites) fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failAt > 0 && f.writes >= f.failAt
}

func (f *faultyWrites) do(what string, object client.Object, write func() error) error {
	f.mu.Lock()
	f.writes++
	fails := f.failAt == f.writes
	f.kinds = append(f.kinds, fmt.Sprintf("%s %T", what, object))
	f.mu.Unlock()
	if fails && !f.after {
		return errFault
	}
	if f.refuse != nil {
		if err := f.refuse(what, object); err != nil {
			return err
		}
	}
	err := write()
	if fails && err == nil {
		return errFault
	}
	return err
}

func (f *faultyWrites) wrap(c client.WithWatch) client.Client {
	return interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return f.do("create", o, func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return f.do("update", o, func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return f.do("patch", o, func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return f.do("delete", o, func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return f.do("patch "+sub, o, func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return f.do("update "+sub, o, func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
	})
}

func (b *bench) gone(object client.Object, name string) bool {
	b.t.Helper()
	err := b.direct.Get(b.ctx, b.key(name), object)
	if err != nil && !apierrors.IsNotFound(err) {
		b.t.Fatal(err)
	}
	return err != nil
}

// eventually waits for an effect of the control plane itself.
func (b *bench) eventually(what string, condition func() bool) {
	b.t.Helper()
	err := wait.PollUntilContextTimeout(b.ctx, 50*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		return condition(), nil
	})
	if err != nil {
		b.t.Fatalf("not in time: %s", what)
	}
}
