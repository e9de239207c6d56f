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

package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/test/receiver"
)

// repeated begins every response of a repeater, so that a test recognises its record.
const repeated = "This is what came:"

// proving lists the headers that authenticate a request.
var proving = []string{"Authorization", "X-Api-Key", "Dub-Signature", "Webhook-Signature"}

// repeater runs endpoints, an authorisation server and an egress proxy that repeat the credentials they receive.
type repeater struct {
	plain, secure *httptest.Server
	// garbled is the URL of an endpoint whose status line is the header Authorization. unsolicited sends a valid
	// response followed by another one.
	garbled, unsolicited string
	proxy                string
	proxied              atomic.Int32
	// signingKeys returns the keys that an endpoint knows.
	signingKeys func() []receiver.Secret

	mu   sync.Mutex
	seen map[string]string // The signatures and tokens, by names.
}

func startRepeater(t *testing.T, signingKeys func() []receiver.Secret) *repeater {
	t.Helper()
	r := &repeater{signingKeys: signingKeys, seen: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/{status}/{writing}", r.repeat)
	mux.HandleFunc("/token", r.giveToken)
	r.plain = httptest.NewServer(mux)
	t.Cleanup(r.plain.Close)
	r.secure = httptest.NewUnstartedServer(mux)
	r.secure.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	r.secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.secure.StartTLS()
	t.Cleanup(r.secure.Close)
	r.garbled = "http://" + receiver.Raw(t, func(conn net.Conn) {
		if request := readWhole(conn); request != nil {
			_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", request.Header.Get("Authorization"))
		}
	})
	r.unsolicited = "http://" + receiver.Raw(t, func(conn net.Conn) {
		if request := readWhole(conn); request != nil {
			r.note(request.Header)
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok%s\r\n", request.Header.Get("Authorization"))
		}
	})
	r.proxy = "http://" + receiver.Raw(t, r.refuseTunnel)
	return r
}

func readWhole(conn net.Conn) *http.Request {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return nil
	}
	_, _ = io.Copy(io.Discard, request.Body)
	return request
}

// note records the signatures of a request.
func (r *repeater) note(header http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range proving[2:] {
		for _, signature := range strings.Fields(header.Get(name)) {
			r.seen[fmt.Sprintf("%s %d", name, len(r.seen))] = strings.TrimPrefix(signature, "v1,")
		}
	}
}

// credentials returns the received signatures and the issued access tokens.
func (r *repeater) credentials() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}

// repeat echoes the request with the status and the encoding that the path names. If the query names a signer, it
// also repeats the keys of that name.
func (r *repeater) repeat(w http.ResponseWriter, request *http.Request) {
	_, _ = io.Copy(io.Discard, request.Body)
	r.note(request.Header)
	write := map[string]func(string) string{
		"raw":    func(text string) string { return text },
		"json":   func(text string) string { return inJSON(text, true) },
		"query":  url.QueryEscape,
		"base64": func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
	}[request.PathValue("writing")]
	status, err := strconv.Atoi(request.PathValue("status"))
	if err != nil || write == nil {
		http.NotFound(w, request)
		return
	}
	answer := repeated
	for _, name := range proving {
		for _, text := range strings.Fields(request.Header.Get(name)) {
			answer += "\n" + name + ": " + write(text)
		}
	}
	if signer := request.URL.Query().Get("signer"); signer != "" {
		for _, key := range r.signingKeys() {
			if strings.HasPrefix(key.Name, signer+"/") {
				answer += "\nsigned by " + write(key.Value)
			}
		}
	}
	w.Header().Set("X-Repeated", url.QueryEscape(answer))
	key := url.QueryEscape(request.Header.Get("X-Api-Key"))
	w.Header().Set("Location", "https://"+key+"@moved.example.com/?key="+key)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

// giveToken issues an access token. If the query has "refuse", it answers with an error that repeats the request.
func (r *repeater) giveToken(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]any{"error": "invalid_client", "error_description": request.Header.Get("Authorization") + string(body)}
	if request.URL.Query().Has("refuse") {
		w.WriteHeader(http.StatusUnauthorized)
	} else {
		token := rand.Text()
		answer = map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 600}
		r.mu.Lock()
		r.seen[fmt.Sprintf("access token %d", len(r.seen))] = token
		r.mu.Unlock()
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// refuseTunnel answers as a proxy that repeats its credentials, in three ways by turns.
func (r *repeater) refuseTunnel(conn net.Conn) {
	request := readWhole(conn)
	if request == nil {
		return
	}
	credentials := request.Header.Get("Proxy-Authorization")
	formats := []string{"HTTP/1.1 407 %s\r\nX-Repeated: %[1]s\r\n\r\n", "%s\r\n\r\n", "HTTP/1.1 502 %s\r\n\r\n%[1]s"}
	_, _ = fmt.Fprintf(conn, formats[int(r.proxied.Add(1)-1)%len(formats)], credentials)
}

// authority returns the certificate of the secure endpoint in PEM.
func (r *repeater) authority() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.secure.Certificate().Raw}))
}

// newPair returns a new certificate and its key.
func newPair(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dispatcher"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8)
}
