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

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// eventPrefix begins the id of each event of the benchmark of the portal.
const eventPrefix = "evt_portal_"

var (
	eventID  = regexp.MustCompile(eventPrefix + `[0-9]{6}`)
	revision = regexp.MustCompile(`data-revision="([0-9]+)"`)
)

// visitor is a browser with a session, and with connections of its own.
type visitor struct {
	url, path, cookie string
	client            *http.Client
}

// link requests a link for a visitor of a namespace, as a platform's backend does.
func link(ctx context.Context, portal string, client *http.Client, namespace, token, address string) (code string, err error) {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, portal+"/v1/namespaces/"+namespace+"/portal-links", strings.NewReader(`{"role": "viewer"}`))
		if err != nil {
			return "", err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("X-Forwarded-For", address)
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return "", err
		}
		var made struct{ URL string }
		switch {
		case response.StatusCode == http.StatusTooManyRequests:
			if err := rest(ctx, time.Second); err != nil {
				return "", err
			}
			continue
		case response.StatusCode != http.StatusCreated:
			return "", fmt.Errorf("request a link: %s: %s", response.Status, content)
		}
		if err := json.Unmarshal(content, &made); err != nil {
			return "", err
		}
		_, code, _ = strings.Cut(made.URL, "#")
		return code, nil
	}
}

// signInClient returns a client with connections of its own, which trusts the portal.
func signInClient(ca string) (*http.Client, error) {
	certificate, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}, nil
}

// signIn exchanges a code for a session, from an address that the proxy in front of the portal would see.
func signIn(ctx context.Context, portal, ca, code, address string) (*visitor, error) {
	c, err := signInClient(ca)
	if err != nil {
		return nil, err
	}
	v := &visitor{url: portal, client: c}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, portal+"/signin", strings.NewReader("code="+code))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", portal)
	request.Header.Set("X-Forwarded-For", address)
	response, err := v.client.Do(request)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusNoContent || len(response.Cookies()) != 1 {
		return nil, fmt.Errorf("sign in: %s: %s", response.Status, content)
	}
	cookie := response.Cookies()[0]
	v.cookie = cookie.Name + "=" + cookie.Value
	return v, nil
}

func (v *visitor) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Cookie", v.cookie)
	return v.client.Do(request)
}

// open loads the page of the Postback, as a browser does, and returns its revision.
func (v *visitor) open(ctx context.Context) (string, error) {
	for {
		response, err := v.get(ctx, v.path)
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return "", err
		}
		if found := revision.FindSubmatch(content); response.StatusCode == http.StatusOK && found != nil {
			return string(found[1]), nil
		}
		if response.StatusCode != http.StatusServiceUnavailable {
			return "", fmt.Errorf("open %s: %s: %.300s", v.path, response.Status, content)
		}
		// The page is loading, and reloads after a second.
		if err := rest(ctx, time.Second); err != nil {
			return "", err
		}
	}
}

// shownEvents records when the live pages showed events as delivered.
type shownEvents struct {
	mu    sync.Mutex
	times map[string][]time.Time
	bytes atomic.Int64
	// broken counts the live pages that ended early.
	broken atomic.Int64
}

// follow reads a live page until ctx ends. A watching visitor records what it shows.
func (v *visitor) follow(ctx context.Context, revision string, watching bool, shown *shownEvents) error {
	response, err := v.get(ctx, v.path+"/live?revision="+revision)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("follow %s: %s", v.path, response.Status)
	}
	reader := bufio.NewReaderSize(response.Body, 64<<10) //nolint:mnd // A row has 2 KB.
	for {
		line, err := reader.ReadSlice('\n')
		shown.bytes.Add(int64(len(line)))
		full := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !full {
			return err
		}
		if watching && bytes.HasPrefix(line, []byte("data: [")) {
			line = bytes.Clone(line)
			for full {
				var more []byte
				more, err = reader.ReadSlice('\n')
				line, full = append(line, more...), errors.Is(err, bufio.ErrBufferFull)
			}
			shown.see(line[len("data: "):])
		}
	}
}

// see records the events that an update of rows shows as delivered.
func (s *shownEvents) see(data []byte) {
	var patches []struct{ HTML string }
	if json.Unmarshal(data, &patches) != nil {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range patches {
		if id := eventID.FindString(p.HTML); id != "" && strings.Contains(p.HTML, "Delivered") {
			s.times[id] = append(s.times[id], now)
		}
	}
}
