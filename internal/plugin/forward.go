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
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// dispatcherSelector selects the Pods of the dispatcher.
const dispatcherSelector = "app.kubernetes.io/name=postback-dispatcher"

const (
	// ingestPortName names the port where a dispatcher takes events from the cluster, by HTTPS. Without a port of that name
	// it takes them on loopbackPort, for port-forwards only.
	ingestPortName = "ingest"
	loopbackPort   = 8080

	// ingestService is the Service for which the certificate is made, ingestCA the ConfigMap with its authority, under caKey.
	ingestService, ingestCA, caKey = "postback-ingest", "postback-ingest-ca", "ca.crt"
)

// forwarded is a port-forward to a Pod.
type forwarded struct {
	url string
	// tls is how to speak TLS with it, or nil.
	tls  *tls.Config
	stop chan struct{}
	done chan struct{}
}

func (f *forwarded) close() {
	close(f.stop)
	<-f.done
}

// forward makes a port-forward to a ready dispatcher Pod, on a free port of this machine.
func (o *sendOptions) forward(ctx context.Context, config *rest.Config) (*forwarded, error) {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	pods, err := clients.CoreV1().Pods(o.installNamespace).List(ctx, metav1.ListOptions{LabelSelector: dispatcherSelector})
	if err != nil {
		return nil, err
	}
	pod := readyPod(pods.Items)
	if pod == nil {
		return nil, fmt.Errorf("namespace %s has no ready Pod with the label %s", o.installNamespace, dispatcherSelector)
	}
	port, security, err := o.ingestOf(ctx, clients, pod)
	if err != nil {
		return nil, err
	}
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
	f := &forwarded{tls: security, stop: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:" + strconv.Itoa(port)}, f.stop, ready, io.Discard, o.ErrOut)
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
	scheme := "http"
	if f.tls != nil {
		scheme = "https"
	}
	f.url = scheme + "://127.0.0.1:" + strconv.Itoa(int(ports[0].Local))
	return f, nil
}

// ingestOf returns the port of a dispatcher on which it takes events, and how to speak TLS with it, or nil: its
// certificate is that of the Service, by the authority that the installation publishes for senders.
func (o *sendOptions) ingestOf(ctx context.Context, clients kubernetes.Interface, pod *corev1.Pod) (int, *tls.Config, error) {
	port := namedPort(pod, ingestPortName)
	if port == 0 {
		return loopbackPort, nil, nil
	}
	authority, err := clients.CoreV1().ConfigMaps(o.installNamespace).Get(ctx, ingestCA, metav1.GetOptions{})
	if err != nil {
		return 0, nil, fmt.Errorf("get the authority of ingest's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(authority.Data[caKey])) {
		return 0, nil, fmt.Errorf("ConfigMap %s/%s has no certificate in %s", o.installNamespace, ingestCA, caKey)
	}
	security := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: ingestService + "." + o.installNamespace + ".svc"}
	return port, security, nil
}

// namedPort returns the port of a Pod with a name, or 0.
func namedPort(pod *corev1.Pod, name string) int {
	for i := range pod.Spec.Containers {
		for _, port := range pod.Spec.Containers[i].Ports {
			if port.Name == name {
				return int(port.ContainerPort)
			}
		}
	}
	return 0
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
