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
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// registry begins the names of the node's images. No registry of this name exists.
	registry = "node.test"

	startTimeout = 3 * time.Minute
	pollInterval = 100 * time.Millisecond
)

//go:embed files
var files embed.FS

// upper brings up the node.
type upper struct {
	options

	began time.Time
	// ended receives an error for each program that ends.
	ended chan error
}

// up brings up the node in the namespaces, runs the command, and returns its exit status.
func up(o options) (int, error) {
	u := &upper{options: o, began: time.Now(), ended: make(chan error, 16)}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := u.bringUp(ctx); err != nil {
		select {
		case ended := <-u.ended: // A program that ended is the cause.
			return 0, errors.Join(err, ended)
		default:
			return 0, fmt.Errorf("%w; the logs are in %s", err, u.state)
		}
	}
	return u.runCommand()
}

func (u *upper) bringUp(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"namespaces", func(context.Context) error { return u.setUp() }},
		{"API server", u.startControlPlane},
		{"containerd, images", u.startContainerd},
		{"node", u.startNode},
		{"CoreDNS, NetworkPolicy", u.startAddons},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(os.Stderr, "node: %5.1fs  %s\n", time.Since(u.began).Seconds(), step.name)
	}
	return nil
}

func (u *upper) path(name string) string { return filepath.Join(u.state, name) }
func (u *upper) key(name string) string  { return filepath.Join(u.state, "keys", name) }

func (u *upper) setUp() error {
	if err := mountAll(u.state); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	if err := makeCertificates(u.path("keys")); err != nil {
		return err
	}
	return u.writeFiles()
}

// render fills in the template of an embedded file.
func (u *upper) render(name, user string) ([]byte, error) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return nil, err
	}
	parsed, err := template.ParseFS(files, "files/"+name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]string{
		"State": u.state, "Keys": u.path("keys"), "Programs": u.programs, "Runc": runc, "User": user,
		"NodeName": nodeName, "NodeIP": nodeIP, "PodCIDR": podCIDR, "DNSIP": dnsIP, "PolicyQueue": policyQueue,
		"Registry": registry, "PauseImage": registry + "/pause:node",
	})
	return out.Bytes(), err
}

func (u *upper) writeFiles() error {
	write := func(name, user, path string) error {
		content, err := u.render(name, user)
		if err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o600)
	}
	if err := os.MkdirAll(u.path("cni"), 0o755); err != nil {
		return err
	}
	for name, path := range map[string]string{
		"containerd.toml": u.path("containerd.toml"), "bridge.conflist": u.path("cni/bridge.conflist"),
		"kubelet.yaml": u.path("kubelet.yaml"), "kube-proxy.yaml": u.path("kube-proxy.yaml"), "resolv.conf": u.path("resolv.conf"),
	} {
		if err := write(name, "", path); err != nil {
			return err
		}
	}
	for _, user := range []string{"admin", "kubelet", "controller-manager", "scheduler", "proxy"} {
		if err := write("kubeconfig.yaml", user, u.key(user+".kubeconfig")); err != nil {
			return err
		}
	}
	return nil
}

func (u *upper) startControlPlane(ctx context.Context) error {
	if err := errors.Join(u.start(u.etcd()), u.start(u.containerd()), u.start(u.apiServer())); err != nil {
		return err
	}
	if err := u.await(ctx, func(ctx context.Context) error { return u.kubectl(ctx, nil, "get", "--raw", "/readyz") }); err != nil {
		return err
	}
	return errors.Join(u.start(u.controllerManager()), u.start(u.scheduler()))
}

func (u *upper) startContainerd(ctx context.Context) error {
	const socket = "/run/containerd/containerd.sock"
	err := u.await(ctx, func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return connection.Close()
	})
	if err != nil {
		return err
	}
	own, err := filepath.Glob(filepath.Join(u.programs, "images", "*.tar"))
	if err != nil {
		return err
	}
	for _, archive := range append(own, u.images...) {
		if err := u.exec(ctx, filepath.Join(u.programs, "ctr"), nil, "--namespace=k8s.io", "images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

func (u *upper) startNode(ctx context.Context) error {
	if err := u.apply(ctx, "kube-proxy-rbac.yaml"); err != nil {
		return err
	}
	if err := errors.Join(u.start(u.kubelet()), u.start(u.kubeProxy())); err != nil {
		return err
	}
	return u.await(ctx, func(ctx context.Context) error {
		return u.kubectl(ctx, nil, "wait", "--for=condition=Ready", "--timeout=60s", "node/"+nodeName)
	})
}

func (u *upper) startAddons(ctx context.Context) error {
	if err := u.apply(ctx, "coredns.yaml"); err != nil {
		return err
	}
	if err := u.apply(ctx, "network-policies.yaml"); err != nil {
		return err
	}
	for _, workload := range []string{"deployment/coredns", "daemonset/kube-network-policies"} {
		if err := u.kubectl(ctx, nil, "--namespace=kube-system", "rollout", "status", "--timeout=90s", workload); err != nil {
			return err
		}
	}
	return queueByIPTables(ctx)
}

func (u *upper) apply(ctx context.Context, name string) error {
	manifest, err := u.render(name, "")
	if err != nil {
		return err
	}
	return u.kubectl(ctx, manifest, "apply", "-f", "-")
}

func (u *upper) kubectl(ctx context.Context, stdin []byte, args ...string) error {
	return u.exec(ctx, filepath.Join(u.controlPlane, "kubectl"), stdin, args...)
}

// await repeats a check until it returns nil. It fails early if a program ends.
func (u *upper) await(ctx context.Context, check func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case ended := <-u.ended:
			return ended
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-ticker.C:
		}
	}
}

// kubectlEnvironment keeps kubectl from using the settings and the cache of the user.
func (u *upper) kubectlEnvironment() []string {
	return []string{"KUBECONFIG=" + u.key("admin.kubeconfig"), "KUBECACHEDIR=" + u.path("kubectl"), "KUBERC=off"}
}

func (u *upper) exec(ctx context.Context, path string, stdin []byte, args ...string) error {
	run := exec.CommandContext(ctx, path, args...)
	run.Stdin = bytes.NewReader(stdin)
	run.Env = append(os.Environ(), u.kubectlEnvironment()...)
	if output, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(path), err, bytes.TrimSpace(output))
	}
	return nil
}

// runCommand runs the command with the node's kubeconfig, and with kubectl, ctr and the other programs in its PATH.
func (u *upper) runCommand() (int, error) {
	run := exec.Command(u.command[0], u.command[1:]...)
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
	run.Env = append(os.Environ(), u.kubectlEnvironment()...)
	run.Env = append(run.Env, "POSTBACK_NODE="+u.state, "PATH="+u.controlPlane+":"+u.programs+":"+os.Getenv("PATH"))
	if err := run.Start(); err != nil {
		return 0, fmt.Errorf("run the command: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- run.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() >= 0 {
			return exit.ExitCode(), nil
		}
		return 0, err
	case err := <-u.ended:
		return 0, errors.Join(err, run.Process.Kill())
	}
}
