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

package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// startTime bounds the start and the stop of an installation.
const startTime = 3 * time.Minute

// useStreams replaces the shared installation by one with the JetStream intake and TLS, until the end of the test.
func useStreams(t *testing.T) {
	t.Helper()
	sharedOp, sharedCP, sharedAPI := op, cp, api
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	planes, err := controlplane.Start(ctx, controlplane.Options{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		op, cp, api = sharedOp, sharedCP, sharedAPI
		if err := planes.Stop(); err != nil {
			t.Error(err)
		}
	})
	installed, err := operator.Install(ctx, planes, operator.Options{Programs: sharedOp.Dir, Intake: "jetstream"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTime)
		defer cancel()
		if err := installed.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	op, cp = installed, planes
	if api, err = cp.Client(); err != nil {
		t.Fatal(err)
	}
	if _, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http"), operator.WithRestarts()); err != nil {
		t.Fatal(err)
	}
	if _, err = op.StartDispatcher(ctx, "postback-dispatcher-0", operator.WithTLS(), operator.WithArgs("--intake=jetstream", "--nats-url="+op.NATS.URL())); err != nil {
		t.Fatal(err)
	}
}

// ingestOfStreams returns the URL of ingest if the installation has streams, or "".
func ingestOfStreams() string {
	if op.NATS == nil {
		return ""
	}
	return op.Processes()[1].IngestURL()
}

// ingest returns a client of ingest. With streams, it trusts the CA of the manager.
func ingest(t *testing.T) *http.Client {
	t.Helper()
	if !strings.HasPrefix(ingestOfStreams(), "https://") {
		return http.DefaultClient
	}
	bundle := &corev1.ConfigMap{}
	if err := api.Get(t.Context(), types.NamespacedName{Namespace: operator.Namespace, Name: v1alpha1.IngestCAName}, bundle); err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(bundle.Data[v1alpha1.CABundleKey]))
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: trusted, ServerName: v1alpha1.IngestServiceName + "." + operator.Namespace + ".svc",
	}}}
}

// streamsFor returns the client of the streams for a user, or nil if the installation has none.
func streamsFor(t *testing.T, user *rest.Config) *deliveries.Client {
	t.Helper()
	base := ingestOfStreams()
	if base == "" {
		return nil
	}
	own := transport.NewBearerAuthRoundTripper(user.BearerToken, ingest(t).Transport)
	return deliveries.New(func(context.Context) (*deliveries.Connection, error) {
		return &deliveries.Connection{URL: base, Transport: own}, nil
	})
}
