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

package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// proxy is the configured egress proxy. The rules do not apply to its own address.
type proxy struct {
	scheme, address string
	credentialsFile string
	// resolves is true if the proxy resolves names, so it also has to police them.
	resolves bool
	// bypass returns nil for a URL to reach without the proxy.
	bypass func(*url.URL) (*url.URL, error)
	dialer net.Dialer
	tls    *tls.Config
}

var defaultProxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// proxyTimeout bounds the dial of the proxy. It is shorter than most attempt timeouts, so an attempt can tell a dead
// proxy from a slow endpoint.
const proxyTimeout = 5 * time.Second

// newProxy returns the proxy of the options, or nil if they name none. Its errors omit the URL, which may contain a
// password.
func newProxy(o Options) (*proxy, error) {
	if o.Proxy == "" {
		if o.ProxyCredentialsFile != "" || o.NoProxy != "" {
			return nil, errors.New("--egress-proxy-credentials-file and --no-proxy are for --egress-proxy, which is not set")
		}
		return nil, nil
	}
	const form = "--egress-proxy: must be a URL such as http://proxy.example.com:3128, of scheme http, https, socks5 or socks5h"
	u, err := url.Parse(o.Proxy)
	if err != nil || u.Hostname() == "" || defaultProxyPorts[u.Scheme] == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New(form)
	}
	if u.User != nil {
		return nil, errors.New("--egress-proxy: must have no user name and password, which everybody could read on the command line: " +
			"put user:password into a file and name it by --egress-proxy-credentials-file")
	}
	port := u.Port()
	if port == "" {
		port = defaultProxyPorts[u.Scheme]
	}
	p := &proxy{
		scheme: u.Scheme, address: net.JoinHostPort(u.Hostname(), port), credentialsFile: o.ProxyCredentialsFile,
		resolves: u.Scheme != "socks5",
		dialer:   net.Dialer{KeepAlive: keepAlive, Resolver: o.Resolver},
		tls:      &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()},
	}
	if o.NoProxy != "" {
		config := httpproxy.Config{HTTPSProxy: o.Proxy, NoProxy: o.NoProxy}
		p.bypass = config.ProxyFunc()
	}
	if _, _, err := p.credentials(); err != nil {
		return nil, fmt.Errorf("--egress-proxy-credentials-file: %w", err)
	}
	return p, nil
}

// wanted reports whether to reach a target through the proxy.
func (p *proxy) wanted(t target) bool {
	if p.bypass == nil {
		return true
	}
	through, err := p.bypass(&url.URL{Scheme: "https", Host: t.String()})
	return err != nil || through != nil
}

// credentials returns the user name and password, or "" for both without a credentials file. Its errors contain
// neither.
func (p *proxy) credentials() (user, password string, err error) {
	if p.credentialsFile == "" {
		return "", "", nil
	}
	file, err := os.Open(p.credentialsFile)
	if err != nil {
		return "", "", err
	}
	defer file.Close()
	const maxCredentials = 4096
	content, err := io.ReadAll(io.LimitReader(file, maxCredentials))
	if err != nil {
		return "", "", err
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	user, password, ok := strings.Cut(strings.TrimSuffix(string(line), "\r"), ":")
	// RFC 1929 has one byte for the length of each.
	const maxLength = 255
	if !ok || user == "" || len(user) > maxLength || len(password) > maxLength {
		return "", "", errors.New("its first line must be user:password, each of at most 255 bytes")
	}
	return user, password, nil
}

// connect returns a connection to a target through the proxy.
func (p *proxy) connect(ctx context.Context, t target) (net.Conn, error) {
	user, password, err := p.credentials()
	if err != nil {
		return nil, &ProxyError{What: "cannot read its credentials", Err: err}
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	// The handshake with the proxy takes no context, so a deadline in the past interrupts it when ctx ends.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	var tunneled net.Conn
	if strings.HasPrefix(p.scheme, "socks5") {
		tunneled, err = socks(conn, t, user, password)
	} else {
		tunneled, err = httpConnect(conn, t, user, password)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		return tunneled, nil
	}
	_ = conn.Close()
	return nil, duringTunnel(ctx, err)
}

// duringTunnel blames the endpoint if the proxy had the complete request and did not answer in time: the proxy then
// waits for the endpoint.
func duringTunnel(ctx context.Context, err error) error {
	var fault *ProxyError
	if errors.As(err, &fault) && fault.waiting && ctx.Err() != nil {
		return &UpstreamError{Said: "nothing in time", Err: ctx.Err()}
	}
	return err
}

// dial connects to the proxy.
func (p *proxy) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	conn, err := p.dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, &ProxyError{What: "cannot connect to it", Err: err}
	}
	if p.scheme != "https" {
		return conn, nil
	}
	secure := tls.Client(conn, p.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &ProxyError{What: "cannot speak TLS with it", Err: err}
	}
	return secure, nil
}
