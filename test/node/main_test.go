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

// Package node tests the shipped installation on a real node, with kubelet, containerd, kube-proxy, CoreDNS and
// NetworkPolicy, as hack/node starts it. "make test-node" runs it; otherwise it is skipped.
package node

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// nodeVariable is set in the node, to the folder of its logs.
	nodeVariable = "POSTBACK_NODE"
	// installerVariable names the file with the output of "make build-installer".
	installerVariable = "POSTBACK_INSTALLER"

	system, partner = "postback-system", "partner-node"

	pollEvery = 200 * time.Millisecond
	// patience bounds waits for events that usually take a moment, for busy machines.
	patience = 90 * time.Second
)

// These are clients of the node's API server.
var (
	api     client.Client
	clients *kubernetes.Clientset
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(nodeVariable) == "" {
		_, _ = fmt.Fprintln(os.Stderr, "Skipped: these tests run on a node of their own, by make test-node.")
		os.Exit(0)
	}
	if err := errors.Join(connect(), install(context.Background())); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return fmt.Errorf("read the node's kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 500, 1000
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("make the scheme: %w", err)
	}
	if api, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if clients, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return nil
}

// connectable waits until a Service accepts connections. kube-proxy learns of a ready Pod a moment later.
func connectable(ctx context.Context, namespace, name string) error {
	var service corev1.Service
	if err := api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &service); err != nil {
		return fmt.Errorf("find the Service %s: %w", name, err)
	}
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollEvery, patience, true, func(ctx context.Context) (bool, error) {
		connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if last = err; err != nil {
			return false, nil
		}
		return true, connection.Close()
	})
	if err != nil {
		return fmt.Errorf("connect to the Service %s: %w", name, errors.Join(err, last))
	}
	return nil
}

// figure prints a figure of the run.
func figure(name string, value any) {
	if d, ok := value.(time.Duration); ok {
		value = d.Round(time.Millisecond)
	}
	_, _ = fmt.Fprintf(os.Stdout, "    %-52s %v\n", name, value)
}

// kubectlTimeout is longer than any --timeout in the tests.
const kubectlTimeout = 10 * time.Minute

// kubectl runs the real kubectl with a text as standard input.
func kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeoutCause(ctx, kubectlTimeout, fmt.Errorf("it did not end within %s", kubectlTimeout))
	defer cancel()
	command := exec.CommandContext(ctx, "kubectl", args...)
	command.WaitDelay = 10 * time.Second // A child of the command may keep its output open.
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)), strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// mustKubectl runs kubectl, which must succeed.
func mustKubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// await repeats a check until it returns nil.
func await(t *testing.T, patience time.Duration, check func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), pollEvery, patience, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("within %s: %v", patience, last)
	}
}

// pods returns the Pods of the named parts of the installation, or of all parts.
func pods(ctx context.Context, names ...string) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := api.List(ctx, &list, client.InNamespace(system)); err != nil {
		return nil, err
	}
	var found []corev1.Pod
	for _, pod := range list.Items {
		for _, name := range names {
			if pod.Labels["app.kubernetes.io/name"] == name {
				found = append(found, pod)
			}
		}
	}
	return found, nil
}

// rolledOut waits until all Pods of a Deployment are ready.
func rolledOut(t *testing.T, deployment string) {
	t.Helper()
	mustKubectl(t, "", "-n", system, "rollout", "status", "--timeout=120s", "deployment/"+deployment)
}
