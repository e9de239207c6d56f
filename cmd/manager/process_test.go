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
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

// asManager is the environment variable that makes this test program run as the manager.
const asManager = "POSTBACK_TEST_AS_MANAGER"

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	if os.Getenv(asManager) != "" {
		main()
		return
	}
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

// output collects what a process writes.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// process is a running manager.
type process struct {
	command *exec.Cmd
	output  *output
	probes  string
	ended   chan error
}

func startManager(t *testing.T, kubeconfig string) *process {
	t.Helper()
	port, err := controlplane.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p := &process{output: &output{}, probes: "http://" + address, ended: make(chan error, 1)}
	p.command = exec.Command(os.Args[0], "--namespace=default", "--metrics-bind-address=0", "--health-probe-bind-address="+address)
	p.command.Env = append(os.Environ(), asManager+"=1", "KUBECONFIG="+kubeconfig)
	p.command.Stdout, p.command.Stderr = p.output, p.output
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.command.Wait() }()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		if t.Failed() {
			t.Log(p.output)
		}
	})
	return p
}

// get returns the HTTP status of a probe, or the text of the error.
func (p *process) get(path string) string {
	answer, err := http.Get(p.probes + path)
	if err != nil {
		return err.Error()
	}
	_ = answer.Body.Close()
	return answer.Status
}

// end sends SIGTERM to the process and returns the text of its exit error, "<nil>" for a clean exit.
func (p *process) end() string {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err.Error()
	}
	select {
	case err := <-p.ended:
		return fmt.Sprint(err)
	case <-time.After(2 * gracefulShutdown):
		return "it has not ended"
	}
}

func TestManagerIsReadyOnceItsCachesAreFilled(t *testing.T) {
	t.Parallel()
	p := startManager(t, cp.Kubeconfig)
	NewWithT(t).Eventually(p.get).WithArguments("/readyz").WithTimeout(30 * time.Second).Should(Equal("200 OK"))
	if got := p.end(); got != "<nil>" {
		t.Error(got)
	}
}

// The caches cannot be filled without permissions. The manager is then alive and not ready, and it ends on SIGTERM.
func TestManagerWithoutPermissions(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	g := NewWithT(t)
	g.Eventually(func() error {
		return cp.ServiceAccountKubeconfig(t.Context(), "default", "default", kubeconfig)
	}).WithTimeout(30 * time.Second).Should(Succeed())
	p := startManager(t, kubeconfig)
	g.Eventually(p.output.String).WithTimeout(30 * time.Second).Should(ContainSubstring("is forbidden"))
	if alive, ready := p.get("/healthz"), p.get("/readyz"); alive != "200 OK" || ready != "500 Internal Server Error" {
		t.Errorf("healthz %s, readyz %s", alive, ready)
	}
	if got := p.end(); got != "<nil>" {
		t.Error(got)
	}
}
