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

// Package presence announces a dispatcher replica by a Lease: that it is alive, and which routes it has loaded.
package presence

import (
	"context"
	"fmt"
	"maps"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/watched"
)

const (
	// Duration is how long a replica counts as alive after the last renewal of its Lease.
	Duration = 15 * time.Second
	// renewEvery leaves two more tries before the Lease expires.
	renewEvery = 5 * time.Second
	// checkEvery is the time between checks for newly loaded routes. One renewal acknowledges all of them.
	checkEvery = 500 * time.Millisecond
	// leave bounds the deletion of the Lease at shutdown.
	leave = 3 * time.Second
)

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update;delete,namespace=postback-system

// Presence maintains the Lease of one replica.
type Presence struct {
	Client    kubernetes.Interface
	Namespace string
	// Identity of this replica is the end of the Lease's name.
	Identity string
	// Owner is the replica's Pod, with which the Lease is deleted. It may be nil.
	Owner *metav1.OwnerReference
	// Watched are the namespaces whose routes the replica loads.
	Watched watched.Namespaces
	// Loaded returns the highest resourceVersion among the loaded route Secrets, or "".
	Loaded func() string
	// Synced reports whether the routes are loaded. Before that, the replica has no Lease.
	Synced func() bool
	// Unready returns why the replica accepts no events, or nil. It may be nil itself.
	Unready func() error
	Clock   clock.WithTicker
}

// LeaseName returns the name of a replica's Lease.
func LeaseName(identity string) string { return "postback-dispatcher-" + identity }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (p *Presence) NeedLeaderElection() bool { return false }

// Start maintains the Lease until ctx ends, then deletes it.
func (p *Presence) Start(ctx context.Context) error {
	log := logf.FromContext(ctx).WithName("presence").WithValues("identity", p.Identity)
	ticker := p.Clock.NewTicker(checkEvery)
	defer ticker.Stop()
	// An earlier process of this identity may have been killed and left its Lease, with routes that only that process
	// had loaded.
	p.leave(ctx)
	var (
		written state
		renewed time.Time
		failing bool
	)
	for {
		now := p.state()
		if p.Synced() && (renewed.IsZero() || now != written || p.Clock.Since(renewed) >= renewEvery) {
			err := p.renew(ctx, now)
			switch {
			case err == nil:
				written, renewed, failing = now, p.Clock.Now(), false
				log.V(1).Info("Renewed", "loaded", now.loaded)
			case !failing && ctx.Err() == nil:
				failing = true
				log.Error(err, "Cannot renew the Lease; trying again")
			}
		}
		select {
		case <-ctx.Done():
			p.leave(ctx)
			return nil
		case <-ticker.C():
		}
	}
}

// state is the state of a replica according to its Lease.
type state struct {
	// loaded is the highest loaded resourceVersion, or "". unready is why the replica accepts no events, or "".
	loaded, unready string
}

func (p *Presence) state() state {
	now := state{loaded: p.Loaded()}
	if p.Unready != nil {
		if err := p.Unready(); err != nil {
			now.unready = err.Error()
		}
	}
	return now
}

func (p *Presence) leases() coordinationclient.LeaseInterface {
	return p.Client.CoordinationV1().Leases(p.Namespace)
}

func (p *Presence) renew(ctx context.Context, now state) error {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	name := LeaseName(p.Identity)
	lease, err := p.leases().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name}}
		p.fill(lease, now)
		_, err = p.leases().Create(ctx, lease, metav1.CreateOptions{FieldManager: v1alpha1.DispatcherFieldOwner})
		if err != nil {
			return fmt.Errorf("create Lease %s: %w", name, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("get Lease %s: %w", name, err)
	}
	p.fill(lease, now)
	if _, err := p.leases().Update(ctx, lease, metav1.UpdateOptions{FieldManager: v1alpha1.DispatcherFieldOwner}); err != nil {
		return fmt.Errorf("update Lease %s: %w", name, err)
	}
	return nil
}

func (p *Presence) fill(lease *coordinationv1.Lease, now state) {
	if lease.Labels == nil {
		lease.Labels = map[string]string{}
	}
	maps.Copy(lease.Labels, v1alpha1.OwnLabels())
	lease.Labels[v1alpha1.ReplicaLabel] = "true"
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[v1alpha1.LoadedRoutesAnnotation] = now.loaded
	if now.unready == "" {
		delete(lease.Annotations, v1alpha1.UnreadyReasonAnnotation)
	} else {
		lease.Annotations[v1alpha1.UnreadyReasonAnnotation] = now.unready
	}
	lease.Annotations[v1alpha1.WatchedNamespacesAnnotation] = p.Watched.String()
	if p.Owner != nil {
		lease.OwnerReferences = []metav1.OwnerReference{*p.Owner}
	}
	lease.Spec.HolderIdentity = ptr.To(p.Identity)
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(Duration / time.Second))
	lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(p.Clock.Now()))
}

// leave deletes the Lease, so that the manager does not wait for a replica that is gone.
func (p *Presence) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leave)
	defer cancel()
	err := p.leases().Delete(ctx, LeaseName(p.Identity), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		logf.FromContext(ctx).Info("The Lease stays until it expires", "reason", err.Error())
	}
}
