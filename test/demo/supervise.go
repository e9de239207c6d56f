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
	"context"
	"time"
)

// restartPause is the pause after a failed restart of a program.
const restartPause = 5 * time.Second

// program is a process of the operator.
type program interface {
	WaitExit(ctx context.Context) (exitCode int, err error)
	Restart(ctx context.Context) error
}

// supervise restarts a program each time it ends, and prints that, until ctx ends. A kubelet does the same: a manager
// ends when it loses its Lease, as during a laptop's sleep.
func supervise(ctx context.Context, out *screen, name string, p program, pause time.Duration) {
	for {
		code, err := p.WaitExit(ctx)
		if err != nil || ctx.Err() != nil {
			return
		}
		out.say("%s ended with exit code %d; starting it again ...", name, code)
		for err = p.Restart(ctx); err != nil; err = p.Restart(ctx) {
			if ctx.Err() != nil {
				return
			}
			out.say("%s did not start; trying again in %s: %v", name, pause, err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		out.say("%s runs again.", name)
	}
}
