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
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	keepInterval = 200 * time.Millisecond
	// leaseIsLost is in the last endLogLines lines of a manager that ends because it could not renew its Lease.
	leaseIsLost = "leader election lost"
	endLogLines = 10
)

// WithRestarts restarts a manager that ends because it could not renew its Lease, as a kubelet does: a busy machine
// may stall for that long. After any other end the manager stays ended, and EndedByItself reports it.
func WithRestarts() Option {
	return func(p *Process) { p.restarts = true }
}

// keep restarts the process whenever it has lost its Lease, until ctx ends.
func (p *Process) keep(ctx context.Context) {
	_ = wait.PollUntilContextCancel(ctx, keepInterval, false, func(ctx context.Context) (bool, error) {
		if !p.lostLease() {
			return false, nil
		}
		_, _ = fmt.Fprintf(os.Stderr, "%s has lost its Lease and ended; it is started again\n", p.Name)
		if err := p.Restart(ctx); err != nil && ctx.Err() == nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
		}
		return false, nil
	})
}

// lostLease reports whether the process has ended because it could not renew its Lease.
func (p *Process) lostLease() bool {
	p.mu.Lock()
	ended := p.command != nil && !p.awaited
	p.mu.Unlock()
	return ended && !p.Running() && strings.Contains(p.LogTail(endLogLines), leaseIsLost)
}
