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

// Package operator installs the operator on a control plane and runs its programs as processes. They have the
// arguments and the environment of the Deployments and tokens of the ServiceAccounts, so that the shipped manifests
// and RBAC are tested. Each process has a Pod object, but no kubelet runs it.
package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

const (
	// Namespace is the namespace of the installation.
	Namespace = "postback-system"
	// PortalNamespace is the namespace of the portal.
	PortalNamespace = "postback-portal"
)

const (
	managerDeployment    = "postback-manager"
	dispatcherDeployment = "postback-dispatcher"
	portalDeployment     = "postback-portal"
	jetStream            = "jetstream"
)

var kinds = []string{
	"crd/postbacks.postback.dev", "crd/postbacksecrets.postback.dev", "crd/postbackdeliveries.postback.dev",
	"crd/postbackstatistics.postback.dev",
}

// Options configure an installation. The zero value suits tests.
type Options struct {
	// Programs is a folder with the programs manager and dispatcher. By default Install builds them, with the race
	// detector if this program has it.
	Programs string
	// Overlay is the kustomize folder to apply. The default is config/default of this module.
	Overlay string
	// Intake is the intake of the dispatchers. With "jetstream" a nats-server is started, too; with
	// "jetstream-embedded" each dispatcher has its own. The default is that of the manifests.
	Intake string
	// NATSNodes is the number of NATS servers, each of which stores the streams. The default is 1.
	NATSNodes int
}

// Operator is an installation. Its methods are safe for concurrent use.
type Operator struct {
	ControlPlane *controlplane.ControlPlane
	// Dir has the programs, kubeconfigs and logs. Stop removes it.
	Dir string
	// Applied is the output of kubectl for the overlay.
	Applied string
	// NATS is nil without the JetStream intake, and with embedded servers.
	NATS *natsserver.Cluster

	programs string
	clients  kubernetes.Interface
	// embedded is nil unless the dispatchers embed NATS servers.
	embedded *embedded

	mu        sync.Mutex
	processes []*Process

	// keepers restart processes, each until its stopKeeping is called.
	keepers     sync.WaitGroup
	stopKeeping []context.CancelFunc
}

// Install builds the programs and applies the manifests with the real kubectl. It starts no process.
func Install(ctx context.Context, cp *controlplane.ControlPlane, o Options) (*Operator, error) {
	root, err := controlplane.ModuleRoot()
	if err != nil {
		return nil, err
	}
	if o.Overlay == "" {
		o.Overlay = filepath.Join(root, "config", "default")
	}
	dir, err := os.MkdirTemp("", "postback-operator-")
	if err != nil {
		return nil, fmt.Errorf("make the operator's folder: %w", err)
	}
	operator := &Operator{ControlPlane: cp, Dir: dir, programs: o.Programs}
	if err := operator.install(ctx, root, o); err != nil {
		return nil, errors.Join(err, operator.Stop(ctx))
	}
	return operator, nil
}

// Installed returns an Operator for an installation made by other means, such as Helm, with the programs of a folder.
func Installed(cp *controlplane.ControlPlane, programs string) (*Operator, error) {
	clients, err := kubernetes.NewForConfig(cp.Config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	dir, err := os.MkdirTemp("", "postback-operator-")
	if err != nil {
		return nil, fmt.Errorf("make the operator's folder: %w", err)
	}
	return &Operator{ControlPlane: cp, Dir: dir, programs: programs, clients: clients}, nil
}

func (o *Operator) install(ctx context.Context, root string, options Options) error {
	if o.programs == "" {
		o.programs = o.Dir
		if err := Build(ctx, root, o.Dir); err != nil {
			return err
		}
	}
	var err error
	if o.clients, err = kubernetes.NewForConfig(o.ControlPlane.Config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	switch options.Intake {
	case embeddedJetStream:
		if o.embedded, err = newEmbedded(options.NATSNodes); err != nil {
			return err
		}
	case jetStream:
		// The bound of each stream is reserved, and tests create further streams. The disk space itself is used only
		// on demand.
		nats := natsserver.Options{Dir: o.Dir, SyncAlways: true, MaxFileStore: "64GB", Nodes: options.NATSNodes}
		if o.NATS, err = natsserver.Start(ctx, nats, os.Stderr); err != nil {
			return err
		}
	}
	if o.Applied, _, err = o.ControlPlane.Kubectl(ctx, "", "apply", "-k", options.Overlay); err != nil {
		return err
	}
	_, _, err = o.ControlPlane.Kubectl(ctx, "", append([]string{"wait", "--for=condition=Established", "--timeout=3m"}, kinds...)...)
	return err
}

// StartManager starts a manager with the name of its Pod and returns once it is ready.
func (o *Operator) StartManager(ctx context.Context, name string, options ...Option) (*Process, error) {
	return o.start(ctx, Namespace, managerDeployment, "manager", name, options)
}

// StartDispatcher starts a dispatcher replica with the name of its Pod and returns once it is ready.
func (o *Operator) StartDispatcher(ctx context.Context, name string, options ...Option) (*Process, error) {
	return o.start(ctx, Namespace, dispatcherDeployment, "dispatcher", name, options)
}

// StartPortal starts a replica of the portal with the name of its Pod and returns once it is ready. config/portal
// must be installed. The portal serves TLS with the certificate of the mounted Secret.
func (o *Operator) StartPortal(ctx context.Context, name string, options ...Option) (*Process, error) {
	return o.start(ctx, PortalNamespace, portalDeployment, "portal", name, append(options, WithTLS()))
}

func (o *Operator) start(ctx context.Context, namespace, deployment, program, name string, options []Option) (*Process, error) {
	shipped, err := o.clients.AppsV1().Deployments(namespace).Get(ctx, deployment, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("start %s: get its Deployment: %w", name, err)
	}
	p, err := o.newProcess(shipped, program, name, options)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	o.mu.Lock()
	o.processes = append(o.processes, p)
	o.mu.Unlock()
	if err := p.startOnFreePorts(ctx); err != nil {
		return p, err
	}
	if p.restarts {
		o.keepRunning(ctx, p)
	}
	return p, nil
}

// keepRunning restarts a process that has lost its Lease, until Stop.
func (o *Operator) keepRunning(ctx context.Context, p *Process) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopKeeping = append(o.stopKeeping, stop)
	o.keepers.Go(func() { p.keep(ctx) })
}

func (o *Operator) newProcess(deployment *appsv1.Deployment, program, name string, options []Option) (*Process, error) {
	template := &deployment.Spec.Template
	if len(template.Spec.Containers) != 1 {
		return nil, fmt.Errorf("Deployment %s has %d containers, not one", deployment.Name, len(template.Spec.Containers))
	}
	p := &Process{
		Name:      name,
		operator:  o,
		namespace: deployment.Namespace,
		path:      filepath.Join(o.programs, program),
		template:  template,
		logPath:   filepath.Join(o.Dir, name+".log"),
		ingests:   program == "dispatcher",
		portal:    program == "portal",
	}
	switch {
	case !p.ingests:
	case o.NATS != nil:
		p.args = append(p.args, "--intake=jetstream", "--nats-url="+o.NATS.URL(), "--nats-replicas="+strconv.Itoa(len(o.NATS.Nodes)))
	case o.EmbedsNATS():
		o.embed(p)
	}
	for _, option := range options {
		option(p)
	}
	return p, nil
}

// Processes returns every started process, in order.
func (o *Operator) Processes() []*Process {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*Process(nil), o.processes...)
}

// Stop ends every process, newest first, and removes Dir. It leaves the applied objects. It returns an error if a
// process exits with another code than 0, or has ended by itself.
func (o *Operator) Stop(ctx context.Context) error {
	for _, stop := range o.stopKeeping {
		stop()
	}
	o.keepers.Wait()
	var errs []error
	processes := o.Processes()
	for i := len(processes) - 1; i >= 0; i-- {
		if !processes[i].Running() {
			errs = append(errs, processes[i].EndedByItself())
			continue
		}
		code, err := processes[i].Terminate(ctx)
		if err == nil && code != 0 {
			err = fmt.Errorf("%s ended with exit code %d; the end of its log:\n%s", processes[i].Name, code, processes[i].LogTail(startLogLines))
		}
		errs = append(errs, err)
	}
	if o.NATS != nil {
		errs = append(errs, o.NATS.Stop())
	}
	if err := os.RemoveAll(o.Dir); err != nil {
		errs = append(errs, fmt.Errorf("remove the operator's folder: %w", err))
	}
	return errors.Join(errs...)
}

// DumpLogs writes the newest log lines of every process.
func (o *Operator) DumpLogs(w io.Writer, lines int) {
	for _, p := range o.Processes() {
		_, _ = fmt.Fprintf(w, "--- log of %s, the newest %d lines ---\n%s\n", p.Name, lines, p.LogTail(lines))
	}
}
