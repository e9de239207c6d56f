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

import "context"

// Program is a program that a test runs with the control plane. It ends with the process that started it.
type Program struct{ process *process }

// NewProgram returns a program that does not run yet. It writes its output to the file logPath. ready returns nil
// once it serves.
func NewProgram(path, logPath string, ready func(context.Context) error, args ...string) *Program {
	return &Program{&process{path: path, args: args, logPath: logPath, ready: ready}}
}

// Start starts or restarts the program, and returns once it is ready.
func (p *Program) Start(ctx context.Context) error { return p.process.start(ctx) }

// Stop asks the program to end, and waits until it has.
func (p *Program) Stop() error { return p.process.stop() }

// Kill kills the program, as kill -9 does.
func (p *Program) Kill() error {
	if !p.process.running() {
		return nil
	}
	return p.process.kill()
}

// PID returns the process id.
func (p *Program) PID() int { return p.process.command.Process.Pid }
