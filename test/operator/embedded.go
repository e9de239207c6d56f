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

package operator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

const (
	// embeddedJetStream is the intake with a NATS server in each dispatcher.
	embeddedJetStream = "jetstream-embedded"
	// clusterSize is the number of embedded servers that form a cluster.
	clusterSize = 3
	// embeddedBytes bounds each stream of an embedded server. The server reserves the sum.
	embeddedBytes = 256 << 20

	reader     = "delivery-reader"
	readerRole = "postback-viewer"
	// readPage is the number of deliveries in one request, readPause the time before a refused one is repeated.
	readPage    = 500
	readPause   = time.Second
	readTimeout = 30 * time.Second
	// polled is longer than the time between two updates of the dispatcher's gauges.
	polled = 1500 * time.Millisecond
)

// embedded describes the NATS servers in the dispatchers.
type embedded struct {
	// peers are the addresses of a cluster, and empty for a single server.
	peers []string
	token string
}

func newEmbedded(servers int) (*embedded, error) {
	e := &embedded{}
	switch servers {
	case 0, 1:
		return e, nil
	case clusterSize:
	default:
		return nil, fmt.Errorf("an installation has 1 or %d embedded NATS servers, not %d", clusterSize, servers)
	}
	for range servers {
		port, err := controlplane.FreePort()
		if err != nil {
			return nil, err
		}
		e.peers = append(e.peers, net.JoinHostPort(loopback, strconv.Itoa(port)))
	}
	return e, nil
}

// EmbedsNATS reports whether each dispatcher runs a NATS server.
func (o *Operator) EmbedsNATS() bool { return o.embedded != nil }

// Streams reports whether the dispatchers use the JetStream intake.
func (o *Operator) Streams() bool { return o.NATS != nil || o.EmbedsNATS() }

// Dispatchers returns the number of dispatchers for tests of several replicas. An embedded NATS server determines it.
func (o *Operator) Dispatchers() int {
	if o.EmbedsNATS() {
		return max(1, len(o.embedded.peers))
	}
	return 2
}

// StoreDir returns the folder of the NATS server that a dispatcher embeds.
func (o *Operator) StoreDir(p *Process) string { return filepath.Join(o.Dir, p.Name+".nats") }

// embed makes a dispatcher run a NATS server. The last digits of its name are its number in a cluster. Another
// dispatcher runs a single server.
func (o *Operator) embed(p *Process) {
	limit := strconv.Itoa(embeddedBytes)
	p.args = append(p.args, "--intake=jetstream", "--nats-embedded", "--nats-store-dir="+o.StoreDir(p), "--nats-max-bytes="+limit, "--log-max-bytes="+limit)
	number, err := strconv.Atoi(p.Name[strings.LastIndex(p.Name, "-")+1:])
	if err != nil || number >= len(o.embedded.peers) {
		return
	}
	// A server becomes ready only if a second one runs.
	p.tls, p.unready = true, true
	p.args = append(p.args, "--nats-cluster-peers="+strings.Join(o.embedded.peers, ","), "--nats-cluster-bind-address="+o.embedded.peers[number],
		"--nats-cluster-ca-file="+p.mountDir("/etc/postback/ingest-tls/"+v1alpha1.CABundleKey))
}

// IngestTLS returns the TLS configuration of producers that trust the CA of the manager.
func (o *Operator) IngestTLS(ctx context.Context) (*tls.Config, error) {
	bundle, err := o.clients.CoreV1().ConfigMaps(Namespace).Get(ctx, v1alpha1.IngestCAName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the CA of ingest: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle.Data[v1alpha1.CABundleKey]))
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: v1alpha1.IngestServiceName + "." + Namespace + ".svc"}, nil
}

// waitingEmbedded is Waiting for embedded servers. The deliveries before their first attempt count for each namespace.
func (o *Operator) waitingEmbedded(ctx context.Context, namespace string) (int, error) {
	for range 2 {
		sum, err := o.countEmbedded(ctx, namespace)
		if err != nil || sum > 0 {
			return sum, err
		}
		// A gauge of 0 may be out of date.
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(polled):
		}
	}
	return 0, nil
}

func (o *Operator) countEmbedded(ctx context.Context, namespace string) (sum int, err error) {
	p, err := o.readyDispatcher(ctx)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{"postback_nats_streams_ready", "postback_nats_stream_deliveries"} {
		if sum, err = p.gauge(ctx, name); err != nil {
			return 0, err
		}
		if name == "postback_nats_streams_ready" && sum != 1 {
			return 0, fmt.Errorf("the streams of %s are not ready", p.Name)
		}
	}
	err = o.eachEmbedded(ctx, "waiting", namespace, func(*v1alpha1.PostbackDelivery) { sum++ })
	return sum, err
}

// loggedEmbedded is Logged for embedded servers.
func (o *Operator) loggedEmbedded(ctx context.Context, namespace string) ([]v1alpha1.PostbackDelivery, error) {
	var logged []v1alpha1.PostbackDelivery
	err := o.eachEmbedded(ctx, "deliveries", namespace, func(d *v1alpha1.PostbackDelivery) { logged = append(logged, *d) })
	slices.Reverse(logged)
	return logged, err
}

// eachEmbedded calls f with each delivery of a resource of ingest, the newest first.
func (o *Operator) eachEmbedded(ctx context.Context, resource, namespace string, f func(*v1alpha1.PostbackDelivery)) error {
	token, err := o.readerToken(ctx)
	if err != nil {
		return err
	}
	p, err := o.readyDispatcher(ctx)
	if err != nil {
		return err
	}
	client, err := o.ingestClient(ctx, p)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	query := url.Values{"limit": {strconv.Itoa(readPage)}}
	for {
		list := &v1alpha1.PostbackDeliveryList{}
		address := p.IngestURL() + "/v1/namespaces/" + namespace + "/" + resource + "?" + query.Encode()
		if err := readJSON(ctx, client, address, token, list); err != nil {
			return fmt.Errorf("read the %s of %s from %s: %w", resource, namespace, p.Name, err)
		}
		for i := range list.Items {
			f(&list.Items[i])
		}
		if list.Continue == "" {
			return nil
		}
		query.Set("continue", list.Continue)
	}
}

// readJSON reads a resource of ingest. It repeats a request that the dispatcher refuses for its rate.
func readJSON(ctx context.Context, client *http.Client, address, token string, into any) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		switch {
		case err != nil:
			return err
		case response.StatusCode == http.StatusOK:
			return json.Unmarshal(content, into)
		case response.StatusCode != http.StatusTooManyRequests:
			return fmt.Errorf("%s: %s", response.Status, content)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readPause):
		}
	}
}

func (o *Operator) ingestClient(ctx context.Context, p *Process) (*http.Client, error) {
	client := &http.Client{Timeout: readTimeout, Transport: &http.Transport{}}
	if !p.tls {
		return client, nil
	}
	trust, err := o.IngestTLS(ctx)
	client.Transport = &http.Transport{TLSClientConfig: trust}
	return client, err
}

func (o *Operator) readyDispatcher(ctx context.Context) (*Process, error) {
	err := errors.New("no dispatcher runs")
	for _, p := range o.Processes() {
		if !p.ingests || !p.Running() {
			continue
		}
		if err = p.probe(ctx); err == nil {
			return p, nil
		}
	}
	return nil, err
}

// gauge returns the value of a metric without labels.
func (p *Process) gauge(ctx context.Context, name string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.MetricsURL(), http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			return int(number), err
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", p.Name, name)
}

// readerToken returns the token of a ServiceAccount that may read all deliveries.
func (o *Operator) readerToken(ctx context.Context) (string, error) {
	o.mu.Lock()
	token := o.embedded.token
	o.mu.Unlock()
	if token != "" {
		return token, nil
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: reader}}
	if _, err := o.clients.CoreV1().ServiceAccounts(Namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create ServiceAccount %s/%s: %w", Namespace, reader, err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: reader},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: readerRole},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: Namespace, Name: reader}},
	}
	if _, err := o.clients.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create ClusterRoleBinding %s: %w", reader, err)
	}
	err := o.waitAllowed(ctx, "system:serviceaccount:"+Namespace+":"+reader, authorizationv1.ResourceAttributes{
		Namespace: Namespace, Verb: "list", Group: v1alpha1.GroupVersion.Group, Resource: "postbackdeliveries",
	})
	if err != nil {
		return "", err
	}
	config, err := o.ControlPlane.ServiceAccountConfig(ctx, Namespace, reader)
	if err != nil {
		return "", err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.embedded.token = config.BearerToken
	return config.BearerToken, nil
}

// LoseStore stops every NATS server, deletes its files, and starts it again.
func (o *Operator) LoseStore(ctx context.Context, dispatchers ...*Process) error {
	if !o.EmbedsNATS() {
		return o.NATS.LoseStore(ctx)
	}
	for _, p := range dispatchers {
		if err := p.Kill(); err != nil {
			return err
		}
	}
	for _, p := range dispatchers {
		if err := os.RemoveAll(o.StoreDir(p)); err != nil {
			return fmt.Errorf("delete the store of %s: %w", p.Name, err)
		}
	}
	return RestartAll(ctx, dispatchers...)
}

// RestartAll restarts ended processes and returns once all are ready. The members of a cluster need each other for
// that.
func RestartAll(ctx context.Context, processes ...*Process) error {
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.Restart(ctx))
	}
	for _, p := range processes {
		if p.Running() {
			errs = append(errs, p.WaitReady(ctx))
		}
	}
	return errors.Join(errs...)
}
