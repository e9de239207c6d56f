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
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// These stages follow run, each in its own process: the init of the namespaces, then the process that brings the node
// up.
const (
	stageInit = "init"
	stageUp   = "up"
)

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// missingError names a requirement of the node that this machine lacks.
type missingError struct{ what string }

func (e *missingError) Error() string { return "no node can run here: " + e.what }

// check returns a missingError if this machine cannot run a node.
func check() error {
	if os.Geteuid() != 0 {
		return &missingError{"it needs root"}
	}
	for _, program := range []string{"runc", "iptables", "nft", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			return &missingError{"the program " + program + " is not installed; Debian's packages are runc, iptables and nftables"}
		}
	}
	hierarchies, err := readHierarchies()
	if err != nil {
		return err
	}
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids", "devices", "freezer"} {
		if !hierarchies.have(controller) {
			return &missingError{"the control group controller " + controller + " has no hierarchy of version 1; version 2 is not supported yet"}
		}
	}
	// A container may lack the rights to create namespaces.
	probe := exec.Command("/proc/self/exe")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces | unix.CLONE_NEWCGROUP}
	if err := probe.Start(); err != nil {
		return &missingError{"namespaces cannot be made: " + err.Error()}
	}
	_ = probe.Wait() // The probe prints its usage and fails.
	return nil
}

// run runs the node and the command, and returns the exit status of the command.
func run(o options) (int, error) {
	if err := check(); err != nil {
		return 0, err
	}
	if len(o.command) == 0 {
		return 0, errors.New("name a command to run")
	}
	unlock, err := lock(o.state)
	if err != nil {
		return 0, err
	}
	defer unlock()
	hierarchies, err := readHierarchies()
	if err != nil {
		return 0, err
	}
	if err := hierarchies.removeLeftOver(); err != nil {
		return 0, err
	}
	status, err := runInNamespaces(o)
	return status, errors.Join(err, hierarchies.remove(o.group))
}

// lock empties the state folder, and locks it against another node.
func lock(state string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(state+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another node runs in %s: %w", state, err), file.Close())
	}
	if err := os.RemoveAll(state); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, os.MkdirAll(state, 0o755)
}

// runInNamespaces starts the init and waits for its end, with which every process in the namespaces ends. The kernel
// kills the init if this process dies, because its thread is locked.
func runInNamespaces(o options) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	command := exec.Command("/proc/self/exe", o.args(stageInit)...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("make the namespaces: %w", err)
	}
	go func() {
		if _, ok := <-signals; ok {
			_ = command.Process.Kill()
		}
	}()
	err := command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() < 0 {
			return 0, fmt.Errorf("the node was ended: %w", err)
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// runInit is the first process in the namespaces. It enters control groups of its own, starts the next stage, and
// reaps orphaned processes.
func runInit(o options) (int, error) {
	// Later mounts stay in this mount namespace.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("separate the mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 0, fmt.Errorf("mount /proc: %w", err)
	}
	hierarchies, err := readHierarchies()
	if err != nil {
		return 0, err
	}
	if err := hierarchies.enter(o.group); err != nil {
		return 0, err
	}
	next, err := os.StartProcess("/proc/self/exe", append([]string{"node"}, o.args(stageUp)...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env:   os.Environ(),
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWCGROUP},
	})
	if err != nil {
		return 0, fmt.Errorf("start the node: %w", err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the node: %w", err)
		case pid == next.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == next.Pid:
			return 0, fmt.Errorf("the node was ended: %s", strings.ToLower(status.Signal().String()))
		}
	}
}
