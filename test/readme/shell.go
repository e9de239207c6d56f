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
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// end precedes the exit status, after the output of a command.
	end = "-- ended with "
	// longest bounds a command. It is longer than any wait on the pages.
	longest = 5 * time.Minute
	// leaving bounds the end of the shell. Then its process group is killed.
	leaving = 10 * time.Second
)

// shell is a bash in which commands are typed one after another, as in a terminal.
type shell struct {
	// alive ends, with a cause, when no command can succeed any more.
	alive   context.Context //nolint:containedctx // It bounds every command of the shell.
	longest time.Duration
	leaving time.Duration
	stdin   io.WriteCloser
	output  *bufio.Reader
	pipe    *os.File
	command *exec.Cmd
}

// startShell starts a bash. Its commands fail with the cause of alive as soon as alive ends.
func startShell(alive context.Context, dir string, env []string) (*shell, error) {
	command := exec.Command("bash", "--norc", "--noprofile")
	command.Dir, command.Env = dir, env
	// With its own process group, stop reaches the jobs, too.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start bash: %w", err)
	}
	// Use an own pipe, because a background process may keep it open after the end of the shell.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start bash: %w", err)
	}
	command.Stdout, command.Stderr = write, write
	if err := errors.Join(command.Start(), write.Close()); err != nil {
		return nil, fmt.Errorf("start bash: %w", err)
	}
	return &shell{alive: alive, longest: longest, leaving: leaving, stdin: stdin, output: bufio.NewReader(read), pipe: read, command: command}, nil
}

// run types a command, and returns its output and exit status.
func (s *shell) run(command string) (printed string, status int, err error) {
	if _, err := io.WriteString(s.stdin, command+"\necho \""+end+"$?\"\n"); err != nil {
		return "", 0, fmt.Errorf("type into bash: %w", err)
	}
	if err := s.pipe.SetReadDeadline(time.Now().Add(s.longest)); err != nil {
		return "", 0, fmt.Errorf("read from bash: %w", err)
	}
	defer context.AfterFunc(s.alive, func() { _ = s.pipe.SetReadDeadline(time.Now()) })()
	var all strings.Builder
	for {
		line, err := s.output.ReadString('\n')
		if err != nil {
			return all.String(), 0, s.broken(command, all.String(), err)
		}
		before, code, ended := strings.Cut(line, end)
		if !ended {
			all.WriteString(line)
			continue
		}
		all.WriteString(before)
		status, err = strconv.Atoi(strings.TrimSpace(code))
		return all.String(), status, err
	}
}

// broken returns an error that names the command that the shell ran, and why the wait for it ended.
func (s *shell) broken(command, printed string, err error) error {
	switch {
	case s.alive.Err() != nil:
		err = context.Cause(s.alive)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("it did not end within %s", s.longest)
	}
	return fmt.Errorf("wait for the command %q to end: %w; it printed\n%s", command, err, printed)
}

// stop ends the shell and its jobs. If a command still runs after leaving, stop kills them and returns an error.
func (s *shell) stop() error {
	_, err := io.WriteString(s.stdin, "kill $(jobs -p) 2>/dev/null; exit 0\n")
	kill := time.AfterFunc(s.leaving, func() { _ = syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL) })
	ended := s.command.Wait()
	if !kill.Stop() {
		ended = fmt.Errorf("bash did not end within %s and was killed: %w", s.leaving, ended)
	}
	return errors.Join(err, ended)
}
