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

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	portalPart = "postback-portal"
	portalHost = "postbacks.example.com"
	// minSession is the least number of pages that a visitor opens while a replica is missing.
	minSession = 20
)

// portalCA returns the file of the portal's certificate.
func portalCA() string { return filepath.Join(os.Getenv(nodeVariable), "portal-ca.crt") }

// preparePortal creates the namespace of the portal with its Secrets, as docs/portal.md says.
func preparePortal(ctx context.Context) error {
	certificate, key, err := cert.GenerateSelfSignedCertKey(portalHost, nil, nil)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	keyFile := filepath.Join(os.Getenv(nodeVariable), "portal-tls.key")
	if err := errors.Join(os.WriteFile(portalCA(), certificate, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
		return err
	}
	if _, err := kubectl(ctx, "", "apply", "-f", "../../config/portal/namespace.yaml"); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"create", "secret", "tls", "postback-portal-tls", "--cert=" + portalCA(), "--key=" + keyFile},
		{"create", "secret", "generic", "postback-portal-session", "--from-literal=keys=" + strings.Repeat("k", 44)},
	} {
		if _, err := kubectl(ctx, "", append([]string{"-n", portalPart}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// withPortal skips a test without a portal, and creates the ServiceAccounts of the partner's roles.
func withPortal(t *testing.T) {
	t.Helper()
	if *how != installByChart {
		t.Skip("the chart installs the portal")
	}
	mustKubectl(t, "", "-n", partner, "apply", "-f", "../../config/samples/portal_partner.yaml")
	binding := mustKubectl(t, "", "-n", partner, "create", "rolebinding", "orders-links", "--clusterrole=postback-portal-link-requester",
		"--serviceaccount="+partner+":orders", "--dry-run=client", "-o", "yaml")
	mustKubectl(t, binding, "apply", "-f", "-")
	await(t, patience, func(ctx context.Context) error { return connectable(ctx, portalPart, portalPart) })
}

// portalPods returns the ready Pods of the portal.
func portalPods(t *testing.T) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := api.List(t.Context(), &list, client.InNamespace(portalPart), client.MatchingLabels{"app.kubernetes.io/name": portalPart}); err != nil {
		t.Fatal(err)
	}
	return ready(list.Items)
}

// visitor is a browser whose requests to the portal go to the address of a Service or a Pod.
type visitor struct {
	t      *testing.T
	cookie string
}

// at returns a client that connects to an address and trusts only the portal's certificate.
func (v *visitor) at(address string) *http.Client {
	v.t.Helper()
	content, err := os.ReadFile(portalCA())
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(content) {
		v.t.Fatalf("read the certificate of the portal: %v", err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
		},
		// Each request may reach another replica.
		DisableKeepAlives: true,
	}
	v.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (v *visitor) request(ctx context.Context, method, path, body string) *http.Request {
	v.t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, "https://"+portalHost+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", "https://"+portalHost)
	request.Header.Set("Cookie", v.cookie)
	return request
}

// open returns nil if the list of Postbacks shows the partner's Postback.
func (v *visitor) open(ctx context.Context, browser *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	response, err := browser.Do(v.request(ctx, http.MethodGet, "/", ""))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(string(content), "receiver."+partner)) {
		err = fmt.Errorf("the portal answers %s", response.Status)
	}
	return err
}

// signIn requests a link with the plugin, through a port-forward, and signs in at an address.
func signIn(t *testing.T, address string) *visitor {
	t.Helper()
	link := mustKubectl(t, "", "postback", "link", "-n", partner, "--role", "viewer", "--ttl", "1h", "--service-account", "orders", "--ca-file", portalCA())
	_, code, found := strings.Cut(strings.TrimSpace(link), "https://"+portalHost+"/signin#")
	if !found {
		t.Fatalf("kubectl postback link prints %q", link)
	}
	v := &visitor{t: t}
	response, err := v.at(address).Do(v.request(t.Context(), http.MethodPost, "/signin", url.Values{"code": {code}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent || len(response.Cookies()) != 1 {
		t.Fatalf("the code is answered with %s", response.Status)
	}
	v.cookie = response.Cookies()[0].Name + "=" + response.Cookies()[0].Value
	return v
}

// TestPortalSessionOutlivesAReplica kills the replica that serves a live page. The other replica continues the
// session, and so does the replacement of the killed one.
func TestPortalSessionOutlivesAReplica(t *testing.T) {
	withPortal(t)
	var service corev1.Service
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: portalPart, Name: portalPart}, &service); err != nil {
		t.Fatal(err)
	}
	replicas := portalPods(t)
	if len(replicas) != 2 {
		t.Fatalf("%d replicas of the portal are ready", len(replicas))
	}
	through := net.JoinHostPort(service.Spec.ClusterIP, "443")
	v := signIn(t, through)
	for i := range replicas {
		direct := v.at(net.JoinHostPort(replicas[i].Status.PodIP, "8443"))
		await(t, patience, func(ctx context.Context) error { return v.open(ctx, direct) })
	}

	victim := &replicas[0]
	live, err := v.at(net.JoinHostPort(victim.Status.PodIP, "8443")).Do(v.request(t.Context(), http.MethodGet, "/live", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	if live.StatusCode != http.StatusOK {
		t.Fatalf("the live page is answered with %s", live.Status)
	}
	if err := syscall.Kill(processOf(t, victim), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, live.Body); err == nil {
		t.Error("the live page of a killed replica ends as if it were complete")
	}
	began, failed := time.Now(), 0
	browser := v.at(through)
	for range minSession {
		// A browser tries again. A connection may lead to the killed replica until kube-proxy learns of its end.
		await(t, patience, func(ctx context.Context) error {
			err := v.open(ctx, browser)
			if err != nil {
				failed++
			}
			return err
		})
	}
	figure("a portal replica was killed; pages opened, tries that failed", fmt.Sprintf("%d, %d", minSession, failed))
	figure("in", time.Since(began))
	mustKubectl(t, "", "-n", portalPart, "rollout", "status", "--timeout=120s", "deployment/"+portalPart)
	for _, replica := range portalPods(t) {
		direct := v.at(net.JoinHostPort(replica.Status.PodIP, "8443"))
		await(t, patience, func(ctx context.Context) error { return v.open(ctx, direct) })
	}
}

// TestPortalIsRestricted checks that the processes of the portal run under the profile restricted.
func TestPortalIsRestricted(t *testing.T) {
	withPortal(t)
	for _, pod := range portalPods(t) {
		status := processStatus(t, processOf(t, &pod))
		for _, line := range restricted {
			if !strings.Contains(status, "\n"+line+"\n") {
				t.Errorf("%s runs without %q:\n%s", pod.Name, line, status)
			}
		}
	}
}

// TestPortalNetworkPolicyIsEnforced uses a Pod with the labels of the portal. It reaches the API server but no
// endpoint, and is reachable only at the portal's ports. A Pod without these labels reaches the endpoint.
func TestPortalNetworkPolicyIsEnforced(t *testing.T) {
	withPortal(t)
	var receiver corev1.Pod
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: partner, Name: "receiver"}, &receiver); err != nil {
		t.Fatal(err)
	}
	replica := portalPods(t)[0]
	labels := maps.Clone(replica.Labels)
	delete(labels, "pod-template-hash") // Otherwise the Deployment would adopt the Pod.
	free, bound := portalNeighbour(t, "free", nil), portalNeighbour(t, "bound", labels)
	endpoint, server := net.JoinHostPort(receiver.Status.PodIP, "8080"), "10.96.0.1:443"
	for _, test := range []struct {
		name     string
		from     *corev1.Pod
		address  string
		connects bool
	}{
		{"another Pod to an endpoint", free, endpoint, true},
		{"portal to an endpoint", bound, endpoint, false},
		{"portal to the API server", bound, server, true},
		{"another Pod to the pages", free, net.JoinHostPort(replica.Status.PodIP, "8443"), true},
		{"another Pod to the port of the probes", free, net.JoinHostPort(bound.Status.PodIP, "8081"), true},
		{"another Pod to another port", free, net.JoinHostPort(bound.Status.PodIP, "8080"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The NetworkPolicy agent learns of a new Pod a moment later.
			await(t, patience, func(ctx context.Context) error {
				_, err := kubectl(ctx, "", "-n", portalPart, "exec", test.from.Name, "--", "/workload", "connect", "--address="+test.address)
				if err == nil && !test.connects {
					return errors.New("it connects")
				}
				if err != nil && !test.connects && strings.Contains(err.Error(), "i/o timeout") {
					return nil
				}
				return err
			})
		})
	}
}

// portalNeighbour starts a Pod in the portal's namespace that listens on the ports 8080 and 8081.
func portalNeighbour(t *testing.T, name string, labels map[string]string) *corev1.Pod {
	t.Helper()
	pod := workload(name, "receive")
	pod.Namespace, pod.Labels, pod.Spec.ServiceAccountName = portalPart, labels, ""
	if err := api.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := kubectl(context.Background(), "", "-n", portalPart, "delete", "pod", name, "--grace-period=1"); err != nil {
			t.Error(err)
		}
	})
	mustKubectl(t, "", "-n", portalPart, "wait", "--for=condition=Ready", "--timeout=90s", "pod/"+name)
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}
