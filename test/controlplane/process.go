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

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	// A busy machine needs more time.
	startTimeout = 3 * time.Minute
	stopTimeout  = 20 * time.Second
	pollInterval = 50 * time.Millisecond
	logTailLines = 40
)

// process is a program of the control plane. It can be restarted after it was stopped.
type process struct {
	path    string
	args    []string
	logPath string
	// abrupt is true if stop kills the program instead of asking it to end.
	abrupt bool
	// ready returns nil once the program serves.
	ready func(context.Context) error

	command *exec.Cmd
	// done is closed when the program has ended; exit is its error.
	done chan struct{}
	exit error
}

func (p *process) name() string { return filepath.Base(p.path) }

// start starts the program and returns once it is ready. If that fails, the program is not left running, and the
// error ends with its newest output.
func (p *process) start(ctx context.Context) error {
	if p.running() {
		return nil
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.name(), err)
	}
	defer log.Close()

	p.command = exec.Command(p.path, p.args...)
	p.command.Dir = filepath.Dir(p.logPath)
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = ChildAttributes()
	if err := p.launch(); err != nil {
		return fmt.Errorf("start %s: %w", p.name(), err)
	}
	if err := p.waitReady(ctx); err != nil {
		err = fmt.Errorf("start %s: %w; the end of %s:\n%s", p.name(), err, p.logPath, p.logTail())
		return errors.Join(err, p.stop())
	}
	return nil
}

// launch starts the program from a goroutine that keeps its thread until the program ends. Linux ties the
// parent-death signal to the thread that forked.
func (p *process) launch() error {
	started := make(chan error, 1)
	p.done = make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			p.exit = p.command.Wait()
		}
		close(p.done)
	}()
	return <-started
}

func (p *process) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", errOr(p.exit, "exit status 0"))
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (%w)", err, ctx.Err())
		case <-ticker.C:
		}
	}
}

// stop asks the program to end, and kills it after stopTimeout.
func (p *process) stop() error {
	if !p.running() {
		return nil
	}
	if p.abrupt {
		return p.kill()
	}
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name(), err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
	}
	return errors.Join(p.kill(), fmt.Errorf("%s did not end within %s of being asked to and was killed", p.name(), stopTimeout))
}

func (p *process) kill() error {
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name(), err)
	}
	<-p.done
	return nil
}

func (p *process) running() bool {
	if p.command == nil || p.command.Process == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// pid returns the process id, or 0 if the program does not run.
func (p *process) pid() int {
	if !p.running() {
		return 0
	}
	return p.command.Process.Pid
}

func (p *process) logTail() []byte {
	content, err := os.ReadFile(p.logPath)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-logTailLines):], []byte("\n"))
}

func errOr(err error, otherwise string) error {
	if err == nil {
		return errors.New(otherwise)
	}
	return err
}
