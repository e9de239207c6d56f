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
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/test/receiver"
)

// An attempt can tell faults of the proxy from those that it reports about the endpoint.
func TestProxyFaults(t *testing.T) {
	saying := func(text string) string {
		return "http://" + receiver.Raw(t, func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, text)
			}
		})
	}
	socksSaying := func(reply byte) string {
		address, _ := socksProxy(t, false, reply, nil)
		return "socks5h://" + address
	}
	raw := func(bytes string) string {
		return "socks5h://" + receiver.Raw(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 100))
			_, _ = io.WriteString(conn, bytes)
		})
	}
	gone := receiver.Refusing(t)
	wantsLogin, _ := socksProxy(t, true, 0, nil)
	tests := map[string]struct {
		proxy string
		// cause is that of the expected UpstreamError; nil means that a ProxyError is expected.
		cause error
		text  string
	}{
		"not there":                 {"http://" + gone, nil, "cannot connect"},
		"not there, TLS":            {"https://" + gone, nil, "cannot connect"},
		"not there, SOCKS":          {"socks5://" + gone, nil, "cannot connect"},
		"no TLS":                    {strings.Replace(saying("x"), "http:", "https:", 1), nil, "TLS"},
		"name unknown":              {"http://no-such-proxy.invalid:3128", nil, "cannot connect"},
		"407":                       {saying("HTTP/1.1 407 x\r\n\r\n"), nil, "credentials"},
		"403":                       {saying("HTTP/1.1 403 x\r\n\r\n"), nil, "forbids"},
		"400":                       {saying("HTTP/1.1 400 x\r\n\r\n"), nil, "400 Bad Request"},
		"302":                       {saying("HTTP/1.1 302 x\r\nLocation: http://login/\r\n\r\n"), nil, "302"},
		"500":                       {saying("HTTP/1.1 500 x\r\n\r\n"), nil, "500"},
		"malformed":                 {saying("SSH-2.0-OpenSSH\r\n\r\n"), nil, "no HTTP answer"},
		"nothing":                   {saying(""), nil, "no HTTP answer"},
		"endless header":            {saying("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10)), nil, "no HTTP answer"},
		"502":                       {saying("HTTP/1.1 502 x\r\n\r\n"), syscall.EHOSTUNREACH, "502 Bad Gateway"},
		"503":                       {saying("HTTP/1.1 503 x\r\n\r\n"), syscall.EHOSTUNREACH, "503"},
		"504":                       {saying("HTTP/1.1 504 x\r\n\r\n"), context.DeadlineExceeded, "504"},
		"SOCKS general failure":     {socksSaying(1), nil, "general failure"},
		"SOCKS rules":               {socksSaying(2), nil, "rules"},
		"SOCKS network unreachable": {socksSaying(3), syscall.ENETUNREACH, "network unreachable"},
		"SOCKS host unreachable":    {socksSaying(4), syscall.EHOSTUNREACH, "host unreachable"},
		"SOCKS refused":             {socksSaying(5), syscall.ECONNREFUSED, "connection refused"},
		"SOCKS TTL expired":         {socksSaying(6), context.DeadlineExceeded, "TTL expired"},
		"SOCKS no such command":     {socksSaying(7), nil, "answered with 7"},
		"SOCKS wants a login":       {"socks5h://" + wantsLogin, nil, "credentials"},
		"SOCKS 4":                   {raw("\x00\x5a"), nil, "does not speak SOCKS5"},
		"HTTP on a SOCKS port":      {raw("HTTP/1.1 400 Bad Request\r\n\r\n"), nil, "does not speak SOCKS5"},
		"SOCKS silent":              {raw(""), nil, "ended the connection"},
		"SOCKS unknown method":      {raw("\x05\x01"), nil, "unknown method"},
		"SOCKS cut":                 {raw("\x05\x00\x05\x00"), nil, "ended the connection"},
		"SOCKS unknown address":     {raw("\x05\x00\x05\x00\x00\x09\x01"), nil, "unknown kind of address"},
		"SOCKS cut in the address":  {raw("\x05\x00\x05\x00\x00\x04\x01\x02"), nil, "cut short"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := post(t, dialer(t, Options{Proxy: test.proxy}), "http://8.8.8.8:8080")
			var fault *ProxyError
			var upstream *UpstreamError
			if isProxy, isUpstream := errors.As(err, &fault), errors.As(err, &upstream); isProxy == isUpstream || isProxy != (test.cause == nil) {
				t.Fatalf("error is %v", err)
			}
			if !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %q does not say %q", err, test.text)
			}
			// The proxy's answer may repeat the credentials, so no error quotes it.
			if strings.Contains(err.Error(), "OpenSSH") {
				t.Errorf("error %q quotes the proxy", err)
			}
			if test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("%v is not %v", err, test.cause)
			}
		})
	}
}

// A proxy that has the complete request and waits for the endpoint is not at fault. A proxy that does not greet is.
func TestSlowProxies(t *testing.T) {
	hang := receiver.Raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for scheme, wantProxy := range map[string]bool{"http": false, "socks5h": true, "https": true} {
		t.Run(scheme, func(t *testing.T) {
			d := dialer(t, Options{Proxy: scheme + "://" + hang})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			_, err := d.DialContext(ctx, "tcp", "8.8.8.8:443")
			cancel()
			var fault *ProxyError
			if errors.As(err, &fault) != wantProxy || time.Since(began) > 30*time.Second {
				t.Errorf("%s gives %v after %s", scheme, err, time.Since(began))
			}
			if !wantProxy && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s gives %v", scheme, err)
			}
		})
	}
}

func TestWrongCredentials(t *testing.T) {
	path := credentialsFile(t)
	proxy, asked := socksProxy(t, true, 0, nil)
	d := dialer(t, Options{Proxy: "socks5h://" + proxy, ProxyCredentialsFile: path})
	// The file may change, as that of a mounted Secret does.
	for name, test := range map[string]struct{ content, want string }{
		"another password":    {"egress:wr0ng-s3cret1\n", "does not accept the credentials"},
		"no colon":            {"no colon", "user:password"},
		"no user":             {":" + proxySecret, "user:password"},
		"a user of 256 bytes": {strings.Repeat("x", 256) + ":" + proxySecret, "255 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := post(t, d, "http://8.8.8.8:8080")
			var fault *ProxyError
			if !errors.As(err, &fault) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
	if len(asked()) > 0 {
		t.Errorf("the proxy was asked for %q", asked())
	}
}
