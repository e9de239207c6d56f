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
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// logTailLines is the number of log lines in an error.
const logTailLines = 30

// program is a process of the node.
type program struct {
	path string
	args []string
}

func (u *upper) etcd() program {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return program{filepath.Join(u.controlPlane, "etcd"), []string{
		"--data-dir=" + u.path("etcd"),
		"--unsafe-no-fsync",
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--log-level=warn",
	}}
}

func (u *upper) apiServer() program {
	return program{filepath.Join(u.controlPlane, "kube-apiserver"), []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + nodeIP,
		"--secure-port=6443",
		"--tls-cert-file=" + u.key("apiserver.crt"),
		"--tls-private-key-file=" + u.key("apiserver.key"),
		"--client-ca-file=" + u.key("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + u.key("tokens.key"),
		"--service-account-signing-key-file=" + u.key("tokens.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--kubelet-client-certificate=" + u.key("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + u.key("apiserver-kubelet.key"),
		"--kubelet-certificate-authority=" + u.key("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
	}}
}

func (u *upper) controllerManager() program {
	return program{filepath.Join(u.controlPlane, "kube-controller-manager"), []string{
		"--kubeconfig=" + u.key("controller-manager.kubeconfig"),
		"--use-service-account-credentials",
		"--service-account-private-key-file=" + u.key("tokens.key"),
		"--root-ca-file=" + u.key("ca.crt"),
		"--leader-elect=false",
		"--flex-volume-plugin-dir=" + u.path("volume-plugins"),
	}}
}

func (u *upper) scheduler() program {
	return program{filepath.Join(u.programs, "kube-scheduler"), []string{
		"--kubeconfig=" + u.key("scheduler.kubeconfig"),
		"--leader-elect=false",
	}}
}

func (u *upper) containerd() program {
	return program{filepath.Join(u.programs, "containerd"), []string{"--config=" + u.path("containerd.toml")}}
}

func (u *upper) kubelet() program {
	return program{filepath.Join(u.programs, "kubelet"), []string{
		"--config=" + u.path("kubelet.yaml"),
		"--kubeconfig=" + u.key("kubelet.kubeconfig"),
		"--root-dir=" + u.path("kubelet"),
		"--hostname-override=" + nodeName,
		"--node-ip=" + nodeIP,
	}}
}

func (u *upper) kubeProxy() program {
	return program{filepath.Join(u.programs, "kube-proxy"), []string{"--config=" + u.path("kube-proxy.yaml")}}
}

// start starts a program. If it ends before the command does, u.ended receives an error.
func (u *upper) start(p program) error {
	name := filepath.Base(p.path)
	log, err := os.Create(u.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(p.path, p.args...)
	command.Dir, command.Stdout, command.Stderr = u.state, log, log
	// containerd finds its shim, and plugins find iptables, by PATH.
	command.Env = append(os.Environ(), "PATH="+u.programs+":"+os.Getenv("PATH"))
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches only the command.
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		err := command.Wait()
		u.ended <- fmt.Errorf("%s ended: %w; the end of its log:\n%s", name, errOr(err, "exit status 0"), logTail(log.Name()))
	}()
	return nil
}

func errOr(err error, otherwise string) error {
	if err == nil {
		return errors.New(otherwise)
	}
	return err
}

func logTail(path string) []byte {
	content, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-logTailLines):], []byte("\n"))
}
