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

package receiver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The signatures below were made with openssl, not with Go:
//
//	printf '%s' "$body" | openssl dgst -sha256 -hmac "$secret"
const (
	body         = `{"id":"evt_1","event":"lead.created","createdAt":"2026-03-01T12:00:00.000Z","data":{"name":"Zoë","n":12345678901234567890}}`
	currentValue = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	oldValue     = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs="
	dubCurrent   = "16bf9d65c06609bbe02baf4cdb75e66a88f864d88ffed21081a5915001e33b11"
	dubOld       = "276605dddf5f4437fb85190b9fb400c30b429e8b436fc84f5aa5a19c6dc09995"
)

func start(t *testing.T) *Receiver {
	t.Helper()
	r, err := Start(func() []Secret {
		return []Secret{{Name: "old", Value: oldValue}, {Name: "current", Value: currentValue}}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func post(ctx context.Context, t *testing.T, url string, header http.Header) (*http.Response, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response, string(content), err
}

// standardHeader signs by the upstream library.
func standardHeader(at time.Time, secrets ...string) http.Header {
	var signatures []string
	for _, secret := range secrets {
		webhook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			panic(err)
		}
		signature, err := webhook.Sign("evt_1", at, []byte(body))
		if err != nil {
			panic(err)
		}
		signatures = append(signatures, signature)
	}
	header := http.Header{}
	header.Set("webhook-id", "evt_1")
	header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	header.Set("webhook-signature", strings.Join(signatures, " "))
	return header
}

func TestVerify(t *testing.T) {
	now := time.Now()
	tests := map[string]struct {
		header        http.Header
		standard, dub []string
	}{
		"current":                   {header: http.Header{"Dub-Signature": {dubCurrent}}, dub: []string{"current"}},
		"old":                       {header: http.Header{"Dub-Signature": {dubOld}}, dub: []string{"old"}},
		"upper case":                {header: http.Header{"Dub-Signature": {strings.ToUpper(dubCurrent)}}},
		"cut":                       {header: http.Header{"Dub-Signature": {dubCurrent[:32]}}},
		"none":                      {header: http.Header{}},
		"standard, both":            {header: standardHeader(now, oldValue, currentValue), standard: []string{"old", "current"}},
		"standard, current":         {header: standardHeader(now, currentValue), standard: []string{"current"}},
		"standard, ten minutes old": {header: standardHeader(now.Add(-10*time.Minute), currentValue)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			if _, _, err := post(t.Context(), t, r.URL("/hooks"), test.header); err != nil {
				t.Fatal(err)
			}
			got := r.Requests("/hooks")
			if len(got) != 1 || !bytes.Equal(got[0].Body, []byte(body)) || got[0].Status != http.StatusOK {
				t.Fatalf("received %+v", got)
			}
			if !slices.Equal(got[0].StandardWebhooks, test.standard) || !slices.Equal(got[0].Dub, test.dub) {
				t.Errorf("verified by %v and %v, want %v and %v", got[0].StandardWebhooks, got[0].Dub, test.standard, test.dub)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	r := start(t)
	var hooked atomic.Int32
	r.Answer("/scripted",
		Times(2, http.StatusServiceUnavailable),
		Answer{Abort: true, Times: 1},
		Answer{
			Status: http.StatusTeapot, Header: http.Header{"Retry-After": {"7"}}, Body: "later", Delay: time.Millisecond, Times: 1,
			Before: func(received *Request) { hooked.Store(int32(len(received.Body))) },
		},
	)
	for i, want := range []int{503, 503, 0, 418, 200, 200} {
		response, content, err := post(t.Context(), t, r.URL("/scripted"), http.Header{})
		switch {
		case want == 0:
			if err == nil {
				t.Errorf("request %d was answered with %s", i, response.Status)
			}
		case err != nil:
			t.Fatal(err)
		case response.StatusCode != want:
			t.Errorf("request %d was answered with %s, want %d", i, response.Status, want)
		case want == http.StatusTeapot && (content != "later" || response.Header.Get("Retry-After") != "7"):
			t.Errorf("request %d was answered with %q and %v", i, content, response.Header)
		}
	}
	if hooked.Load() != int32(len(body)) {
		t.Error("the hook was not called")
	}
	var statuses []int
	for _, request := range r.Requests("") {
		statuses = append(statuses, request.Status)
	}
	// An http.Client may repeat a request without a response.
	if want := []int{503, 503, 0, 418, 200, 200}; !slices.Equal(statuses, want) {
		t.Errorf("recorded %v, want %v", statuses, want)
	}
}

func TestHangEndsWithTheClientOrTheReceiver(t *testing.T) {
	r := start(t)
	r.Answer("/hang", Answer{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	clients := make(chan error, 2)
	for _, ctx := range []context.Context{ctx, t.Context()} {
		go func() {
			_, _, err := post(ctx, t, r.URL("/hang"), http.Header{})
			clients <- err
		}()
	}
	if _, err := r.Wait(t.Context(), "/hang", 2); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-clients; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that gave up got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := <-clients; err == nil {
		t.Error("a closed receiver answered")
	}
}

func TestWaitSaysWhatIsMissing(t *testing.T) {
	r := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := r.Wait(ctx, "/hooks", 1)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "0 have come") {
		t.Errorf("waited with %v", err)
	}
}

func TestRefusing(t *testing.T) {
	address := Refusing(t)
	for range 2 {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connecting ends with %v", err)
		}
	}
	if listener, err := net.Listen("tcp", address); err == nil {
		listener.Close()
		t.Errorf("something else can listen on %s", address)
	}
}
