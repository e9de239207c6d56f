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
	"time"
)

const (
	// end follows what a command printed, with its exit status.
	end = "-- ended with "
	// longest is how long a command may take: longer than any of the pages waits.
	longest = 5 * time.Minute
)

// shell is a bash in which commands are typed one after the other, as in a terminal.
type shell struct {
	stdin   io.WriteCloser
	output  *bufio.Reader
	pipe    *os.File
	command *exec.Cmd
}

func startShell(ctx context.Context, dir string, env []string) (*shell, error) {
	command := exec.CommandContext(ctx, "bash", "--norc", "--noprofile")
	command.Dir, command.Env = dir, env
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start bash: %w", err)
	}
	// A pipe of our own: what is started in the background may hold it open after the shell has ended.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start bash: %w", err)
	}
	command.Stdout, command.Stderr = write, write
	if err := errors.Join(command.Start(), write.Close()); err != nil {
		return nil, fmt.Errorf("start bash: %w", err)
	}
	return &shell{stdin: stdin, output: bufio.NewReader(read), pipe: read, command: command}, nil
}

// run types a command, and returns what it printed and its exit status.
func (s *shell) run(command string) (printed string, status int, err error) {
	if _, err := io.WriteString(s.stdin, command+"\necho \""+end+"$?\"\n"); err != nil {
		return "", 0, fmt.Errorf("type into bash: %w", err)
	}
	if err := s.pipe.SetReadDeadline(time.Now().Add(longest)); err != nil {
		return "", 0, fmt.Errorf("read from bash: %w", err)
	}
	var all strings.Builder
	for {
		line, err := s.output.ReadString('\n')
		if err != nil {
			return all.String(), 0, fmt.Errorf("read from bash: %w", err)
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

// stop ends the shell and what it started.
func (s *shell) stop() error {
	_, err := io.WriteString(s.stdin, "kill $(jobs -p) 2>/dev/null; exit 0\n")
	return errors.Join(err, s.command.Wait())
}
