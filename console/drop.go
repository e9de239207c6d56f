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

package console

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// refusal is the reason why an act on a waiting delivery was not carried out, in words for users.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

const (
	errNotWaiting refusal = "This event no longer waits in the stream: it was attempted, dropped or redelivered meanwhile."
	errInFlight   refusal = "An attempt is in flight, so nothing was changed. Try again when it has ended."
	errNoStream   refusal = "The waiting stream cannot be read now."
)

// restore makes a PostbackDelivery of a delivery that is only in a stream.
func (d *dialog) restore(ctx context.Context, name string) (*v1alpha1.PostbackDelivery, error) {
	restored, err := d.log.Restore(ctx, d.P.Namespace, name)
	if !deliveries.IsNotFound(err) {
		return restored, err
	}
	waiting, err := d.waiting(ctx, name)
	if err != nil {
		return nil, err
	}
	restored, err = d.log.RestoreWaiting(ctx, waiting)
	return restored, explainWaiting(err)
}

// waiting returns a delivery of the waiting stream.
func (d *dialog) waiting(ctx context.Context, name string) (*v1alpha1.PostbackDelivery, error) {
	if d.log == nil {
		return nil, errNoStream
	}
	waiting, err := d.log.Waiting(ctx, d.P.Namespace, d.P.Name, name)
	if err == nil && waiting == nil {
		err = errNotWaiting
	}
	return waiting, err
}

// explainWaiting replaces the error of an act on a waiting delivery by one for users.
func explainWaiting(err error) error {
	switch {
	case deliveries.IsNotWaiting(err):
		return errNotWaiting
	case deliveries.IsInFlight(err):
		return errInFlight
	}
	return err
}

// Delivery returns the name of the delivery to drop, or "" for all that wait.
func (d *dialog) Delivery() string { return d.Form.Get("delivery") }

// Backlog returns the number of deliveries in the waiting stream, by the status of the Postback.
func (d *dialog) Backlog() int { return int(d.P.Status.GetBacklog()) }

// doDrop drops a waiting delivery, or all of the Postback. The dispatcher checks the right again.
func doDrop(ctx context.Context, _ client.Client, d *dialog) (client.Object, error) {
	switch {
	case d.Form.Get("preview") != "":
		return nil, nil
	case d.log == nil:
		return nil, errNoStream
	case d.Delivery() == "":
		dropped, err := d.log.DropAll(ctx, d.P.Namespace, d.P.Name)
		if err != nil {
			return nil, explainWaiting(err)
		}
		if d.done = "Dropped 1 event"; dropped.Deliveries != 1 {
			d.done = "Dropped " + number(dropped.Deliveries) + " events"
		}
		return nil, nil
	}
	waiting, err := d.waiting(ctx, d.Delivery())
	if err != nil {
		return nil, err
	}
	d.done, d.to = "Dropped", pathOf(client.ObjectKeyFromObject(d.P))
	return nil, explainWaiting(d.log.Drop(ctx, waiting))
}

// afterStream shows at once which deliveries left the waiting stream.
func afterStream(ctx context.Context, c *Console, d *dialog) {
	c.feed.ForgetWaiting(ctx, client.ObjectKeyFromObject(d.P))
}
