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

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/presence"
	"github.com/postback-dev/postback-operator/test/natsserver"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	// maxPause bounds the time between two faults, and the time for which a program is down. longOutage is longer
	// than the Leases last.
	maxPause   = 3 * time.Second
	longOutage = 17 * time.Second
	// stopPatience bounds the time in which another replica acquires an expired Lease.
	stopPatience = 90 * time.Second
)

// chaos causes faults in the installation, and records them.
type chaos struct {
	random *rand.Rand
	faults []fault
}

// harm is a kind of fault and the action that causes it.
type harm struct {
	name string
	do   func(context.Context, *chaos) error
}

// harmsOf returns the harms of an installation. With embedded servers, those to a dispatcher are also harms to NATS.
func harmsOf(dispatchers []*operator.Process) []harm {
	var all []harm
	for i, p := range dispatchers {
		all = append(all, harm{fmt.Sprintf("kill dispatcher %d", i), func(ctx context.Context, c *chaos) error { return c.kill(ctx, p) }})
	}
	if len(dispatchers) > 1 {
		all = append(all, harm{"kill all dispatchers", func(ctx context.Context, c *chaos) error { return c.kill(ctx, dispatchers...) }})
	}
	all = append(all, otherHarms...)
	if op.NATS != nil {
		all = append(all, streamHarms...)
	}
	return all
}

var otherHarms = []harm{
	{"kill the manager", func(ctx context.Context, c *chaos) error { return c.kill(ctx, manager) }},
	{"restart the API server", func(ctx context.Context, c *chaos) error { return c.outage(ctx, cp.StopAPIServer, cp.StartAPIServer) }},
	{"restart etcd", func(ctx context.Context, c *chaos) error { return c.outage(ctx, cp.StopEtcd, cp.StartEtcd) }},
	{"delete the Leases", func(ctx context.Context, c *chaos) error { return c.deleteLeases(ctx) }},
	{"stop the owner of the retries until its Leases expire", func(ctx context.Context, c *chaos) error { return c.expire(ctx) }},
}

// streamHarms apply to external NATS servers.
var streamHarms = []harm{
	{"kill a nats-server", func(ctx context.Context, c *chaos) error { return c.killNATS(ctx) }},
	{"stop a nats-server", func(ctx context.Context, c *chaos) error { return c.stopNATS(ctx) }},
	{"kill all of NATS, then all dispatchers", func(ctx context.Context, c *chaos) error {
		return errors.Join(c.killAllOfNATS(ctx), c.kill(ctx, dispatchers...))
	}},
}

// round causes each harm once, in random order, at random times.
func (c *chaos) round(ctx context.Context, say func(format string, args ...any)) error {
	all := harmsOf(dispatchers)
	for _, i := range c.random.Perm(len(all)) {
		if !pause(ctx, c.upTo(maxPause)) {
			return ctx.Err()
		}
		began := time.Now()
		if err := all[i].do(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", all[i].name, err)
		}
		say("%s, %s", all[i].name, time.Since(began).Round(100*time.Millisecond))
	}
	return nil
}

func (c *chaos) upTo(d time.Duration) time.Duration {
	return time.Duration(c.random.Float64() * float64(d))
}

func (c *chaos) note(kind faultKind, replica string, from time.Time) {
	c.faults = append(c.faults, fault{kind: kind, replica: replica, from: from, to: time.Now()})
}

// kill kills processes, and restarts them after a while.
func (c *chaos) kill(ctx context.Context, processes ...*operator.Process) error {
	for _, p := range processes {
		if err := p.Kill(); err != nil {
			return err
		}
		c.note(killed, p.Name, time.Now())
	}
	from := time.Now()
	pause(ctx, c.upTo(maxPause))
	err := operator.RestartAll(ctx, processes...)
	c.noteStream(from, processes...)
	return err
}

// noteStream records that NATS was down with the dispatchers that embed it.
func (c *chaos) noteStream(from time.Time, processes ...*operator.Process) {
	if op.EmbedsNATS() && slices.ContainsFunc(processes, func(p *operator.Process) bool { return slices.Contains(dispatchers, p) }) {
		c.note(streamDown, "", from)
	}
}

// outage stops the API server or etcd for a while.
func (c *chaos) outage(ctx context.Context, stop, start func() error) error {
	from, down := time.Now(), c.down()
	if err := stop(); err != nil {
		return err
	}
	pause(ctx, down)
	err := start()
	c.note(outage, "", from)
	if err != nil {
		return err
	}
	return manager.RestartIfEnded(ctx)
}

// down returns how long a program stays down. One in three times, that is longer than a Lease lasts.
func (c *chaos) down() time.Duration {
	if c.random.IntN(3) == 0 {
		return longOutage
	}
	return c.upTo(maxPause)
}

// killNATS kills a nats-server, single or of a cluster, and restarts it on its files.
func (c *chaos) killNATS(ctx context.Context) error {
	node := c.natsNode()
	return c.withoutNATS(ctx, node.Kill, func() error { return node.Start(ctx) })
}

func (c *chaos) killAllOfNATS(ctx context.Context) error {
	return c.withoutNATS(ctx, op.NATS.Kill, func() error { return op.NATS.StartAll(ctx) })
}

// stopNATS suspends a nats-server (SIGSTOP), with its connections open.
func (c *chaos) stopNATS(ctx context.Context) error {
	node := c.natsNode()
	signal := func(s syscall.Signal) func() error {
		return func() error { return syscall.Kill(node.PID(), s) }
	}
	return c.withoutNATS(ctx, signal(syscall.SIGSTOP), signal(syscall.SIGCONT))
}

func (c *chaos) natsNode() *natsserver.Server {
	return op.NATS.Nodes[c.random.IntN(len(op.NATS.Nodes))]
}

func (c *chaos) withoutNATS(ctx context.Context, end, begin func() error) error {
	from, down := time.Now(), c.down()
	if err := end(); err != nil {
		return err
	}
	pause(ctx, down)
	err := begin()
	c.note(streamDown, "", from)
	return err
}

// deleteLeases deletes the Lease of the election and those of the replicas' presence.
func (c *chaos) deleteLeases(ctx context.Context) error {
	names := []string{v1alpha1.RetriesLeaseName}
	for _, d := range dispatchers {
		names = append(names, presence.LeaseName(d.Name))
	}
	for _, name := range names {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operator.Namespace, Name: name}}
		if err := client.IgnoreNotFound(api.Delete(ctx, lease)); err != nil {
			return err
		}
		c.note(leaseLost, name, time.Now())
	}
	return nil
}

// expire suspends the replica that owns the retries (SIGSTOP) until another one owns them, and resumes it. It then
// still believes that it owns them. A single replica is suspended for longer than the Leases last.
func (c *chaos) expire(ctx context.Context) error {
	owner, err := c.owner(ctx)
	if err != nil {
		return err
	}
	from := time.Now()
	if err := owner.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	waitErr := wait.PollUntilContextTimeout(ctx, pollEvery, stopPatience, true, func(ctx context.Context) (bool, error) {
		if len(dispatchers) == 1 {
			return time.Since(from) > longOutage, nil
		}
		now, err := c.owner(ctx)
		return err == nil && now != owner, nil
	})
	if err := owner.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	c.note(stopped, owner.Name, from)
	c.noteStream(from, owner)
	if waitErr != nil {
		return fmt.Errorf("no other replica took the retries over: %w", waitErr)
	}
	return nil
}

// owner returns the replica that holds the Lease of the retries. After a fault there may be none for a while.
func (c *chaos) owner(ctx context.Context) (*operator.Process, error) {
	var owner *operator.Process
	err := wait.PollUntilContextTimeout(ctx, pollEvery, stopPatience, true, func(ctx context.Context) (bool, error) {
		lease := &coordinationv1.Lease{}
		if err := api.Get(ctx, client.ObjectKey{Namespace: operator.Namespace, Name: v1alpha1.RetriesLeaseName}, lease); err != nil || lease.Spec.HolderIdentity == nil {
			return false, nil
		}
		for _, d := range dispatchers {
			if d.Name == *lease.Spec.HolderIdentity {
				owner = d
			}
		}
		return owner != nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("no replica owns the retries: %w", err)
	}
	return owner, nil
}
