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
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/spf13/pflag"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// logSource connects a verb to the delivery log, which it reads together with PostbackDeliveries.
type logSource struct {
	reach

	once sync.Once
	// client is nil if there is no delivery log, or if it cannot be read.
	client *deliveries.Client
	// unread is the reason why the delivery log cannot be read, or nil.
	unread error
	// report, if set, replaces the warning about unread.
	report func(error)
}

// withLog adds the flags for the connection to the delivery log to a verb.
func (e *env) withLog(f *pflag.FlagSet) *logSource {
	l := &logSource{reach: reach{env: e}}
	l.addFlags(f)
	return l
}

// open returns a reader of PostbackDeliveries and the delivery log. It warns once if the delivery log cannot be read.
func (l *logSource) open(ctx context.Context, api client.Client) *deliveries.Reader {
	reader := &deliveries.Reader{API: api}
	if l == nil {
		return reader
	}
	l.once.Do(func() {
		var err error
		if l.client, err = l.find(ctx, api); err != nil {
			l.warnUnread(err)
		}
	})
	if l.unread == nil { // A verb waits only once for a delivery log that does not answer.
		reader.Log = l.client
	}
	return reader
}

// deliveries returns the newest deliveries that a query selects. It warns about an unreadable delivery log, and
// returns the other deliveries nevertheless.
func (s *scope) deliveries(ctx context.Context, q deliveries.Query, bodies bool, each func(*v1alpha1.PostbackDelivery)) (*deliveries.Page, error) {
	log := &deliveries.Reader{API: s}
	if q.Waiting || !q.Failed && !q.Undelivered && !q.Unfinished {
		log = s.log.open(ctx, s)
	}
	page, err := log.List(ctx, q, bodies, each)
	if err == nil {
		s.log.warn(page)
	}
	return page, err
}

// warn warns that a page is incomplete.
func (l *logSource) warn(page *deliveries.Page) {
	if page.Unread != nil {
		l.failed(page.Unread)
	}
	if page.Truncated {
		say(l.ErrOut, "The delivery log was not searched to its end, which would take long: bound it with --since.")
	}
}

// warnUnread warns that the delivery log cannot be read.
func (l *logSource) warnUnread(err error) {
	l.unread = err
	if l.report != nil {
		l.report(err)
		return
	}
	say(l.ErrOut, "The delivery log could not be read, so its deliveries and those that wait in a stream are missing here: %s", visible(firstLine(explain(err))))
	say(l.ErrOut, "%s", logRemedy)
}

const logRemedy = "\"kubectl postback doctor\" checks the connection; docs/jetstream.md has the requirements"

// incomplete returns an error if the verb's output lacks the delivery log, so that a script does not take it for
// complete.
func (l *logSource) incomplete() error {
	if l != nil && l.unread != nil {
		return errReported
	}
	return nil
}

// failed handles an error of the delivery log. The verb continues without it.
func (l *logSource) failed(err error) {
	l.client.Close()
	if deliveries.IsNoLog(err) {
		l.client = nil
		return
	}
	l.warnUnread(err)
}

// close closes the connection.
func (l *logSource) close() {
	if l.client != nil {
		l.client.Close()
	}
}

// find returns a client of the delivery log, or nil if there is none. It sends requests to the API server only.
func (l *logSource) find(ctx context.Context, api client.Client) (*deliveries.Client, error) {
	base := l.ingestURL
	if base == "" {
		intake := &coordinationv1.Lease{}
		err := api.Get(ctx, client.ObjectKey{Namespace: l.installNamespace, Name: v1alpha1.IntakeLeaseName}, intake)
		if err != nil || intake.Annotations[v1alpha1.IntakeAnnotation] != v1alpha1.IntakeJetStream {
			// Without the right to read the Lease, the verb works without the delivery log.
			return nil, nil //nolint:nilerr // Without a delivery log the Lease is absent.
		}
		base = intake.Annotations[v1alpha1.IngestURLAnnotation]
	}
	config, err := l.restConfig()
	if err != nil {
		return nil, err
	}
	if config.Impersonate.UserName != "" {
		return nil, errors.New("a dispatcher authenticates you by your own credentials: omit --as")
	}
	if err := hasCredentials(ctx, config); err != nil {
		return nil, err
	}
	return deliveries.New(func(ctx context.Context) (*deliveries.Connection, error) { return l.connect(ctx, config, base) }), nil
}

var errNoCredentials = errors.New("your kubeconfig has neither a token nor a client certificate. Name a token with --token, such as that of \"kubectl create token\"")

// hasCredentials returns an error unless the kubeconfig, or its exec plugin, yields a token or a client certificate.
func hasCredentials(ctx context.Context, config *rest.Config) error {
	if _, err := ownToken(ctx, config); err == nil {
		return nil
	}
	present, err := clientCertificate(config)
	if err != nil || present == nil {
		return errors.Join(err, errNoCredentials)
	}
	certificate, err := present(&tls.CertificateRequestInfo{})
	if err != nil {
		return fmt.Errorf("get your client certificate: %w", err)
	}
	if certificate == nil || len(certificate.Certificate) == 0 {
		return errNoCredentials
	}
	return nil
}

// clientCertificate returns a function that gets the client certificate of the kubeconfig or its exec plugin, or nil.
func clientCertificate(config *rest.Config) (func(*tls.CertificateRequestInfo) (*tls.Certificate, error), error) {
	own, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("read your client certificate from the kubeconfig: %w", err)
	}
	if own == nil {
		return nil, nil
	}
	return own.GetClientCertificate, nil
}

// connect connects to a dispatcher at a URL, or by a port-forward if base is "".
func (l *logSource) connect(ctx context.Context, config *rest.Config, base string) (*deliveries.Connection, error) {
	c := &deliveries.Connection{URL: base}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	var err error
	if base != "" {
		transport.TLSClientConfig, err = l.tlsOf(ctx, config, base)
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
	if transport.TLSClientConfig.GetClientCertificate, err = clientCertificate(config); err != nil {
		c.Close()
		return nil, err
	}
	// The token is read for each request, because an exec plugin replaces its token before the token expires.
	if c.Transport, err = rest.HTTPWrappersForConfig(config, transport); err != nil {
		c.Close()
		return nil, fmt.Errorf("read your token from the kubeconfig: %w", err)
	}
	return c, nil
}
