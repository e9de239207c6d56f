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
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// The client's own rate limit must not slow down tests.
	clientQPS, clientBurst = 1000, 2000

	tokenSeconds = 24 * 60 * 60

	// kubectlTimeout is longer than any --timeout in tests. outputDelay bounds how long a child of kubectl may keep
	// the output open.
	kubectlTimeout = 5 * time.Minute
	outputDelay    = 10 * time.Second
	// kubectlTries bounds kubectl's tries to connect to a slow API server.
	kubectlTries = 3
)

// Kubectl runs the real kubectl as the administrator and returns its output. The error of a failed run has the end of
// the command line and kubectl's message. Kubectl repeats the run if the connection timed out, because then no
// request was made.
func (c *ControlPlane) Kubectl(ctx context.Context, stdin string, args ...string) (stdout, stderr string, err error) {
	for range kubectlTries {
		stdout, stderr, err = c.kubectl(ctx, stdin, args)
		if err == nil || !strings.Contains(stderr, "Unable to connect to the server: net/http: TLS handshake timeout") {
			break
		}
	}
	return stdout, stderr, err
}

func (c *ControlPlane) kubectl(ctx context.Context, stdin string, args []string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeoutCause(ctx, kubectlTimeout, fmt.Errorf("it did not end within %s", kubectlTimeout))
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(c.AssetsDir, "kubectl"), args...)
	command.WaitDelay = outputDelay
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &errOut
	// kubectl must not use the settings and the cache of the user.
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+c.path("kubectl"), "KUBERC=off")
	if err := command.Run(); err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)), strings.TrimSpace(errOut.String()))
		return out.String(), errOut.String(), err
	}
	return out.String(), errOut.String(), nil
}

// Client returns an administrator's client for the kinds of Kubernetes and the operator.
func (c *ControlPlane) Client() (client.Client, error) { return NewClient(c.Config) }

// NewClient returns a client for the kinds of Kubernetes and the operator.
func NewClient(config *rest.Config) (client.Client, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("make the scheme: %w", err)
	}
	made, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return made, nil
}

// ServiceAccountConfig returns a client configuration of an existing ServiceAccount, with its own token, which is
// valid for a day.
func (c *ControlPlane) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	clients, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](tokenSeconds)},
	}
	token, err := clients.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("request a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	config := c.anonymousConfig(c.Config.Host)
	config.BearerToken = token.Status.Token
	return config, nil
}

// ServiceAccountKubeconfig writes a kubeconfig with a token of a ServiceAccount, for a process that runs as it.
func (c *ControlPlane) ServiceAccountKubeconfig(ctx context.Context, namespace, name, path string) error {
	config, err := c.ServiceAccountConfig(ctx, namespace, name)
	if err != nil {
		return err
	}
	return writeKubeconfig(config, path)
}

// anonymousConfig trusts the control plane's certificate authority and has no credentials.
func (c *ControlPlane) anonymousConfig(host string) *rest.Config {
	return &rest.Config{
		Host:            host,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.certificates.pem},
		QPS:             clientQPS,
		Burst:           clientBurst,
	}
}

func writeKubeconfig(config *rest.Config, path string) error {
	const name = "postback"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{
		Token:                 config.BearerToken,
		ClientCertificateData: config.CertData,
		ClientKeyData:         config.KeyData,
	}
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	kubeconfig.CurrentContext = name
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
