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

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	docspage "github.com/postback-dev/postback-operator/hack/page"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	postbackName = "crm"
	// signingIn bounds the sign-ins in flight, and linksEach the links that one backend requests, because the portal
	// bounds their rate.
	signingIn = 8
	linksEach = 50
	// watchingEach is the number of visitors for each one that parses what its page shows. The others only read it.
	watchingEach = 10
	portalPages  = "docs/portal.md"
)

// portalOptions configure the benchmark of the portal.
type portalOptions struct {
	visitors, rate int
	namespaces     string
	lasts          time.Duration
	write          bool
}

func (o *portalOptions) define(flags *flag.FlagSet) {
	flags.IntVar(&o.visitors, "portal-visitors", 0, "Visitors of the portal who hold a live log open. Other runs do not take place then.")
	flags.StringVar(&o.namespaces, "portal-namespaces", "50,1", "Namespaces of the visitors, between commas; one run for each.")
	flags.IntVar(&o.rate, "portal-rate", 50, "Events a second, in all namespaces together.")
	flags.DurationVar(&o.lasts, "portal-lasts", time.Minute, "Length of each run.")
	flags.BoolVar(&o.write, "portal-write", false, "Write the table into "+portalPages+".")
}

// portalFigure is the result of one run.
type portalFigure struct {
	visitors, namespaces   int
	without, with          usage
	lasts                  time.Duration
	rss                    int64
	watches, watchesBefore float64
	bytes                  int64
	delays                 []time.Duration
	unseen, broken         int
}

// portalBench is the benchmark of the portal: a control plane, the operator, and the portal as a process.
type portalBench struct {
	options *options
	cp      *controlplane.ControlPlane
	op      *operator.Operator
	api     client.Client
	portal  *operator.Process
	ingest  string
	url     string
	out     io.Writer

	mu sync.Mutex
	// sent has the time at which the endpoint answered each event.
	sent map[string]time.Time
}

// benchPortal measures each number of namespaces with a control plane of its own.
func benchPortal(ctx context.Context, o *options, out io.Writer) error {
	var figures []*portalFigure
	for _, text := range listed(o.portal.namespaces) {
		var namespaces int
		if _, err := fmt.Sscan(text, &namespaces); err != nil || namespaces < 1 {
			return fmt.Errorf("--portal-namespaces: %q is no number of namespaces", text)
		}
		figure, err := measurePortal(ctx, o, namespaces, out)
		if err != nil {
			return err
		}
		figures = append(figures, figure)
	}
	table := portalTable(figures)
	if _, err := io.WriteString(out, table); err != nil || !o.portal.write {
		return err
	}
	return docspage.Write(".", portalPages, map[string]string{"load of the portal": table})
}

func measurePortal(ctx context.Context, o *options, namespaces int, out io.Writer) (f *portalFigure, err error) {
	b := &portalBench{options: o, out: out, sent: map[string]time.Time{}}
	if b.cp, err = controlplane.Start(ctx, controlplane.Options{Log: out, Fsync: o.fsync}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.cp.Stop()) }()
	if b.api, err = b.cp.Client(); err != nil {
		return nil, err
	}
	if b.op, err = operator.Install(ctx, b.cp, operator.Options{Programs: o.programs}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.op.Stop(context.WithoutCancel(ctx))) }()
	endpoint := httptest.NewServer(http.HandlerFunc(b.receive))
	defer endpoint.Close()
	if err := b.start(ctx); err != nil {
		return nil, err
	}
	senders, err := b.partners(ctx, namespaces, endpoint.URL)
	if err != nil {
		return nil, err
	}
	return b.run(ctx, senders)
}

// receive is the partners' endpoint.
func (b *portalBench) receive(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if id := eventID.FindString(string(body)); id != "" {
		b.mu.Lock()
		b.sent[id] = time.Now()
		b.mu.Unlock()
	}
	w.WriteHeader(http.StatusOK)
}

func (b *portalBench) start(ctx context.Context) error {
	if _, err := b.op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http")); err != nil {
		return err
	}
	dispatcher, err := b.op.StartDispatcher(ctx, "postback-dispatcher-0")
	if err != nil {
		return err
	}
	b.ingest = dispatcher.IngestURL()
	if b.portal, err = b.op.OpenPortal(ctx, "postback-portal-0", operator.WithArgs("--trust-forwarded-for")); err != nil {
		return err
	}
	b.url = b.portal.IngestURL()
	return nil
}

// sender posts the events of a namespace.
type sender struct{ namespace, token string }

// partners makes the namespaces, each with a Postback and the ServiceAccounts of the portal.
func (b *portalBench) partners(ctx context.Context, n int, endpoint string) ([]sender, error) {
	root, err := controlplane.ModuleRoot()
	if err != nil {
		return nil, err
	}
	senders := make([]sender, n)
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(signingIn)
	for i := range senders {
		making.Go(func() error {
			name := fmt.Sprintf("partner-%03d", i)
			if err := b.api.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
				return err
			}
			if _, stderr, err := b.cp.Kubectl(ctx, "", "-n", name, "apply", "-f", root+"/config/samples/portal_partner.yaml"); err != nil {
				return fmt.Errorf("%w: %s", err, stderr)
			}
			p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: postbackName}}
			p.Spec.URL, p.Spec.Triggers = endpoint+"/"+name, []v1alpha1.Trigger{"*"}
			if err := b.api.Create(ctx, p); err != nil {
				return err
			}
			token, err := b.op.SenderToken(ctx, name)
			senders[i] = sender{name, token}
			return err
		})
	}
	return senders, making.Wait()
}

// run measures the same events without visitors, and with them.
func (b *portalBench) run(ctx context.Context, senders []sender) (*portalFigure, error) {
	f := &portalFigure{visitors: b.options.portal.visitors, namespaces: len(senders), lasts: b.options.portal.lasts}
	pids := b.cp.PIDs()
	pids["portal"] = b.portal.PID()
	first := 0
	measure := func(into *usage) error {
		before, err := usageOf(pids)
		if err != nil {
			return err
		}
		if first, err = b.post(ctx, senders, first); err != nil {
			return err
		}
		after, err := usageOf(pids)
		*into = after.since(before)
		return err
	}
	// The first events let every program allocate what it needs.
	if err := measure(&f.without); err != nil {
		return nil, err
	}
	if err := measure(&f.without); err != nil {
		return nil, err
	}
	var err error
	if f.watchesBefore, err = b.watches(ctx); err != nil {
		return nil, err
	}
	shown := &shownEvents{times: map[string][]time.Time{}}
	leave, err := b.admit(ctx, senders, shown)
	if err != nil {
		return nil, err
	}
	defer leave()
	if f.watches, err = b.watches(ctx); err != nil {
		return nil, err
	}
	from := first
	if err := measure(&f.with); err != nil {
		return nil, err
	}
	if err := rest(ctx, 2*time.Second); err != nil { // The last events have to arrive.
		return nil, err
	}
	if f.rss, err = residentOf(b.portal.PID()); err != nil {
		return nil, err
	}
	leave()
	f.bytes, f.broken = shown.bytes.Load(), int(shown.broken.Load())
	b.delays(f, shown, from, first)
	return f, nil
}

// post posts events at the rate, for the length of a run. It returns the number of the next event.
func (b *portalBench) post(ctx context.Context, senders []sender, first int) (next int, err error) {
	ticker := time.NewTicker(time.Second / time.Duration(b.options.portal.rate))
	defer ticker.Stop()
	posting, ctx := errgroup.WithContext(ctx)
	posting.SetLimit(b.options.connections)
	n := int(b.options.portal.lasts.Seconds()) * b.options.portal.rate
	for i := range n {
		select {
		case <-ctx.Done():
			return first, errors.Join(ctx.Err(), posting.Wait())
		case <-ticker.C:
		}
		to := senders[i%len(senders)]
		posting.Go(func() error {
			body := fmt.Sprintf(`{"id": "%s%06d", "event": "sale.created", "createdAt": %q, "data": {"amount": 4900}}`, eventPrefix, first+i, time.Now().UTC().Format(time.RFC3339Nano))
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.ingest+"/v1/namespaces/"+to.namespace+"/events", strings.NewReader(body))
			if err != nil {
				return err
			}
			request.Header.Set("Authorization", "Bearer "+to.token)
			request.Header.Set("Content-Type", "application/json")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			content, err := io.ReadAll(response.Body)
			if err := errors.Join(err, response.Body.Close()); err != nil {
				return err
			}
			if response.StatusCode != http.StatusAccepted {
				return fmt.Errorf("post an event: %s: %s", response.Status, content)
			}
			return nil
		})
	}
	return first + n, posting.Wait()
}
