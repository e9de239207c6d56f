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
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watches returns the number of watches at the API server.
func (b *portalBench) watches(ctx context.Context) (sum float64, err error) {
	c, err := restclient.HTTPClientFor(b.cp.Config)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.cp.Config.Host+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := c.Do(request)
	if err != nil {
		return 0, err
	}
	content, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "apiserver_longrunning_requests{") || !strings.Contains(line, `verb="WATCH"`) {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &value); err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// backends returns tokens that may request links for a namespace.
func (b *portalBench) backends(ctx context.Context, namespace string, n int) (tokens []string, err error) {
	for i := range n {
		name := fmt.Sprintf("backend-%d", i)
		for _, object := range []client.Object{
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}},
			&rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "postback-portal-link-requester"},
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}},
			},
		} {
			if err := b.api.Create(ctx, object); err != nil {
				return nil, err
			}
		}
		config, err := b.cp.ServiceAccountConfig(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, config.BearerToken)
	}
	return tokens, nil
}

// admit signs the visitors in, each of whom opens a live page. leave closes the pages.
func (b *portalBench) admit(ctx context.Context, senders []sender, shown *shownEvents) (leave func(), err error) {
	backend, err := signInClient(b.op.PortalCA())
	if err != nil {
		return nil, err
	}
	tokens := map[string][]string{}
	each := (b.options.portal.visitors + len(senders) - 1) / len(senders)
	for _, s := range senders {
		if tokens[s.namespace], err = b.backends(ctx, s.namespace, each/linksEach+1); err != nil {
			return nil, err
		}
	}
	pages, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	leave = sync.OnceFunc(func() { stop(); following.Wait() })
	entering, ctx := errgroup.WithContext(ctx)
	entering.SetLimit(signingIn)
	for i := range b.options.portal.visitors {
		entering.Go(func() error {
			namespace := senders[i%len(senders)].namespace
			mine := tokens[namespace]
			address := fmt.Sprintf("192.0.2.%d-%d", i%250, i) //nolint:mnd // Any text is an address.
			code, err := link(ctx, b.url, backend, namespace, mine[i/len(senders)%len(mine)], address)
			if err != nil {
				return err
			}
			v, err := signIn(ctx, b.url, b.op.PortalCA(), code, address)
			if err != nil {
				return err
			}
			v.path = "/p/" + namespace + "/" + postbackName
			at, err := v.open(ctx)
			if err != nil {
				return err
			}
			following.Go(func() {
				if err := v.follow(pages, at, i%watchingEach == 0, shown); pages.Err() == nil {
					shown.broken.Add(1)
					_, _ = fmt.Fprintln(b.out, "a live page ended:", err)
				}
			})
			return nil
		})
	}
	if err := entering.Wait(); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// delays computes the times from the answer of the endpoint to the page, of the events from one number to another.
func (b *portalBench) delays(f *portalFigure, shown *shownEvents, from, to int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	shown.mu.Lock()
	defer shown.mu.Unlock()
	for i := from; i < to; i++ {
		id := fmt.Sprintf("%s%06d", eventPrefix, i)
		if len(shown.times[id]) == 0 && f.namespaces == 1 {
			f.unseen++
		}
		for _, at := range shown.times[id] {
			f.delays = append(f.delays, at.Sub(b.sent[id]))
		}
	}
	slices.Sort(f.delays)
}
