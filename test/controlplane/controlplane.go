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

// Package controlplane starts and stops a real Kubernetes control plane on loopback, for tests and the demo. It has
// etcd, kube-apiserver with RBAC, and kube-controller-manager with the controllers for garbage collection, namespace
// deletion and service accounts. It has no kubelet, so a Pod stays Pending.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// startTries bounds how often Start chooses new ports because another process took one first.
const startTries = 3

// Options configure a control plane. The zero value suits tests.
type Options struct {
	// CRDPaths are files or folders of CustomResourceDefinitions to install. The default is config/crd/bases of this
	// module.
	CRDPaths []string
	// WithoutCRDs installs no CustomResourceDefinitions. The garbage collector discovers kinds that are installed
	// later within 30 seconds.
	WithoutCRDs bool
	// Fsync makes etcd sync to the disk before it answers, as in a cluster. Tests do not need it.
	Fsync bool
	// Authentication is the content of an AuthenticationConfiguration, by which the API server trusts further issuers.
	Authentication string
	// Log receives a line for each step, and the progress of a build. The default is no log.
	Log io.Writer
	// Dir is the folder of data, keys and logs, which Stop keeps. It must be empty or not exist. Its path should be
	// short, because it contains Unix sockets. The default is a temporary folder that Stop removes.
	Dir string
}

// ControlPlane is a running control plane. Kubectl and the methods for service accounts are safe for concurrent use,
// the other methods are not.
type ControlPlane struct {
	// Config is the client configuration of a cluster administrator.
	Config *rest.Config
	// Kubeconfig is the path of the same administrator's kubeconfig file. Stop removes it, unless Options.Dir is set.
	Kubeconfig string
	// AssetsDir has the programs etcd, kube-apiserver, kube-controller-manager and kubectl.
	AssetsDir string
	// Dir has data, keys, and the logs etcd.log, kube-apiserver.log and kube-controller-manager.log.
	Dir string

	log               io.Writer
	authentication    string
	temporary         bool
	certificates      *authority
	etcd              *process
	apiServer         *process
	controllerManager *process
}

// Start starts a control plane and returns once it serves and its CustomResourceDefinitions are established. ctx
// bounds only the start: call Stop to end the programs. If Start fails, no program is left running, and the error has
// the last output of the failed program.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	assets, err := Assets(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{AssetsDir: assets, Dir: o.Dir, log: o.Log, authentication: o.Authentication}
	if err := c.prepare(o); err != nil {
		return nil, errors.Join(err, c.cleanUp())
	}
	if err := c.startAll(ctx, o); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Stop ends every program, the newest first, and removes the temporary folder.
func (c *ControlPlane) Stop() error {
	return errors.Join(c.controllerManager.stop(), c.apiServer.stop(), c.etcd.stop(), c.cleanUp())
}

// StopAPIServer kills the API server, as in a crash: requests and watches are aborted, and new ones are refused until
// StartAPIServer.
func (c *ControlPlane) StopAPIServer() error {
	return c.apiServer.stop()
}

// StartAPIServer restarts the API server on the same port and data.
func (c *ControlPlane) StartAPIServer() error {
	ctx := context.Background()
	if err := c.apiServer.start(ctx); err != nil {
		return err
	}
	// The controller manager usually outlives an outage, but not a long one.
	return c.controllerManager.start(ctx)
}

// RestartAPIServer stops and starts the API server, on the same port and data.
func (c *ControlPlane) RestartAPIServer() error {
	if err := c.StopAPIServer(); err != nil {
		return err
	}
	return c.StartAPIServer()
}

// StopEtcd kills etcd, as in a crash. The API server runs on, but cannot read or write until StartEtcd.
func (c *ControlPlane) StopEtcd() error {
	if !c.etcd.running() {
		return nil
	}
	return c.etcd.kill()
}

// StartEtcd restarts etcd on the same data. If the API server runs, StartEtcd waits until it serves again.
func (c *ControlPlane) StartEtcd() error {
	ctx := context.Background()
	if err := c.etcd.start(ctx); err != nil {
		return err
	}
	if c.apiServer.running() {
		if err := c.apiServer.waitReady(ctx); err != nil {
			return fmt.Errorf("wait for %s: %w", c.apiServer.name(), err)
		}
	}
	return c.controllerManager.start(ctx)
}

// PIDs returns the process ids of the running programs by name, for measurements of their resource usage.
func (c *ControlPlane) PIDs() map[string]int {
	pids := map[string]int{}
	for _, p := range []*process{c.etcd, c.apiServer, c.controllerManager} {
		if pid := p.pid(); pid != 0 {
			pids[p.name()] = pid
		}
	}
	return pids
}

// prepare creates the folder, the keys and the processes, without starting any.
func (c *ControlPlane) prepare(o Options) error {
	if err := c.makeDir(); err != nil {
		return err
	}
	if err := c.makeCertificates(); err != nil {
		return err
	}
	c.etcd = c.newEtcd(o.Fsync)
	return c.choosePorts()
}

func (c *ControlPlane) makeDir() error {
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "postback-")
		if err != nil {
			return fmt.Errorf("make the control plane's folder: %w", err)
		}
		c.Dir, c.temporary = dir, true
		return nil
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fmt.Errorf("make the control plane's folder: %w", err)
	}
	c.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the control plane's folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("make the control plane's folder: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("the control plane's folder %s is not empty: remove it or choose another", dir)
	}
	return nil
}

func (c *ControlPlane) cleanUp() error {
	if !c.temporary {
		return nil
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return fmt.Errorf("remove the control plane's folder: %w", err)
	}
	return nil
}

func (c *ControlPlane) startAll(ctx context.Context, o Options) error {
	c.say("Starting etcd")
	if err := c.etcd.start(ctx); err != nil {
		return err
	}
	if err := c.startOnPorts(ctx, o); err != nil {
		return err
	}
	c.say("The control plane serves on %s", c.Config.Host)
	return nil
}

// startOnPorts starts the programs that listen on ports. No port can be reserved for another process, so it tries new
// ports if another process takes one meanwhile.
func (c *ControlPlane) startOnPorts(ctx context.Context, o Options) error {
	var err error
	for range startTries {
		if err = c.startServers(ctx, o); err == nil || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
		if stopErr := errors.Join(c.controllerManager.stop(), c.apiServer.stop()); stopErr != nil {
			return errors.Join(err, stopErr)
		}
		if portErr := c.choosePorts(); portErr != nil {
			return errors.Join(err, portErr)
		}
	}
	return err
}

func (c *ControlPlane) startServers(ctx context.Context, o Options) error {
	c.say("Starting kube-apiserver")
	if err := c.apiServer.start(ctx); err != nil {
		return err
	}
	// The garbage collector discovers kinds at its start, and then only every 30 seconds. So the kinds come first.
	if err := c.installCRDs(o); err != nil {
		return err
	}
	c.say("Starting kube-controller-manager")
	return c.controllerManager.start(ctx)
}

func (c *ControlPlane) installCRDs(o Options) error {
	if o.WithoutCRDs {
		return nil
	}
	paths := o.CRDPaths
	if len(paths) == 0 {
		root, err := ModuleRoot()
		if err != nil {
			return err
		}
		paths = []string{filepath.Join(root, "config", "crd", "bases")}
	}
	c.say("Installing CustomResourceDefinitions")
	_, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{Paths: paths, ErrorIfPathMissing: true})
	if err != nil {
		return fmt.Errorf("install CustomResourceDefinitions: %w", err)
	}
	return nil
}

func (c *ControlPlane) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.log, format+"\n", args...)
}
