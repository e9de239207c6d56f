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
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/postback-dev/postback-operator/internal/portallink"
)

type linkOptions struct {
	*env
	tokens                             tokenSource
	role, portalURL, caFile, namespace string
	ttl, timeout                       time.Duration
}

func (e *env) linkCommand() *cobra.Command {
	o := &linkOptions{env: e}
	cmd := &cobra.Command{
		Use:   "link",
		Short: "Print a link that signs a partner in to the portal",
		Long: "Print a link that signs a partner in to the portal, once, for the Postbacks of the namespace. The backend of a platform makes the same request.\n\n" +
			"The command sends the request to --portal-url, or through a port-forward to a Pod of the portal. Its bearer token comes from --token-file, from --service-account if you may create tokens for it, or from your kubeconfig. " +
			"The owner of the token needs the right to create postbackportallinks.postback.dev: the role postback-portal-link-requester. Anybody with the link can use it: do not mail or log it.",
		Example: "  kubectl postback link -n partner-acme --role editor --ttl 8h",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.role, "role", "", "What the partner may do: "+strings.Join(portallink.Roles, ", ")+".")
	f.DurationVar(&o.ttl, "ttl", portallink.DefaultTTL, "Length of the session, from 10m to 12h.")
	f.StringVar(&o.portalURL, "portal-url", "", "Address of the portal. The default is a port-forward to a Pod of the portal.")
	f.StringVar(&o.caFile, "ca-file", "", "File with the CAs to trust, in PEM. The default are those of this machine.")
	f.StringVar(&o.namespace, "portal-namespace", portallink.Name, "Namespace of the portal.")
	f.StringVar(&o.tokens.file, "token-file", "", "File with the token to send.")
	f.StringVar(&o.tokens.account, "service-account", "", "ServiceAccount of the namespace to get a token for.")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "Longest time to wait for the answer.")
	completeWith(cmd, "role", portallink.Roles...)
	return cmd
}

func (o *linkOptions) run(cmd *cobra.Command) error {
	asked := portallink.Request{Role: o.role, TTL: o.ttl.String()}
	if _, err := asked.Length(); err != nil {
		return usagef(cmd, "--%w", err)
	}
	if address, err := url.Parse(o.portalURL); o.portalURL != "" && (err != nil || address.Scheme != "https" || address.Host == "") {
		return usagef(cmd, "--portal-url is %q, and must be https:// and a host, such as https://postbacks.example.com", o.portalURL)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	config, partner, token, err := o.caller(ctx, o.tokens)
	if err != nil {
		return err
	}
	trust, err := o.trustFile(o.caFile)
	if err != nil {
		return err
	}
	base := o.portalURL
	if base == "" {
		forward, err := o.forward(ctx, config, trust)
		if err != nil {
			return fmt.Errorf("reach the portal: %w; or name --portal-url", err)
		}
		defer forward.close()
		base = forward.url
	}
	link, err := o.request(ctx, base, trust, partner, token, asked)
	if err != nil {
		return err
	}
	say(o.Out, "%s", visible(link.URL))
	say(o.ErrOut, "The link works once, until %s. The session lasts %s.", link.Expires.UTC().Format(time.RFC3339), o.ttl)
	return nil
}

// forward makes a port-forward to a Pod of the portal. It makes trust expect a certificate for the portal's host.
func (o *linkOptions) forward(ctx context.Context, config *rest.Config, trust *tls.Config) (*forwarded, error) {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	host, err := o.host(ctx, clients)
	if err != nil {
		return nil, err
	}
	pod, err := findPod(ctx, clients, o.namespace, "app.kubernetes.io/name="+portallink.Name)
	if err != nil {
		return nil, err
	}
	scheme, port, err := portalPort(pod)
	if err != nil {
		return nil, err
	}
	f, err := o.tunnel(ctx, config, clients, pod, port)
	if err != nil {
		return nil, err
	}
	trust.ServerName = host
	f.url = scheme + "://" + f.address
	return f, nil
}

// host returns the host in the portal's URL, which its certificate must name.
func (o *linkOptions) host(ctx context.Context, clients kubernetes.Interface) (string, error) {
	settings, err := clients.CoreV1().ConfigMaps(o.namespace).Get(ctx, portallink.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("no portal is installed in the namespace %s, as its ConfigMap %s is missing: docs/portal.md shows how to install it, and --portal-namespace names another namespace", o.namespace, portallink.Name)
	case err != nil:
		return "", err
	}
	address, err := url.Parse(settings.Data[portallink.URLKey])
	if err != nil || address.Hostname() == "" {
		return "", fmt.Errorf("%s in ConfigMap %s/%s is %q, and must be the address of the portal", portallink.URLKey, o.namespace, portallink.Name, settings.Data[portallink.URLKey])
	}
	return address.Hostname(), nil
}

// portalPort returns the scheme and port of a portal Pod. The port is plain HTTP if a proxy terminates TLS.
func portalPort(pod *corev1.Pod) (scheme string, port int32, err error) {
	for _, name := range []string{portallink.PortName, portallink.PlainPortName} {
		if port, ok := portOf(pod, name); ok {
			return name, port, nil
		}
	}
	return "", 0, fmt.Errorf("pod %s has no port named %s or %s", pod.Name, portallink.PortName, portallink.PlainPortName)
}

// request requests a link from the portal.
func (o *linkOptions) request(ctx context.Context, base string, trust *tls.Config, partner, token string, asked portallink.Request) (*portallink.Link, error) {
	address, err := url.JoinPath(base, portallink.Path(partner))
	if err != nil {
		return nil, fmt.Errorf("--portal-url: %w", err)
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("--portal-url: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("User-Agent", o.userAgent())
	// A redirect would send the token to another server.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("request a link: %w", untrusted(err))
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return readLink(base, response, content)
}

// untrusted adds a remedy to an error about the portal's certificate.
func untrusted(err error) error {
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%w: name --ca-file with the CA of the portal's certificate", failed)
	}
	return err
}

// readLink returns the link in the portal's response, or an error with the reason for its refusal.
func readLink(base string, response *http.Response, content []byte) (*portallink.Link, error) {
	var link portallink.Link
	var refusal portallink.Refusal
	switch {
	case response.StatusCode == http.StatusCreated && json.Unmarshal(content, &link) == nil && link.URL != "":
		return &link, nil
	case response.StatusCode == http.StatusForbidden && json.Unmarshal(content, &refusal) == nil && refusal.Detail != "":
		return nil, fmt.Errorf("the portal answers %s: %s Bind the ClusterRole postback-portal-link-requester to this user in the namespace", response.Status, visible(refusal.Detail))
	case response.StatusCode >= http.StatusBadRequest && json.Unmarshal(content, &refusal) == nil && refusal.Detail != "":
		return nil, fmt.Errorf("the portal answers %s: %s", response.Status, visible(refusal.Detail))
	}
	return nil, fmt.Errorf("%s answers %s, and not as the portal does: name its address in --portal-url", base, response.Status)
}
