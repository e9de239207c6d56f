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

// Command portal serves the pages of the console to partners, who have a browser and no kubeconfig.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/postback-dev/postback-operator/internal/start"
	"github.com/postback-dev/postback-operator/portal"
)

// version is set when the program is built.
var version = "dev"

// misused is the exit code after an invalid flag, the same as that of package flag.
const misused = 2

func main() {
	var o portal.Options
	flag.StringVar(&o.URL, "url", "", "Address under which browsers reach the portal: https:// and a host, such as https://postbacks.example.com.")
	flag.StringVar(&o.Namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), "postback-portal"), "Namespace of the portal, which holds the links that nobody has opened yet. Keep no other objects there.")
	flag.StringVar(&o.Installation, "install-namespace", "postback-system", "Namespace of the operator's installation.")
	flag.StringVar(&o.Address, "bind-address", "127.0.0.1:8443", "Address on which browsers and backends reach the portal.")
	flag.StringVar(&o.CertFile, "tls-cert-file", "", "File with the certificate for HTTPS, in PEM. It is read again when it changes.")
	flag.StringVar(&o.KeyFile, "tls-private-key-file", "", "File with the private key of --tls-cert-file, in PEM.")
	flag.BoolVar(&o.PlainHTTP, "plain-http", false, "Listen without TLS. Sessions then travel unencrypted to the portal: use it only behind a proxy that terminates TLS.")
	flag.StringVar(&o.SessionKeyFile, "session-key-file", "", "File with the keys that encrypt sessions, one in each line, the present one first. All replicas need the same. It is read at the start.")
	flag.BoolVar(&o.Forwarded, "trust-forwarded-for", false, "Count sign-ins by the last address in X-Forwarded-For. Use it only behind a proxy that appends the address of its client.")
	flag.StringVar(&o.LookDir, "look-dir", "", "Folder with the look of the platform, one file for each setting. It is read again when it changes.")
	flag.StringVar(&o.EmbedOrigins, "embed-origins", "", "Origins whose pages may embed the portal in a frame, separated by commas, such as https://app.example.com. Empty: none.")
	flag.StringVar(&o.OpenID.Issuer, "oidc-issuer-url", "", "URL of the OpenID Connect issuer that visitors may sign in with, exactly as the API server trusts it. Empty: links only.")
	flag.StringVar(&o.OpenID.ClientID, "oidc-client-id", "", "Client of the portal at the issuer, which is the audience of its ID tokens. Register the redirect URL: the address of --url and /signin/callback.")
	flag.StringVar(&o.OpenID.SecretFile, "oidc-client-secret-file", "", "File with the secret of the client. It is read at each sign-in. Empty: a public client.")
	flag.StringVar(&o.OpenID.CAFile, "oidc-ca-file", "", "File with the certificate authorities of the issuer, in PEM. Empty: those of the system.")
	flag.StringVar(&o.OpenID.Scopes, "oidc-scopes", "", "Scopes to request from the issuer besides openid, separated by commas, such as groups,offline_access. Some issuers renew sessions only with offline_access.")
	flag.StringVar(&o.OpenID.NamespaceClaim, "oidc-namespace-claim", "", "Claim of the ID token with the namespaces to offer, as a text or a list. It gives no right. Empty: visitors type the name.")
	flag.StringVar(&o.ProbeAddress, "health-probe-bind-address", ":8081", "Address of the probes /healthz and /readyz, or 0 for none.")
	flag.StringVar(&o.MetricsAddress, "metrics-bind-address", "127.0.0.1:8082", "Address of the metrics, or 0 for none.")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	if err := start.Parse(flag.CommandLine, "PortalConfiguration", os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(misused)
	}
	o.Log = start.Log(logging)
	if err := run(o); err != nil {
		o.Log.Error(err, "The portal ends")
		os.Exit(1)
	}
}

func run(o portal.Options) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	p, err := portal.New(config, o)
	if err != nil {
		return err
	}
	o.Log.Info("Starting", "version", version, "url", o.URL)
	return p.Run(ctrl.SetupSignalHandler())
}
