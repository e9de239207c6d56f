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

package presence

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// announceRetry is the pause after a failed write of the Lease.
	announceRetry = 2 * time.Second
	// announceEvery is the time between checks of the Lease: it may be deleted, or overwritten by a replica with
	// another intake.
	announceEvery = time.Minute
)

// Announcement is a Lease that tells the plugin and the console which intake stores deliveries: with JetStream not
// every delivery is a PostbackDelivery. A Lease needs no right beyond those of Presence. It is not renewed.
type Announcement struct {
	Client    kubernetes.Interface
	Namespace string
	Intake    string
	Clock     clock.Clock
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (a *Announcement) NeedLeaderElection() bool { return false }

// Start writes the Lease, and repairs it, until ctx ends.
func (a *Announcement) Start(ctx context.Context) error {
	log := logf.FromContext(ctx).WithName("presence")
	failing := false
	for ctx.Err() == nil {
		pause := announceEvery
		err := a.announce(ctx)
		if err != nil {
			pause = announceRetry
			if !failing && ctx.Err() == nil {
				log.Error(err, "Cannot announce the intake; trying again")
			}
		}
		failing = err != nil
		select {
		case <-ctx.Done():
		case <-a.Clock.After(pause):
		}
	}
	return nil
}

func (a *Announcement) announce(ctx context.Context) error {
	leases := a.Client.CoordinationV1().Leases(a.Namespace)
	lease, err := leases.Get(ctx, v1alpha1.IntakeLeaseName, metav1.GetOptions{})
	switch {
	case a.Intake != v1alpha1.IntakeJetStream:
		if err == nil {
			err = leases.Delete(ctx, v1alpha1.IntakeLeaseName, metav1.DeleteOptions{})
		}
		if apierrors.IsNotFound(err) {
			err = nil
		}
	case apierrors.IsNotFound(err):
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
			Namespace: a.Namespace, Name: v1alpha1.IntakeLeaseName, Labels: v1alpha1.OwnLabels(),
			Annotations: map[string]string{v1alpha1.IntakeAnnotation: a.Intake},
		}}
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{FieldManager: v1alpha1.DispatcherFieldOwner})
	case err == nil && lease.Annotations[v1alpha1.IntakeAnnotation] != a.Intake:
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, v1alpha1.IntakeAnnotation, a.Intake)
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{FieldManager: v1alpha1.DispatcherFieldOwner})
	}
	if err != nil {
		return fmt.Errorf("write Lease %s: %w", v1alpha1.IntakeLeaseName, err)
	}
	return nil
}
