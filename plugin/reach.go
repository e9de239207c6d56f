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
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// reach holds the flags for the connection to a dispatcher's ingest: a URL, or a port-forward.
type reach struct {
	*env
	ingestURL, caFile, installNamespace string
}

func (r *reach) addFlags(f *pflag.FlagSet) {
	f.StringVar(&r.ingestURL, "ingest-url", "", "Base URL of the ingest API. The default is the URL that the installation publishes, else a port-forward to a dispatcher Pod.")
	f.StringVar(&r.caFile, "ca-file", "", "File with the CAs to trust, in PEM. Without it, a port-forward trusts those that the manager publishes, and --ingest-url those of this machine.")
	f.StringVar(&r.installNamespace, "install-namespace", defaultInstallNamespace, "Namespace of the installation.")
}

// dispatcherSelector selects the Pods of the dispatcher.
const dispatcherSelector = "app.kubernetes.io/name=postback-dispatcher"

// forwarded is a port-forward to a Pod.
type forwarded struct {
	// address is the local address.
	address, url string
	// tls trusts the installation's CA, and expects the Service's DNS name in the certificate.
	tls  *tls.Config
	stop chan struct{}
	done chan struct{}
}

func (f *forwarded) close() {
	close(f.stop)
	<-f.done
}

// forward makes a port-forward to a ready dispatcher Pod, on a free port of this machine.
func (r *reach) forward(ctx context.Context, config *rest.Config) (*forwarded, error) {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	pod, err := findPod(ctx, clients, r.installNamespace, dispatcherSelector)
	if err != nil {
		return nil, err
	}
	port, ok := portOf(pod, v1alpha1.IngestPortName)
	if !ok {
		return nil, fmt.Errorf("pod %s has no port named %s: its ingest is not open to others", pod.Name, v1alpha1.IngestPortName)
	}
	trust, err := r.trust(ctx, clients)
	if err != nil {
		return nil, err
	}
	f, err := r.tunnel(ctx, config, clients, pod, port)
	if err != nil {
		return nil, err
	}
	f.url, f.tls = "https://"+f.address, trust
	return f, nil
}

// findPod returns a ready Pod that a label selector selects.
func findPod(ctx context.Context, clients kubernetes.Interface, namespace, selector string) (*corev1.Pod, error) {
	pods, err := clients.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	if pod := readyPod(pods.Items); pod != nil {
		return pod, nil
	}
	return nil, fmt.Errorf("namespace %s has no ready Pod with the label %s", namespace, selector)
}

// tunnel makes a port-forward to a port of a Pod, on a free port of this machine.
func (e *env) tunnel(ctx context.Context, config *rest.Config, clients kubernetes.Interface, pod *corev1.Pod, port int32) (*forwarded, error) {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, fmt.Errorf("port-forward: %w", err)
	}
	address := clients.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	websocket, err := portforward.NewSPDYOverWebsocketDialer(address, config)
	if err != nil {
		return nil, fmt.Errorf("port-forward: %w", err)
	}
	dialer := portforward.NewFallbackDialer(websocket, spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, address), func(error) bool { return true })
	f := &forwarded{stop: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:" + strconv.Itoa(int(port))}, f.stop, ready, io.Discard, e.ErrOut)
	if err != nil {
		return nil, fmt.Errorf("port-forward: %w", err)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(f.done)
		failed <- forwarder.ForwardPorts()
	}()
	select {
	case err := <-failed:
		return nil, errors.Join(errors.New("port-forward to Pod "+pod.Name), err)
	case <-ctx.Done():
		f.close()
		return nil, ctx.Err()
	case <-ready:
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) == 0 {
		f.close()
		return nil, errors.Join(errors.New("port-forward"), err)
	}
	f.address = "127.0.0.1:" + strconv.Itoa(int(ports[0].Local))
	return f, nil
}

// trust returns the TLS configuration for a port-forward. The certificate must be for the Service, and signed by a CA
// in --ca-file or in the manager's ConfigMap.
func (r *reach) trust(ctx context.Context, clients kubernetes.Interface) (*tls.Config, error) {
	config, err := r.tlsConfig()
	if err != nil {
		return nil, err
	}
	config.ServerName = v1alpha1.IngestServiceName + "." + r.installNamespace + ".svc"
	if config.RootCAs != nil {
		return config, nil
	}
	bundle, err := clients.CoreV1().ConfigMaps(r.installNamespace).Get(ctx, v1alpha1.IngestCAName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find the CA to trust: %w; or name --ca-file", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM([]byte(bundle.Data[v1alpha1.CABundleKey])) {
		return nil, fmt.Errorf("ConfigMap %s holds no certificate under %s: name --ca-file", v1alpha1.IngestCAName, v1alpha1.CABundleKey)
	}
	return config, nil
}

// tlsOf returns the TLS configuration for a URL. A loopback address is the end of a tunnel, so its certificate is
// verified like that of a port-forward.
func (r *reach) tlsOf(ctx context.Context, config *rest.Config, base string) (*tls.Config, error) {
	parsed, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("the URL of ingest: %w", err)
	}
	ip, err := netip.ParseAddr(parsed.Hostname())
	if parsed.Scheme != "https" || err != nil || !ip.IsLoopback() {
		return r.tlsConfig()
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return r.trust(ctx, clients)
}

// published returns the ingest URL that the installation publishes in the intake's Lease, or "".
func (r *reach) published(ctx context.Context, clients kubernetes.Interface) string {
	lease, err := clients.CoordinationV1().Leases(r.installNamespace).Get(ctx, v1alpha1.IntakeLeaseName, metav1.GetOptions{})
	if err != nil {
		return "" // A port-forward needs no Lease.
	}
	return lease.Annotations[v1alpha1.IngestURLAnnotation]
}

// tlsConfig returns a TLS configuration that trusts the CAs in --ca-file, or else those of this machine.
func (r *reach) tlsConfig() (*tls.Config, error) { return r.trustFile(r.caFile) }

// trustFile returns a TLS configuration that trusts the CAs in a file, or those of this machine if file is "".
func (e *env) trustFile(file string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return config, nil
	}
	text, err := e.readFile(file, maxCAFile)
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca-file: %s holds no certificate in PEM", file)
	}
	return config, nil
}

func portOf(pod *corev1.Pod, name string) (int32, bool) {
	for i := range pod.Spec.Containers {
		for _, port := range pod.Spec.Containers[i].Ports {
			if port.Name == name {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

func readyPod(pods []corev1.Pod) *corev1.Pod {
	for i := range pods {
		for _, c := range pods[i].Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pods[i].DeletionTimestamp == nil {
				return &pods[i]
			}
		}
	}
	return nil
}
