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

package deliveries

import (
	"context"
	"net/http"
	"net/url"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// ListWaiting returns a page of the waiting stream, the newest first.
func (c *Client) ListWaiting(ctx context.Context, q Query) (*v1alpha1.PostbackDeliveryList, error) {
	page, err := c.list(ctx, waitingResource, q)
	if hasNoWaiting(err) {
		return &v1alpha1.PostbackDeliveryList{}, nil
	}
	return page, err
}

// Waiting returns a delivery of a Postback that is in the waiting stream, or nil.
func (c *Client) Waiting(ctx context.Context, namespace, postback, name string) (waiting *v1alpha1.PostbackDelivery, err error) {
	q := Query{Namespace: namespace, Postback: postback, Name: name, Limit: 1}
	err = c.each(ctx, waitingResource, q, &Page{}, func(d *v1alpha1.PostbackDelivery) { waiting = d })
	if hasNoWaiting(err) {
		err = nil
	}
	return waiting, err
}

// IsNotWaiting reports whether a dispatcher said that a delivery no longer waits.
func IsNotWaiting(err error) bool { return isProblem(err, "not-waiting") }

// IsInFlight reports whether a dispatcher said that an attempt of a delivery is in flight.
func IsInFlight(err error) bool { return isProblem(err, "in-flight") }

// Dropped is the result of a drop.
type Dropped struct {
	// Deliveries is the number of dropped ones, InFlight the number of those in flight, which continue.
	Deliveries int `json:"deliveries"`
	InFlight   int `json:"inFlight"`
}

// RestoreWaiting creates the PostbackDelivery of a waiting delivery, and returns it, so that it can be redelivered.
func (c *Client) RestoreWaiting(ctx context.Context, waiting *v1alpha1.PostbackDelivery) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	return d, c.ask(ctx, http.MethodPost, waitingPath(waiting)+"/restore", sequenceOf(waiting), d)
}

// Drop removes a waiting delivery, which is not sent any more.
func (c *Client) Drop(ctx context.Context, waiting *v1alpha1.PostbackDelivery) error {
	return c.ask(ctx, http.MethodDelete, waitingPath(waiting), sequenceOf(waiting), &Dropped{})
}

// DropAll removes the waiting deliveries of a Postback.
func (c *Client) DropAll(ctx context.Context, namespace, postback string) (*Dropped, error) {
	q, dropped := Query{Namespace: namespace}, &Dropped{}
	return dropped, c.ask(ctx, http.MethodDelete, q.path(waitingResource), url.Values{"postback": {postback}}, dropped)
}

func waitingPath(d *v1alpha1.PostbackDelivery) string {
	q := Query{Namespace: d.Namespace}
	return q.path(waitingResource) + "/" + url.PathEscape(d.Name)
}

// sequenceOf returns the parameter with the sequence of a waiting delivery.
func sequenceOf(d *v1alpha1.PostbackDelivery) url.Values {
	return url.Values{"sequence": {d.ResourceVersion}}
}
