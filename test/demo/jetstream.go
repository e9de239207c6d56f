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
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// door is the address of ingest.
type door struct {
	// url is the base URL of ingest, and curl a command line for it. client connects to address instead of the URL's
	// host.
	url, curl, address string
	client             *http.Client
}

// storeDir is the directory of the embedded NATS server. It is removed with the operator's files.
func (d *demo) storeDir() string { return filepath.Join(d.op.Dir, "nats") }

// streamFlags are options for a dispatcher with an embedded NATS server and TLS, which a client certificate for the
// delivery log needs.
func (d *demo) streamFlags() []operator.Option {
	return []operator.Option{operator.WithArgs("--intake="+jetStreamIntake, "--nats-embedded", "--nats-store-dir="+d.storeDir()), operator.WithTLS()}
}

// openTLS explains what differs with streams, and finds the dispatcher's address for producers and the kubectl
// plugin.
func (d *demo) openTLS(ctx context.Context) error {
	d.out.say("The dispatcher also gets --intake=%s --nats-embedded --nats-store-dir=%s", jetStreamIntake, d.storeDir())
	d.out.say("The NATS server in its process has each message on the disk before ingest answers.")
	d.out.say("Ingest serves TLS, as in a cluster. Without a kubelet there is no port-forward to it, so the Lease names its URL")
	d.out.say("to the kubectl plugin:")
	bundle := &corev1.ConfigMap{}
	if err := d.client.Get(ctx, client.ObjectKey{Namespace: operator.Namespace, Name: v1alpha1.IngestCAName}, bundle); err != nil {
		return fmt.Errorf("read the CA of ingest: %w", err)
	}
	text := bundle.Data[v1alpha1.CABundleKey]
	file := filepath.Join(d.op.Dir, "ingest-ca.crt")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the CA of ingest: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(text)) {
		return errors.New("the CA of ingest is no certificate")
	}
	name := v1alpha1.IngestServiceName + "." + operator.Namespace + ".svc"
	address := strings.TrimPrefix(d.dispatcher.IngestURL(), "https://")
	d.door = door{
		url:     "https://" + name,
		curl:    "curl --cacert " + file + " --connect-to ::" + address,
		address: d.dispatcher.IngestURL(),
		client:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: name}}},
	}
	lease := "lease/" + v1alpha1.IntakeLeaseName
	if err := d.kubectl(ctx, "-n", operator.Namespace, "wait", "--for=create", "--timeout=60s", lease); err != nil {
		return err
	}
	return d.kubectl(ctx, "-n", operator.Namespace, "annotate", lease, v1alpha1.IngestURLAnnotation+"="+d.dispatcher.IngestURL())
}

// showStreams shows the events with a single attempt: they are in the delivery log, and not at the API server.
func (d *demo) showStreams(ctx context.Context) error {
	d.out.step("The delivery log")
	d.out.say("Events that succeeded on the first attempt are in a stream only. The plugin shows them, and the retried one, alike:")
	plugin, err := d.program(ctx, "kubectl-postback")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var text string
	// The endpoint receives an event a moment before it is in the delivery log.
	err = wait.PollUntilContextCancel(ctx, lookInterval, true, func(ctx context.Context) (bool, error) {
		command := exec.CommandContext(ctx, plugin, "--kubeconfig", d.cp.Kubeconfig, "-n", namespace, "events", postback)
		output, err := command.Output()
		if err != nil {
			return false, fmt.Errorf("run the plugin: %w", err)
		}
		text = string(output)
		return len(d.unlogged(text)) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait until the delivery log has all events: %w; it lacks %v", err, d.unlogged(text))
	}
	d.out.command("kubectl postback -n " + namespace + " events " + postback)
	d.out.output(text)
	return nil
}

// unlogged returns the ids of events that are not exactly once in a table.
func (d *demo) unlogged(table string) (ids []string) {
	for _, p := range d.events {
		if strings.Count(table, p.id) != 1 {
			ids = append(ids, p.id)
		}
	}
	return ids
}
