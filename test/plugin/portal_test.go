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
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/postback-dev/postback-operator/portal"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

// All scripts share one portal. It has the rights that config/portal gives to its ServiceAccount.
var (
	portalServer *httptest.Server
	// portalCA is a file with the portal's certificate, partnerFile one with the ServiceAccounts of a partner.
	portalCA, partnerFile string
)

// startPortal installs config/portal and serves a portal over HTTPS until the tests end.
func startPortal(ctx context.Context) error {
	root, err := controlplane.ModuleRoot()
	if err != nil {
		return err
	}
	partnerFile = filepath.Join(root, "config", "samples", "portal_partner.yaml")
	if _, _, err := cp.Kubectl(ctx, "", "apply", "-k", filepath.Join(root, "config", "portal")); err != nil {
		return err
	}
	config, err := cp.ServiceAccountConfig(ctx, "postback-portal", "postback-portal")
	if err != nil {
		return err
	}
	keys := filepath.Join(op.Dir, "session-keys")
	if err := os.WriteFile(keys, []byte(strings.Repeat("k", 44)), 0o600); err != nil {
		return err
	}
	portalServer = httptest.NewUnstartedServer(nil)
	p, err := portal.New(config, portal.Options{
		URL: "https://" + portalServer.Listener.Addr().String(), Namespace: "postback-portal", Installation: "postback-system", SessionKeyFile: keys, PlainHTTP: true, Log: logr.Discard(),
	})
	if err != nil {
		return err
	}
	portalServer.Config.Handler = p.Handler()
	portalServer.StartTLS()
	portalCA = filepath.Join(op.Dir, "portal-ca.crt")
	return os.WriteFile(portalCA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: portalServer.Certificate().Raw}), 0o600)
}

// signin FILE STATUS signs in with the link in a file, as the page of the link does, and expects a status code.
func signIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signin FILE STATUS")
	}
	address, code, _ := strings.Cut(strings.TrimSpace(ts.ReadFile(args[0])), "#")
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, strings.NewReader(url.Values{"code": {code}}.Encode()))
	ts.Check(err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", portalServer.URL)
	response, err := portalServer.Client().Do(request)
	ts.Check(err)
	ts.Check(response.Body.Close())
	if strconv.Itoa(response.StatusCode) != args[1] {
		ts.Fatalf("the portal answers %s", response.Status)
	}
}
