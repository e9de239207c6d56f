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

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/spf13/pflag"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/successes"
)

// logSource is the log of successes, which an installation with the JetStream intake has beside the PostbackDeliveries.
type logSource struct {
	reach

	once   sync.Once
	client *successes.Client
}

// withLog gives a verb the flags by which the log is reached.
func (e *env) withLog(f *pflag.FlagSet) *logSource {
	l := &logSource{reach: reach{env: e}}
	l.addFlags(f)
	return l
}

// get returns the log, or nil if there is none. If there is one that the caller cannot read, that is said once.
func (l *logSource) get(ctx context.Context, api client.Client) *successes.Client {
	if l == nil {
		return nil
	}
	l.once.Do(func() {
		var err error
		if l.client, err = l.open(ctx, api); err != nil {
			l.missing(err)
		}
	})
	return l.client
}

// missing says why the log is not shown.
func (l *logSource) missing(err error) {
	say(l.ErrOut, "What was delivered at once is not shown, for the log of successes cannot be read: %s", visible(explain(err)))
}

// failed deals with an error of the log: without it the rest is shown.
func (l *logSource) failed(err error) {
	l.client.Close()
	l.client = nil
	if !successes.IsNoLog(err) {
		l.missing(err)
	}
}

// close ends the connection.
func (l *logSource) close() {
	if l.client != nil {
		l.client.Close()
	}
}

// open finds out whether there is a log, and how it is reached. Nothing is sent yet but to the API server.
func (l *logSource) open(ctx context.Context, api client.Client) (*successes.Client, error) {
	url := l.ingestURL
	if url == "" {
		intake := &coordinationv1.Lease{}
		err := api.Get(ctx, client.ObjectKey{Namespace: l.installNamespace, Name: v1alpha1.IntakeLeaseName}, intake)
		if err != nil || intake.Annotations[v1alpha1.IntakeAnnotation] != v1alpha1.IntakeJetStream {
			// Who may not read it, or has no such installation, is no worse off than without this part.
			return nil, nil //nolint:nilerr // That it is not there is the common case.
		}
		url = intake.Annotations[v1alpha1.IngestURLAnnotation]
	}
	config, err := l.restConfig()
	if err != nil {
		return nil, err
	}
	if config.Impersonate.UserName != "" {
		return nil, errors.New("it is read with your own token, so not with --as")
	}
	if _, err := ownToken(ctx, config); err != nil {
		if l.ingestURL != "" {
			return nil, err
		}
		return nil, errNoToken
	}
	return successes.New(func(ctx context.Context) (*successes.Connection, error) { return l.connect(ctx, config, url) }), nil
}

var errNoToken = errors.New("it is read with a token, and your kubeconfig has none (it may have a client certificate). Name one with --token, such as that of \"kubectl create token\"")

// connect makes a connection to a URL, or by a port-forward.
func (l *logSource) connect(ctx context.Context, config *rest.Config, url string) (*successes.Connection, error) {
	c := &successes.Connection{URL: url}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	var err error
	if url != "" {
		transport.TLSClientConfig, err = l.tlsConfig()
		c.Close = transport.CloseIdleConnections
	} else {
		var forward *forwarded
		if forward, err = l.forward(ctx, config); err == nil {
			c.URL, transport.TLSClientConfig = forward.url, forward.tls
			c.Close = func() {
				transport.CloseIdleConnections()
				forward.close()
			}
		} else {
			err = fmt.Errorf("reach a dispatcher: %w; or name --ingest-url", err)
		}
	}
	if err != nil {
		return nil, err
	}
	// The token is that of each request, for one that a program makes is replaced in time.
	if c.Transport, err = rest.HTTPWrappersForConfig(config, transport); err != nil {
		c.Close()
		return nil, fmt.Errorf("read your token from the kubeconfig: %w", err)
	}
	return c, nil
}
