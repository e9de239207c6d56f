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
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/test/receiver"
)

const (
	proxyUser   = "egress"
	proxySecret = "pr0xy-s3cret"
)

// connectProxy is an HTTP proxy. It knows a name that the DNS does not.
type connectProxy struct {
	mu     sync.Mutex
	asked  []string
	wantIn string // The required header Proxy-Authorization.
	knows  map[string]string
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if r.Method != http.MethodConnect {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if p.wantIn != "" && r.Header.Get("Proxy-Authorization") != p.wantIn {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	address := r.Host
	if known, ok := p.knows[address]; ok {
		address = known
	}
	endpoint, err := net.Dial("tcp", address)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	conn, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	splice(conn, endpoint, early.Reader)
}

// splice copies bytes in both directions until one side ends.
func splice(a, b net.Conn, fromA io.Reader) {
	defer a.Close()
	defer b.Close()
	go func() {
		defer b.Close()
		_, _ = io.Copy(b, fromA)
	}()
	_, _ = io.Copy(a, b)
}

func (p *connectProxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

// socksProxy starts a SOCKS5 proxy. It answers reply; with 0 it connects.
func socksProxy(t *testing.T, wantLogin bool, reply byte, knows map[string]string) (address string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	address = receiver.Raw(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		head := make([]byte, 2)
		_, _ = io.ReadFull(r, head)
		methods := make([]byte, head[1])
		_, _ = io.ReadFull(r, methods)
		if wantLogin {
			if !strings.Contains(string(methods), "\x02") {
				_, _ = conn.Write([]byte{5, 0xff})
				return
			}
			_, _ = conn.Write([]byte{5, 2})
			login := make([]byte, 3+len(proxyUser)+len(proxySecret))
			_, _ = io.ReadFull(r, login)
			if string(login) != "\x01"+string(rune(len(proxyUser)))+proxyUser+string(rune(len(proxySecret)))+proxySecret {
				_, _ = conn.Write([]byte{1, 1})
				return
			}
			_, _ = conn.Write([]byte{1, 0})
		} else {
			_, _ = conn.Write([]byte{5, 0})
		}
		request := make([]byte, 4)
		_, _ = io.ReadFull(r, request)
		var host string
		switch request[3] {
		case 1:
			ip := make([]byte, 4)
			_, _ = io.ReadFull(r, ip)
			host = net.IP(ip).String()
		case 4:
			ip := make([]byte, 16)
			_, _ = io.ReadFull(r, ip)
			host = net.IP(ip).String()
		case 3:
			length, _ := r.ReadByte()
			name := make([]byte, length)
			_, _ = io.ReadFull(r, name)
			host = string(name)
		}
		port := make([]byte, 2)
		_, _ = io.ReadFull(r, port)
		target := net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port))))
		mu.Lock()
		all = append(all, target)
		mu.Unlock()
		if known, ok := knows[target]; ok {
			target = known
		}
		if reply != 0 {
			_, _ = conn.Write([]byte{5, reply, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		endpoint, err := net.Dial("tcp", target)
		if err != nil {
			_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		_, _ = conn.Write(append([]byte{5, 0, 0, 3, 4}, "here\x00\x01"...))
		splice(conn, endpoint, r)
	})
	return address, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

// credentialsFile returns a file with the credentials that the proxies require.
func credentialsFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte(proxyUser+":"+proxySecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func dialer(t *testing.T, o Options) *Dialer {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e.Dialer("partner-acme")
}

// post sends a request through a dialer. It returns the body of the response and the remote address of the
// connection.
func post(t *testing.T, d *Dialer, url string) (body string, remote string, err error) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err == nil {
			remote = conn.RemoteAddr().String()
		}
		return conn, err
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("event"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", remote, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return string(content), remote, err
}

func endpoint(t *testing.T) (url, address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write([]byte("got " + string(body)))
	}))
	t.Cleanup(server.Close)
	return server.URL, server.Listener.Addr().String()
}

func TestHTTPProxy(t *testing.T) {
	_, address := endpoint(t)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxySecret))
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			p := &connectProxy{wantIn: basic, knows: map[string]string{"inner.test:8080": address, "8.8.8.8:443": address}}
			server := httptest.NewUnstartedServer(p)
			if secure {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			d := dialer(t, Options{Proxy: server.URL, ProxyCredentialsFile: credentialsFile(t)})
			if secure {
				d.proxy.tls.RootCAs = x509.NewCertPool()
				d.proxy.tls.RootCAs.AddCert(server.Certificate())
			}
			for url, want := range map[string]string{"http://inner.test:8080": "", "http://8.8.8.8:443": "8.8.8.8:443"} {
				body, remote, err := post(t, d, url)
				if err != nil || body != "got event" || remote != want {
					t.Errorf("%s gives %q from %q, %v", url, body, remote, err)
				}
			}
			if len(p.requests()) != 2 {
				t.Errorf("the proxy was asked for %q", p.requests())
			}
			// A URL that is refused by its text does not reach the proxy.
			for name, url := range map[string]string{
				"loopback": "http://127.0.0.1:8080", "loopback of IPv6": "http://[::1]:8080", "loopback in hexadecimal": "http://0x7f.1:8080",
				"the metadata server": "http://169.254.169.254", "the port of mail": "http://inner.test:25",
			} {
				t.Run(name, func(t *testing.T) {
					_, _, err := post(t, d, url)
					if blocked := (*BlockedError)(nil); !errors.As(err, &blocked) {
						t.Errorf("%s gives %v", url, err)
					}
				})
			}
			if len(p.requests()) != 2 {
				t.Errorf("the proxy was asked for %q", p.requests())
			}
		})
	}
}

func TestSOCKSProxy(t *testing.T) {
	_, address := endpoint(t)
	dns, resolver := newDNS(t)
	dns.set("public.test", []string{"8.8.8.8"})
	dns.set("private.test", []string{"10.0.0.1"})
	dns.set("mixed.test", []string{"10.0.0.1", "2606:4700:4700::1111"})
	knows := map[string]string{
		"8.8.8.8:8080": address, "[2606:4700:4700::1111]:8080": address, "public.test:8080": address, "private.test:8080": address,
	}
	tests := map[string]struct {
		scheme, host, want, asked, remote string
	}{
		"resolved here":               {"socks5", "public.test", "", "8.8.8.8:8080", "8.8.8.8:8080"},
		"resolved here, IPv6":         {"socks5", "mixed.test", "", "[2606:4700:4700::1111]:8080", "[2606:4700:4700::1111]:8080"},
		"resolved here, and refused":  {"socks5", "private.test", "RFC 1918", "", ""},
		"address":                     {"socks5", "8.8.8.8", "", "8.8.8.8:8080", "8.8.8.8:8080"},
		"address, refused":            {"socks5", "127.0.0.1", "loopback", "", ""},
		"resolved by the proxy":       {"socks5h", "public.test", "", "public.test:8080", ""},
		"the proxy's to police":       {"socks5h", "private.test", "", "private.test:8080", ""},
		"address, with socks5h":       {"socks5h", "8.8.8.8", "", "8.8.8.8:8080", "8.8.8.8:8080"},
		"IPv6 address, with socks5h":  {"socks5h", "[2606:4700:4700::1111]", "", "[2606:4700:4700::1111]:8080", "[2606:4700:4700::1111]:8080"},
		"address, refused by socks5h": {"socks5h", "10.0.0.1", "RFC 1918", "", ""},
		"spelling, with socks5h":      {"socks5h", "127.1", "unusual", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			proxy, asked := socksProxy(t, true, 0, knows)
			d := dialer(t, Options{Proxy: test.scheme + "://" + proxy, ProxyCredentialsFile: credentialsFile(t), Resolver: resolver})
			body, remote, err := post(t, d, "http://"+test.host+":8080")
			if got := strings.Join(asked(), " "); got != test.asked {
				t.Errorf("the proxy was asked for %q, want %q", got, test.asked)
			}
			if test.want == "" && (err != nil || body != "got event" || remote != test.remote) {
				t.Errorf("answer is %q from %q, %v", body, remote, err)
			}
			if blocked := (*BlockedError)(nil); test.want != "" && (!errors.As(err, &blocked) || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestNoProxy(t *testing.T) {
	_, address := endpoint(t)
	p := &connectProxy{}
	server := httptest.NewServer(p)
	defer server.Close()
	d := dialer(t, Options{Proxy: server.URL, NoProxy: "127.0.0.0/8,.direct.test", AllowCIDRs: List{"127.0.0.0/8"}})
	if body, _, err := post(t, d, "http://"+address); err != nil || body != "got event" {
		t.Errorf("answer is %q, %v", body, err)
	}
	if len(p.requests()) > 0 {
		t.Errorf("the proxy was asked for %q", p.requests())
	}
	for host, want := range map[string]bool{"a.direct.test": false, "other.test": true, "8.8.8.8": true} {
		t.Run(host, func(t *testing.T) {
			if got := d.proxy.wanted(target{host: host, port: 443}); got != want {
				t.Errorf("through the proxy to %s: %t", host, got)
			}
		})
	}
	// The rules apply to connections that bypass the proxy.
	d = dialer(t, Options{Proxy: server.URL, NoProxy: "127.0.0.0/8"})
	_, _, err := post(t, d, "http://"+address)
	if blocked := (*BlockedError)(nil); !errors.As(err, &blocked) {
		t.Errorf("error is %v", err)
	}
}
