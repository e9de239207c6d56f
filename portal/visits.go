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
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

const (
	// maxSessions bounds the visits in one replica.
	maxSessions = 1024
	// maxOfNamespace bounds the visits of one partner, who may get many links, so that others have room.
	maxOfNamespace = 512
	// maxNamespaces bounds the namespaces with visits. Each has four watches, and its deliveries in memory.
	maxNamespaces = 256
	// maxRequests bounds the open requests of one session, live pages included, and maxLive the live pages of all.
	maxRequests = 16
	maxLive     = 2048
	// maxReviews bounds the reviews of open visits in flight.
	maxReviews = 16
	// idleTime is how long a visit without requests lasts.
	idleTime = time.Minute
	// reviewEvery is the interval at which the rights of visits are reviewed.
	reviewEvery = 15 * time.Second
	// lastWrite is how long a pending write to a visitor may take after the visit ends.
	lastWrite = 5 * time.Second
)

var (
	errBusy = errors.New("too many visitors are here: try again in a minute")
	errFull = errors.New("too many visitors of your namespace are here: sign out elsewhere, and try again in a minute")
	errOpen = errors.New("too many pages of this session are open: close some")
	errLive = errors.New("too many live pages are open: this page does not follow changes until some are closed")
)

// boundOf returns the bound that an error is about, as a value of the metric's label, or "".
func boundOf(err error) string {
	switch {
	case errors.Is(err, errBusy):
		return boundSessions
	case errors.Is(err, errFull):
		return boundNamespace
	case errors.Is(err, errOpen):
		return boundRequests
	case errors.Is(err, errLive):
		return boundLive
	}
	return ""
}

// shown are the resources that the pages show. A visit lasts only as long as its user may list all of them.
var shown = []string{"postbacks", "postbacksecrets", "postbackdeliveries", "postbackstatistics"}

// visits keeps the pages of each session current while it has a visitor. The sessions of one namespace share the
// watches of what each of them may list. Everything else that a visitor sees was read with the visitor's own token.
type visits struct {
	config *rest.Config
	access *access.Reviewer
	clock  clock.PassiveClock
	// installation is the namespace of the operator, in which api reads the intake.
	installation string
	api          kubernetes.Interface
	unread       *rbacreview.Cache[string]
	platform     *rbacreview.Cache[map[string]string]

	mu      sync.Mutex
	open    map[[sha256.Size]byte]*visit
	shared  map[string]*shared
	live    int
	ended   bool
	running sync.WaitGroup
}

// visit is a session whose pages are kept current.
type visit struct {
	// session is the latest, and bearer has its token.
	session
	bearer   *bearer
	pages    http.Handler
	shared   *shared
	ctx      context.Context //nolint:containedctx // It is the lifetime of the visit, not that of a call.
	end      context.CancelFunc
	requests int
	used     time.Time
}

// newVisits returns visits that use own's API server, but not its credentials: each session has its own token.
func newVisits(own *rest.Config, api kubernetes.Interface, installation string, reviewer *access.Reviewer, c clock.PassiveClock) *visits {
	return &visits{
		config: anonymous(own), access: reviewer, clock: c, open: map[[sha256.Size]byte]*visit{}, shared: map[string]*shared{},
		installation: installation, api: api, unread: rbacreview.New[string](c), platform: rbacreview.New[map[string]string](c),
	}
}

// anonymous returns the configuration of clients without credentials.
func anonymous(own *rest.Config) *rest.Config {
	config := rest.AnonymousClientConfig(own)
	config.UserAgent = "postback-portal"
	return config
}

// whyUnread returns the reason why the pages lack entries of the delivery log, or "". Every account may read the
// intake.
func (v *visits) whyUnread(ctx context.Context) string {
	why, err := v.unread.Get(ctx, "", func(ctx context.Context) (string, time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		intake, err := v.api.CoordinationV1().Leases(v.installation).Get(ctx, v1alpha1.IntakeLeaseName, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && intake.Annotations[v1alpha1.IntakeAnnotation] != v1alpha1.IntakeJetStream:
			return "", rbacreview.AllowedFor, nil
		case err != nil:
			return "", 0, fmt.Errorf("read which intake there is: %w", err)
		}
		return "the portal shows PostbackDeliveries only.", rbacreview.AllowedFor, nil
	})
	if err != nil {
		return "the intake of the installation is not known."
	}
	return why
}

// review returns an error if the visitor may no longer see the pages.
func (v *visits) review(ctx context.Context, s session) error {
	for _, resource := range shown {
		right := rbacreview.Right{Verb: "list", Group: v1alpha1.GroupVersion.Group, Resource: resource, Namespace: s.Namespace}
		if _, err := v.access.Allow(ctx, s.Token, right); err != nil {
			return err
		}
	}
	return nil
}

// serve answers a request of a session.
func (v *visits) serve(w http.ResponseWriter, r *http.Request, s session) error {
	if err := v.review(r.Context(), s); err != nil {
		return err
	}
	//nolint:contextcheck // A visit outlasts the request that starts it.
	mine, err := v.enter(s, v.whyUnread(r.Context()), v.rules(r.Context(), s.Namespace))
	if err != nil {
		return err
	}
	defer v.leave(mine)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	if routeOf(r.URL.Path) == routeLive {
		return v.serveLive(w, r, mine, cancel)
	}
	//nolint:contextcheck // The request ends with its visit, too.
	defer context.AfterFunc(mine.ctx, cancel)()
	mine.pages.ServeHTTP(w, r)
	return nil
}

// serveLive answers a request for a live page, which lasts until the visitor leaves or the visit ends.
func (v *visits) serveLive(w http.ResponseWriter, r *http.Request, mine *visit, cancel context.CancelFunc) error {
	if !v.openLive() {
		return errLive
	}
	defer v.closeLive()
	page := newLivePage(w)
	defer page.close()
	defer context.AfterFunc(mine.ctx, func() { cancel(); page.end() })()
	mine.pages.ServeHTTP(page, r)
	return nil
}

func (v *visits) openLive() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.live >= maxLive {
		return false
	}
	v.live++
	liveOpen.Inc()
	return true
}

func (v *visits) closeLive() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live--
	liveOpen.Dec()
}

// enter returns the visit of a session, with one more request. It starts the visit if necessary. A visit continues
// with the renewed token of its session, so that open pages do not read everything again. unread is the reason
// why the pages lack entries of the delivery log, or "". rules are those of the platform.
func (v *visits) enter(s session, unread string, rules console.Rules) (*visit, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := s.key()
	mine := v.open[key]
	switch {
	case v.ended, mine == nil && len(v.open) >= maxSessions:
		return nil, errBusy
	case mine == nil && v.of(s.Namespace) >= maxOfNamespace:
		return nil, errFull
	case mine != nil && mine.requests >= maxRequests:
		return nil, errOpen
	case mine == nil && v.shared[s.Namespace] == nil && len(v.shared) >= maxNamespaces:
		return nil, errBusy
	case mine == nil:
		var err error
		if mine, err = v.start(s, unread, rules); err != nil {
			return nil, err
		}
		v.open[key] = mine
		sessionsOpen.Inc()
	case s.Until.After(mine.Until):
		mine.session = s
		mine.bearer.set(s.Token)
	}
	mine.requests++
	return mine, nil
}

// start starts the visit of a session. The caller holds the lock.
func (v *visits) start(s session, unread string, rules console.Rules) (*visit, error) {
	share := v.shared[s.Namespace]
	if share == nil {
		var err error
		if share, err = v.share(s.Namespace); err != nil {
			return nil, err
		}
	}
	token := &bearer{token: s.Token}
	config := rest.CopyConfig(v.config)
	config.Wrap(transport.TokenSourceWrapTransport(token))
	o := console.Options{Config: config, Namespace: s.Namespace, Data: share.data, Unread: unread, Rules: rules, Clock: v.clock, Hosted: true, Renewed: s.Refresh != ""}
	if s.byIssuer() {
		o.Namespaces = namespacesPath
	}
	pages, err := console.New(o)
	if err != nil {
		return nil, err
	}
	mine := &visit{session: s, bearer: token, pages: pages.Pages(), shared: share}
	mine.ctx, mine.end = context.WithCancel(context.Background())
	share.join(mine)
	if v.shared[s.Namespace] == nil {
		v.shared[s.Namespace] = share
		watchedNamespaces.Inc()
		ctx, end := context.WithCancel(context.Background())
		share.end = end
		v.running.Go(func() { share.data.Run(ctx) })
	}
	v.running.Go(func() { pages.Run(mine.ctx) })
	return mine, nil
}

// share returns the data of a namespace, for its visits.
func (v *visits) share(namespace string) (*shared, error) {
	share := &shared{visits: map[*visit]bool{}}
	config := rest.CopyConfig(v.config)
	config.Wrap(share.wrap)
	var err error
	share.data, err = console.NewData(console.Options{Config: config, Namespace: namespace})
	return share, err
}

// of returns the number of visits of a namespace. The caller holds the lock.
func (v *visits) of(namespace string) int {
	n := 0
	for _, other := range v.open {
		if other.Namespace == namespace {
			n++
		}
	}
	return n
}

func (v *visits) leave(mine *visit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	mine.requests--
	mine.used = v.clock.Now()
}

// signOut ends the visit of a session.
func (v *visits) signOut(s session) {
	v.endIf(func(other *visit) bool { return other.identity() == s.identity() })
}

// endIf ends the visits that satisfy a condition, with their streams.
func (v *visits) endIf(over func(*visit) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, mine := range v.open {
		if over(mine) {
			mine.end()
			delete(v.open, key)
			sessionsOpen.Dec()
			if mine.shared.leave(mine) == 0 {
				mine.shared.end()
				delete(v.shared, mine.Namespace)
				watchedNamespaces.Dec()
			}
		}
	}
}

// sweep ends visits that are idle, whose token has expired, or whose user may no longer see the pages. While the API
// server does not answer, no visit ends for lack of rights.
func (v *visits) sweep(ctx context.Context) {
	now := v.clock.Now()
	v.endIf(func(mine *visit) bool {
		return !now.Before(mine.Until) || mine.requests == 0 && now.Sub(mine.used) >= idleTime
	})
	ctx, cancel := context.WithTimeout(ctx, reviewEvery)
	defer cancel()
	var reviews errgroup.Group
	reviews.SetLimit(maxReviews)
	var refused sync.Map
	for mine, latest := range v.sessions() {
		reviews.Go(func() error {
			if err := v.review(ctx, latest); err != nil && !errors.Is(err, access.ErrUnavailable) {
				refused.Store(mine, true)
			}
			return nil
		})
	}
	_ = reviews.Wait() // No review returns an error.
	v.endIf(func(mine *visit) bool {
		_, ok := refused.Load(mine)
		return ok
	})
}

func (v *visits) present() []*visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Collect(maps.Values(v.open))
}

// sessions returns the latest session of each visit.
func (v *visits) sessions() map[*visit]session {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make(map[*visit]session, len(v.open))
	for _, mine := range v.open {
		all[mine] = mine.session
	}
	return all
}

// stop ends all visits and waits for their watches.
func (v *visits) stop() {
	v.mu.Lock()
	v.ended = true
	v.mu.Unlock()
	v.endIf(func(*visit) bool { return true })
	v.running.Wait()
}
