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

package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"
)

const (
	loopback = "127.0.0.1"
	issuer   = "https://kubernetes.default.svc"
)

// controllers are the controllers of kube-controller-manager that clean up, or create the objects of every namespace.
var controllers = []string{
	"garbage-collector-controller",
	"namespace-controller",
	"root-ca-certificate-publisher-controller",
	"clusterrole-aggregation-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.Dir, name) }

func (c *ControlPlane) newProcess(program string, ready func(context.Context) error, args ...string) *process {
	return &process{
		path:    filepath.Join(c.AssetsDir, program),
		args:    args,
		logPath: c.path(program + ".log"),
		ready:   ready,
	}
}

// makeCertificates writes the certificate authority, the certificates of the servers, the administrator and the
// controller manager, and the key that signs service account tokens.
func (c *ControlPlane) makeCertificates() error {
	var err error
	if c.certificates, err = newAuthority(); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("ca.crt"), c.certificates.pem, 0o600); err != nil {
		return fmt.Errorf("store the certificate authority: %w", err)
	}
	server, err := c.certificates.server()
	if err != nil {
		return err
	}
	if err := server.write(c.Dir, "server"); err != nil {
		return err
	}
	return c.makeTokenKey()
}

func (c *ControlPlane) makeTokenKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key for tokens: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode the key for tokens: %w", err)
	}
	if err := os.WriteFile(c.path("tokens.key"), encodePEM("EC PRIVATE KEY", der), 0o600); err != nil {
		return fmt.Errorf("store the key for tokens: %w", err)
	}
	return nil
}

// choosePorts creates the processes that listen on ports, and the files that name these ports.
func (c *ControlPlane) choosePorts() error {
	apiServerPort, err := FreePort()
	if err != nil {
		return err
	}
	controllerManagerPort, err := FreePort()
	if err != nil {
		return err
	}
	host := "https://" + net.JoinHostPort(loopback, strconv.Itoa(apiServerPort))
	if c.Config, err = c.userConfig(host, "postback-admin", "system:masters"); err != nil {
		return err
	}
	c.Kubeconfig = c.path("admin.kubeconfig")
	if err := writeKubeconfig(c.Config, c.Kubeconfig); err != nil {
		return err
	}
	controllerManager, err := c.userConfig(host, "system:kube-controller-manager", "system:masters")
	if err != nil {
		return err
	}
	if err := writeKubeconfig(controllerManager, c.path("controller-manager.kubeconfig")); err != nil {
		return err
	}
	if c.apiServer, err = c.newAPIServer(apiServerPort); err != nil {
		return err
	}
	c.controllerManager, err = c.newControllerManager(controllerManagerPort)
	return err
}

func (c *ControlPlane) userConfig(host, user string, groups ...string) (*rest.Config, error) {
	pair, err := c.certificates.client(user, groups...)
	if err != nil {
		return nil, err
	}
	config := c.anonymousConfig(host)
	config.CertData, config.KeyData = pair.certificate, pair.key
	return config, nil
}

// newEtcd returns an etcd that listens only on Unix sockets. No other process can take its port, and no other user of
// the machine can reach it.
func (c *ControlPlane) newEtcd(fsync bool) *process {
	client, peer := "unix://"+c.path("etcd"), "unix://"+c.path("peer")
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.path("etcd"))
		},
	}
	return c.newProcess("etcd", probe(transport, "http://etcd/health"),
		"--name=postback",
		"--data-dir="+c.path("data"),
		"--listen-client-urls="+client,
		"--advertise-client-urls="+client,
		"--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer,
		"--initial-cluster=postback="+peer,
		"--unsafe-no-fsync="+strconv.FormatBool(!fsync),
		"--log-level=warn",
	)
}

func (c *ControlPlane) newAPIServer(port int) (*process, error) {
	ready, err := c.secureProbe(c.Config, c.Config.Host+"/readyz")
	if err != nil {
		return nil, err
	}
	args := []string{
		"--etcd-servers=unix://" + c.path("etcd"),
		"--bind-address=" + loopback,
		"--secure-port=" + strconv.Itoa(port),
		// No client in the cluster has to reach the API server, so the Service "kubernetes" needs no endpoint.
		"--advertise-address=" + loopback,
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + c.path("server.crt"),
		"--tls-private-key-file=" + c.path("server.key"),
		"--client-ca-file=" + c.path("ca.crt"),
		"--cert-dir=" + c.path("apiserver"),
		"--authorization-mode=RBAC",
		// This plugin requires the right to update the finalizers of an owner that blocks its deletion, as in
		// hardened clusters.
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + c.path("tokens.key"),
		"--service-account-signing-key-file=" + c.path("tokens.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--allow-privileged=true",
	}
	if c.authentication != "" {
		file := c.path("authentication.yaml")
		if err := os.WriteFile(file, []byte(c.authentication), 0o600); err != nil {
			return nil, fmt.Errorf("store the authentication configuration: %w", err)
		}
		args = append(args, "--authentication-config="+file)
	}
	apiServer := c.newProcess("kube-apiserver", ready, args...)
	// An orderly end waits a minute for watches. A kill loses nothing, because etcd has all the data.
	apiServer.abrupt = true
	return apiServer, nil
}

func (c *ControlPlane) newControllerManager(port int) (*process, error) {
	kubeconfig := c.path("controller-manager.kubeconfig")
	host := "https://" + net.JoinHostPort(loopback, strconv.Itoa(port))
	ready, err := c.secureProbe(c.anonymousConfig(host), host+"/healthz")
	if err != nil {
		return nil, err
	}
	return c.newProcess("kube-controller-manager", ready,
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig,
		"--bind-address="+loopback,
		"--secure-port="+strconv.Itoa(port),
		"--tls-cert-file="+c.path("server.crt"),
		"--tls-private-key-file="+c.path("server.key"),
		"--controllers="+strings.Join(controllers, ","),
		"--leader-elect=false",
		"--service-account-private-key-file="+c.path("tokens.key"),
		"--root-ca-file="+c.path("ca.crt"),
		"--concurrent-gc-syncs=4",
		"--concurrent-namespace-syncs=2",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	), nil
}

func (c *ControlPlane) secureProbe(config *rest.Config, url string) (func(context.Context) error, error) {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare the probe of %s: %w", url, err)
	}
	tlsConfig.MinVersion = tls.VersionTLS12
	return probe(&http.Transport{DisableKeepAlives: true, TLSClientConfig: tlsConfig}, url), nil
}

// probe returns a function that fails until the URL answers 200.
func probe(transport *http.Transport, url string) func(context.Context) error {
	client := &http.Client{Transport: transport}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, 1024))
		return errors.Join(fmt.Errorf("%s answers %s: %s", url, response.Status, body), err)
	}
}
