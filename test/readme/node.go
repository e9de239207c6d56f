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

package readme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/test/operator"
)

// node replaces the nodes and Deployment controllers of a cluster: it runs the Deployments as processes on this
// machine and writes their status. The operator's programs must be those of op.
type node struct {
	api client.Client
	op  *operator.Operator
	dir string

	mu      sync.Mutex
	running map[client.ObjectKey]*workload
	started int
}

// workload is the running part of one Deployment.
type workload struct {
	template []byte
	replicas int
	stop     []func(context.Context) error
	ingests  []string
	log      func() string
}

// deployments lists the Deployments that the node runs.
var deployments = []client.ObjectKey{
	{Namespace: operator.Namespace, Name: "postback-manager"},
	{Namespace: operator.Namespace, Name: "postback-dispatcher"},
	{Namespace: partner, Name: "receiver"},
}

const partner = "partner-globex"

// run keeps the processes as the Deployments say, until ctx ends.
func (n *node) run(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, key := range deployments {
			if err := n.reconcile(ctx, key); err != nil && ctx.Err() == nil {
				return fmt.Errorf("run Deployment %s: %w", key, err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(polling):
		}
	}
	return nil
}

func (n *node) reconcile(ctx context.Context, key client.ObjectKey) error {
	deployment := &appsv1.Deployment{}
	err := n.api.Get(ctx, key, deployment)
	if apierrors.IsNotFound(err) {
		return n.replace(ctx, key, &workload{})
	}
	if err != nil {
		return err
	}
	template, err := json.Marshal(deployment.Spec.Template)
	if err != nil {
		return err
	}
	replicas := int(*deployment.Spec.Replicas)
	if had := n.workload(key); !bytes.Equal(had.template, template) || had.replicas != replicas {
		// As with a kubelet, a Pod waits for its volumes without blocking the node: the manager makes the
		// dispatcher's Secret, and kubectl may so far have created only the dispatcher's Deployment.
		if mountable, err := n.mountable(ctx, deployment); err != nil || !mountable {
			return err
		}
		w, err := n.start(ctx, deployment)
		if err != nil {
			return err
		}
		w.template, w.replicas = template, replicas
		if err := n.replace(ctx, key, w); err != nil {
			return err
		}
	}
	count := *deployment.Spec.Replicas
	if deployment.Status.ObservedGeneration == deployment.Generation && deployment.Status.Replicas == count {
		return nil
	}
	deployment.Status = appsv1.DeploymentStatus{
		ObservedGeneration: deployment.Generation, Replicas: count, UpdatedReplicas: count, ReadyReplicas: count, AvailableReplicas: count,
	}
	if err := n.api.Status().Update(ctx, deployment); !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// mountable reports whether the Secrets of a Deployment's volumes exist.
func (n *node) mountable(ctx context.Context, d *appsv1.Deployment) (bool, error) {
	for i := range d.Spec.Template.Spec.Volumes {
		source := d.Spec.Template.Spec.Volumes[i].Secret
		if source == nil {
			continue
		}
		err := n.api.Get(ctx, client.ObjectKey{Namespace: d.Namespace, Name: source.SecretName}, &corev1.Secret{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

func (n *node) workload(key client.ObjectKey) *workload {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.running[key]; w != nil {
		return w
	}
	return &workload{}
}

// replace installs a workload and ends the former one.
func (n *node) replace(ctx context.Context, key client.ObjectKey, w *workload) error {
	had := n.workload(key)
	n.mu.Lock()
	n.running[key] = w
	n.mu.Unlock()
	var errs []error
	for _, stop := range had.stop {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}

// stop ends all workloads.
func (n *node) stop(ctx context.Context) error {
	var errs []error
	for _, key := range slices.Backward(deployments) {
		errs = append(errs, n.replace(ctx, key, &workload{}))
	}
	return errors.Join(errs...)
}

func (n *node) start(ctx context.Context, d *appsv1.Deployment) (*workload, error) {
	w := &workload{log: func() string { return "" }}
	for range *d.Spec.Replicas {
		n.started++
		name := fmt.Sprintf("%s-%d", d.Name, n.started)
		switch d.Name {
		case "postback-manager":
			p, err := n.op.StartManager(ctx, name)
			if err != nil {
				return nil, err
			}
			w.stop = append(w.stop, terminate(p))
		case "postback-dispatcher":
			p, err := n.op.StartDispatcher(ctx, name, operator.WithTLS())
			if err != nil {
				return nil, err
			}
			w.stop = append(w.stop, terminate(p))
			w.ingests = append(w.ingests, strings.TrimPrefix(p.IngestURL(), "https://"))
		default:
			if err := n.startContainer(ctx, w, d, name); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

func terminate(p *operator.Process) func(context.Context) error {
	return func(ctx context.Context) error {
		// A program whose rights are being deleted may exit with any code.
		_, err := p.Terminate(context.WithoutCancel(ctx))
		return err
	}
}

// startContainer runs the command of a Pod's container, in a folder with the files of its ConfigMap.
func (n *node) startContainer(ctx context.Context, w *workload, d *appsv1.Deployment, name string) error {
	pod := d.Spec.Template.Spec
	container := pod.Containers[0]
	dir := filepath.Join(n.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	files := &corev1.ConfigMap{}
	if err := n.api.Get(ctx, client.ObjectKey{Namespace: d.Namespace, Name: pod.Volumes[0].ConfigMap.Name}, files); err != nil {
		return err
	}
	for file, content := range files.Data {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			return err
		}
	}
	command := slices.Clone(container.Command)
	for i := range command {
		command[i] = strings.Replace(command[i], container.VolumeMounts[0].MountPath, dir, 1)
	}
	var log bytes.Buffer
	guarded := &guardedWriter{to: &log}
	process := exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...)
	process.Dir, process.Stdout, process.Stderr = dir, guarded, guarded
	process.WaitDelay = patience // A child of the process may keep its output open.
	process.Env = []string{"PATH=" + os.Getenv("PATH")}
	port := ""
	for _, variable := range container.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			secret := &corev1.Secret{}
			if err := n.api.Get(ctx, client.ObjectKey{Namespace: d.Namespace, Name: from.SecretKeyRef.Name}, secret); err != nil {
				return err
			}
			value = string(secret.Data[from.SecretKeyRef.Key])
		}
		if variable.Name == "PORT" {
			port = value
		}
		process.Env = append(process.Env, variable.Name+"="+value)
	}
	// End the former process, which occupies the port. In a cluster each Pod has its own.
	if err := n.replace(ctx, client.ObjectKeyFromObject(d), &workload{}); err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	w.log = guarded.String
	w.stop = append(w.stop, func(context.Context) error {
		err := process.Process.Kill()
		_ = process.Wait() // The error says that it was killed.
		return err
	})
	return answers(ctx, net.JoinHostPort("127.0.0.1", port))
}

// answers returns once a server listens on an address.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(polling):
		}
	}
}

// guardedWriter is a writer that the test may read while a process writes.
type guardedWriter struct {
	mu sync.Mutex
	to *bytes.Buffer
}

// Write implements io.Writer.
func (g *guardedWriter) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.to.Write(p)
}

// String returns the text written so far.
func (g *guardedWriter) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.to.String()
}

// forward forwards connections from the tunnel's port to a dispatcher, as "kubectl port-forward" does, until the
// listener closes.
func (n *node) forward(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go n.pass(connection)
	}
}

func (n *node) pass(connection net.Conn) {
	defer connection.Close()
	ingests := n.workload(deployments[1]).ingests
	if len(ingests) == 0 {
		return
	}
	to, err := net.Dial("tcp", ingests[0])
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{connection, to}, {to, connection}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}
