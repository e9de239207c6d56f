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
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/postback-dev/postback-operator/internal/postback/event"
)

type sendOptions struct {
	reach
	tokens    tokenSource
	file, key string
	timeout   time.Duration
}

func (e *env) sendCommand() *cobra.Command {
	o := &sendOptions{reach: reach{env: e}}
	cmd := &cobra.Command{
		Use:   "send -f FILE",
		Short: "Post events, as a producer does",
		Long: "Post events of the namespace: one, or an array of up to 100, in the form of the ingest API. They go to every Postback whose triggers match.\n\n" +
			"The command posts to --ingest-url, to the URL that the installation publishes, or through a port-forward to a dispatcher Pod. Its bearer token comes from --token-file, from --service-account if you may " +
			"create tokens for it, or from your kubeconfig. The owner of the token needs the right to create postbackevents.postback.dev: the role postback-event-sender.",
		Example: "  echo '{\"event\":\"lead.created\",\"data\":{}}' | kubectl postback send -f - --service-account orders",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "filename", "f", "", "File with an event, or an array of events; - is the standard input.")
	o.addFlags(f)
	f.StringVar(&o.tokens.file, "token-file", "", "File with the token to send.")
	f.StringVar(&o.tokens.account, "service-account", "", "ServiceAccount of the namespace to get a token for.")
	f.StringVar(&o.tokens.audience, "audience", "", "Audience of that token, if the dispatcher has --ingest-audience.")
	f.StringVar(&o.key, "idempotency-key", "", "Idempotency-Key: events without ids get ids that depend on it.")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "Longest time to wait for the answer.")
	return cmd
}

const (
	defaultInstallNamespace = "postback-system"
	// maxEventsFile bounds the file of events, in bytes. The dispatcher's own default bound is 256 KiB.
	maxEventsFile = 1 << 20
	maxTokenFile  = 64 << 10
	maxCAFile     = 1 << 20
	tokenSeconds  = 600
)

func (o *sendOptions) run(cmd *cobra.Command) error {
	if o.file == "" {
		return usagef(cmd, "-f is missing: name the file with the events")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	body, err := o.readFile(o.file, maxEventsFile)
	if err != nil {
		return err
	}
	if _, err := event.Decode(body, o.clock.Now(), func(int) string { return event.NewID() }); err != nil {
		return fmt.Errorf("%s cannot be posted: %w", o.file, err)
	}
	config, namespace, token, err := o.caller(ctx, o.tokens)
	if err != nil {
		return err
	}
	if o.ingestURL != "" {
		trust, err := o.tlsConfig()
		if err != nil {
			return err
		}
		return o.post(ctx, o.ingestURL, trust, namespace, token, body)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if base := o.published(ctx, clients); base != "" {
		trust, err := o.tlsOf(ctx, config, base)
		if err != nil {
			return err
		}
		return o.post(ctx, base, trust, namespace, token, body)
	}
	forward, err := o.forward(ctx, config)
	if err != nil {
		return fmt.Errorf("reach a dispatcher: %w; or name --ingest-url", err)
	}
	defer forward.close()
	return o.post(ctx, forward.url, forward.tls, namespace, token, body)
}

// caller returns the kubeconfig, its namespace, and the token to send.
func (e *env) caller(ctx context.Context, tokens tokenSource) (config *rest.Config, namespace, token string, err error) {
	if config, err = e.restConfig(); err != nil {
		return nil, "", "", err
	}
	if namespace, err = e.namespace(); err != nil {
		return nil, "", "", err
	}
	token, err = e.token(ctx, config, namespace, tokens)
	return config, namespace, token, err
}

// tokenSource selects the token to send: from a file, of a ServiceAccount, or else the caller's own.
type tokenSource struct {
	file, account, audience string
}

// token returns the token to send.
func (e *env) token(ctx context.Context, config *rest.Config, namespace string, from tokenSource) (string, error) {
	switch {
	case from.file != "" && from.account != "":
		return "", errors.New("name either --token-file or --service-account")
	case from.file != "":
		data, err := e.readFile(from.file, maxTokenFile)
		return strings.TrimSpace(string(data)), err
	case from.account == "":
		return ownToken(ctx, config)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", fmt.Errorf("make a client: %w", err)
	}
	request := &authenticationv1.TokenRequest{}
	seconds := int64(tokenSeconds)
	request.Spec.ExpirationSeconds = &seconds
	if from.audience != "" {
		request.Spec.Audiences = []string{from.audience}
	}
	answer, err := clients.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, from.account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("get a token for ServiceAccount %q: %w", from.account, err)
	}
	return answer.Status.Token, nil
}

// ownToken returns the token that the kubeconfig, or its exec plugin, sends to the API server.
func ownToken(ctx context.Context, config *rest.Config) (string, error) {
	captured := ""
	capture := roundTripper(func(r *http.Request) (*http.Response, error) {
		captured, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		return nil, errCaptured
	})
	transport, err := rest.HTTPWrappersForConfig(config, capture)
	if err != nil {
		return "", fmt.Errorf("read your token from the kubeconfig: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("read your token from the kubeconfig: %w", err)
	}
	response, err := transport.RoundTrip(request)
	if response != nil {
		_ = response.Body.Close()
	}
	if err != nil && !errors.Is(err, errCaptured) {
		return "", fmt.Errorf("read your token from the kubeconfig: %w", err)
	}
	if captured == "" {
		return "", errors.New("your kubeconfig has no token (it may have a client certificate): name --service-account or --token-file")
	}
	return captured, nil
}

var errCaptured = errors.New("captured")

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answered is the printed part of the ingest API's response.
type answered struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Events []struct {
		ID         string `json:"id"`
		Event      string `json:"event"`
		Deliveries []struct {
			Postback string `json:"postback"`
			Delivery string `json:"delivery"`
			Result   string `json:"result"`
			Reason   string `json:"reason"`
		} `json:"deliveries"`
	} `json:"events"`
}

const maxAnswer = 4 << 20

func (o *sendOptions) post(ctx context.Context, base string, trust *tls.Config, namespace, token string, body []byte) error {
	address, err := url.JoinPath(base, "v1", "namespaces", namespace, "events")
	if err != nil {
		return fmt.Errorf("--ingest-url: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--ingest-url: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("User-Agent", o.userAgent())
	if o.key != "" {
		request.Header.Set("Idempotency-Key", o.key)
	}
	// A redirect would send the token to another server.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("post the events: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var a answered
	if err := json.Unmarshal(data, &a); err != nil {
		return fmt.Errorf("%s answers %s, and not in JSON: is it the ingest API", base, response.Status)
	}
	if err := o.print(&a); err != nil {
		return err
	}
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("the dispatcher answers %s: %s", response.Status, visible(strings.TrimSpace(a.Title+". "+a.Detail)))
	}
	return nil
}

func (o *sendOptions) print(a *answered) error {
	if len(a.Events) == 0 {
		return nil
	}
	t := newTable(o.Out, false, column{name: "EVENT", least: 10}, column{name: "ID", least: 11}, column{name: "POSTBACK", least: 8}, column{name: "RESULT"}, column{name: "DELIVERY", least: 10})
	var rows []row
	for _, e := range a.Events {
		if len(e.Deliveries) == 0 {
			rows = append(rows, row{plain(e.Event), plain(e.ID), plain(""), cell{"no trigger matches", yellow}, plain("")})
		}
		for _, d := range e.Deliveries {
			result := cell{d.Result, green}
			if d.Result != "Stored" && d.Result != "Duplicate" {
				result.colour = yellow
			}
			if d.Reason != "" {
				result.text += ": " + d.Reason
			}
			rows = append(rows, row{plain(e.Event), plain(e.ID), plain(d.Postback), result, plain(d.Delivery)})
		}
	}
	return t.print(o.Out, rows...)
}
