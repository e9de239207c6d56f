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

package httpapi

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// certificates reloads the server's certificate when its files change. If they cannot be read, or do not match during
// a change, the previous pair stays in use.
type certificates struct {
	watcher *certwatcher.CertWatcher
}

// watchCertificates configures a server for HTTPS and HTTP/2 with the certificate of the options.
func (s *Server) watchCertificates(server *http.Server) (*certificates, error) {
	watcher, err := certwatcher.New(s.options.CertFile, s.options.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate (--ingest-tls-cert-file, --ingest-tls-private-key-file): %w", err)
	}
	server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: watcher.GetCertificate}
	if s.options.LogDoor != nil && s.options.LogDoor.AsksForCertificate() {
		// Readers of the delivery log may present a client certificate. It is verified with the request, because its CA may
		// change and a token needs none.
		server.TLSConfig.ClientAuth = tls.RequestClientCert
	}
	return &certificates{watcher: watcher}, nil
}

// run reloads the files on changes, until ctx ends.
func (c *certificates) run(ctx context.Context) error {
	if err := c.watcher.Start(ctx); err != nil {
		return fmt.Errorf("watch the certificate: %w", err)
	}
	return nil
}
