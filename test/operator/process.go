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

package operator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

const (
	loopback = "127.0.0.1"
	// Test endpoints listen on loopback, which a dispatcher refuses by default.
	loopbackCIDRs = "127.0.0.0/8,::1/128"
	startTries    = 3

	startTimeout  = 3 * time.Minute
	pollInterval  = 50 * time.Millisecond
	startLogLines = 40
	// defaultGrace is the default grace period of a Pod.
	defaultGrace = 30 * time.Second
	portIsTaken  = "address already in use"
)

// Process is a replica of the manager, the dispatcher or the portal. It may end and be restarted, with the same
// addresses. Its methods are safe for concurrent use, except Restart.
type Process struct {
	// Name of its Pod, which is also its identity.
	Name string

	operator  *Operator
	namespace string
	path      string
	template  *corev1.PodTemplateSpec
	args, env []string
	// extra are the arguments of SetArgs.
	extra     []string
	apiServer *clientcmdapi.Cluster
	unready   bool
	ingests   bool
	portal    bool
	tls       bool
	restarts  bool

	// ingest, metrics and probes are addresses, host:port. ingest also serves the portal's pages.
	ingest, metrics, probes string
	// placed is true if the caller has set ingest, so no free port is needed for it.
	placed  bool
	logPath string

	mu      sync.Mutex
	command *exec.Cmd
	// done is closed when the process has ended.
	done chan struct{}
	// awaited is true if a test has ended the process, or waits for its end.
	awaited bool
}

// IngestURL returns the base URL of a dispatcher's ingest.
func (p *Process) IngestURL() string {
	if p.tls {
		return "https://" + p.ingest
	}
	return "http://" + p.ingest
}

// MetricsURL returns the URL of the metrics.
func (p *Process) MetricsURL() string { return "http://" + p.metrics + "/metrics" }

// Metrics returns the metrics of the process, in the text format of Prometheus.
func (p *Process) Metrics(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.MetricsURL(), http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", p.Name, err)
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// ReadyURL returns the URL of the readiness probe.
func (p *Process) ReadyURL() string {
	path := "/readyz"
	if probe := p.template.Spec.Containers[0].ReadinessProbe; probe != nil && probe.HTTPGet != nil {
		path = probe.HTTPGet.Path
	}
	return "http://" + p.probes + path
}

// startOnFreePorts starts the process, and tries new ports if another process takes one first.
func (p *Process) startOnFreePorts(ctx context.Context) error {
	var err error
	for range startTries {
		if err = p.choosePorts(); err != nil {
			return err
		}
		if err = p.Restart(ctx); err == nil || !strings.Contains(err.Error(), portIsTaken) {
			return err
		}
	}
	return err
}

func (p *Process) choosePorts() error {
	for _, address := range []*string{&p.ingest, &p.metrics, &p.probes} {
		if address == &p.ingest && p.placed {
			continue
		}
		port, err := controlplane.FreePort()
		if err != nil {
			return err
		}
		*address = net.JoinHostPort(loopback, strconv.Itoa(port))
	}
	return nil
}

// SetArgs adds arguments from the next start on. It replaces those of earlier calls.
func (p *Process) SetArgs(args ...string) { p.extra = args }

// Restart restarts an ended process with the same identity, addresses and arguments, and returns once it is ready.
func (p *Process) Restart(ctx context.Context) error {
	if p.Running() {
		return fmt.Errorf("start %s: it runs", p.Name)
	}
	if err := p.launch(ctx); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	if p.unready {
		return nil
	}
	if err := p.WaitReady(ctx); err != nil {
		err = fmt.Errorf("start %s: %w; the end of its log:\n%s", p.Name, err, p.LogTail(startLogLines))
		return errors.Join(err, p.Kill())
	}
	return nil
}

// RestartIfEnded restarts a process that has ended by itself, as a kubelet does: a manager that cannot renew its
// Lease ends.
func (p *Process) RestartIfEnded(ctx context.Context) error {
	if p.Running() {
		return nil
	}
	return p.Restart(ctx)
}

func (p *Process) launch(ctx context.Context) error {
	pod, err := p.ensurePod(ctx)
	if err != nil {
		return err
	}
	container := &p.template.Spec.Containers[0]
	settings, err := p.settings(ctx, container)
	if err != nil {
		return err
	}
	values, err := environment(container, pod, settings)
	if err != nil {
		return err
	}
	kubeconfig, err := p.kubeconfig(ctx, pod.Spec.ServiceAccountName)
	if err != nil {
		return err
	}
	if p.tls {
		if err := p.mount(ctx); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	command := exec.Command(p.path, p.arguments(container, values)...)
	// As in a container, the process inherits no other environment.
	command.Env = []string{"KUBECONFIG=" + kubeconfig, "HOME=" + p.operator.Dir, "TMPDIR=" + os.TempDir()}
	for name, value := range values {
		command.Env = append(command.Env, name+"="+value)
	}
	command.Env = append(command.Env, p.env...)
	command.Dir, command.Stdout, command.Stderr = p.operator.Dir, log, log
	command.SysProcAttr = controlplane.ChildAttributes()
	return p.run(command)
}

// run starts the program from a goroutine that keeps its thread until the program ends. Linux ties the parent-death
// signal to the thread that forked.
func (p *Process) run(command *exec.Cmd) error {
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			// command.ProcessState tells how the process ended.
			_ = command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.command, p.done, p.awaited = command, done, false
	return nil
}

// await marks the end of the process as wanted by a test.
func (p *Process) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited = true
}

// EndedByItself returns an error if the process has ended although no test ended it or waited for that, and nothing
// restarts it.
func (p *Process) EndedByItself() error {
	p.mu.Lock()
	command, awaited := p.command, p.awaited
	p.mu.Unlock()
	if command == nil || awaited || p.Running() || p.restarts && p.lostLease() {
		return nil
	}
	return fmt.Errorf("%s ended by itself: %s; the end of its log:\n%s", p.Name, command.ProcessState, p.LogTail(startLogLines))
}

func (p *Process) current() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.command, p.done
}

// Running reports whether the process runs.
func (p *Process) Running() bool {
	_, done := p.current()
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// PID returns the process id, or 0 if the process does not run.
func (p *Process) PID() int {
	command, _ := p.current()
	if command == nil || !p.Running() {
		return 0
	}
	return command.Process.Pid
}

// WaitReady returns once the readiness probe answers 200, or an error if the process ends first.
func (p *Process) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	command, done := p.current()
	for {
		err := p.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("it ended: %s", command.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (%w)", err, ctx.Err())
		case <-ticker.C:
		}
	}
}

func (p *Process) probe(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ReadyURL(), http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the readiness probe answers %s", response.Status)
	}
	return nil
}

// Signal sends a signal to the process.
func (p *Process) Signal(signal syscall.Signal) error {
	command, _ := p.current()
	if command == nil {
		return fmt.Errorf("signal %s: it was never started", p.Name)
	}
	if err := command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill kills the process (SIGKILL) and returns when it is gone. Its Pod stays, as when a container is restarted.
func (p *Process) Kill() error {
	p.await()
	if !p.Running() {
		return nil
	}
	_, done := p.current()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-done
	return nil
}

// Terminate ends the process as a kubelet does. It sends SIGTERM, kills the process after the Deployment's grace
// period, which is an error, and deletes the Pod. It returns the exit code.
func (p *Process) Terminate(ctx context.Context) (exitCode int, err error) {
	p.await()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	grace := defaultGrace
	if seconds := p.template.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	limited, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	code, err := p.WaitExit(limited)
	if err != nil {
		return code, errors.Join(err, p.Kill())
	}
	return code, p.DeletePod(ctx)
}

// WaitExit waits for the end of the process and returns its exit code; -1 means that a signal ended it.
func (p *Process) WaitExit(ctx context.Context) (exitCode int, err error) {
	command, done := p.current()
	if command == nil {
		return 0, fmt.Errorf("wait for %s: it was never started", p.Name)
	}
	p.await()
	select {
	case <-done:
		return command.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for %s to end: %w", p.Name, ctx.Err())
	}
}

// Log returns the output of the process so far, over all its runs.
func (p *Process) Log() string {
	content, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// LogTail returns the newest lines of Log.
func (p *Process) LogTail(lines int) string {
	all := bytes.Split(bytes.TrimSpace([]byte(p.Log())), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
