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
	"cmp"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Query selects deliveries. The zero value selects those of all namespaces.
type Query struct {
	Namespace, Postback string
	// Event is the type of the event.
	Event string
	// Failed selects Failed and Retrying deliveries, Undelivered all except Delivered ones. The delivery log holds neither.
	Failed, Undelivered bool
	// Since selects deliveries stored at this time or later.
	Since time.Time
	// Limit bounds the number of deliveries; 0 means no bound. A page of the delivery log may hold fewer although
	// more exist.
	Limit int

	// Waiting also selects deliveries in the waiting stream. Unfinished selects only Pending and Retrying deliveries.
	Waiting, Unfinished bool

	// EventID, Name, Prefix and Continue apply only to the streams. Name is the name of a delivery. Prefix is the
	// beginning of an event's id or a delivery's name. Continue is the position of a page.
	EventID, Name, Prefix, Continue string
}

// Selector returns the field selector of the query for the API server.
func (q *Query) Selector() fields.Selector {
	set := fields.Set{}
	if q.Postback != "" {
		set["spec.postbackRef.name"] = q.Postback
	}
	if q.Event != "" {
		set["spec.event.type"] = q.Event
	}
	selector := set.AsSelector()
	if q.Failed || q.Undelivered || q.Unfinished {
		selector = fields.AndSelectors(selector, fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryDelivered)))
	}
	return selector
}

// Selects reports whether a delivery that Selector matches also satisfies Since, and Failed as a whole.
func (q *Query) Selects(d *v1alpha1.PostbackDelivery) bool {
	return !d.CreationTimestamp.Time.Before(q.Since) && (!q.Unfinished || !d.Status.Phase.Finished()) &&
		(!q.Failed || d.Status.Phase == v1alpha1.DeliveryFailed || d.Status.Phase == v1alpha1.DeliveryRetrying)
}

// The resources of a dispatcher: the delivery log, and the waiting stream.
const (
	logResource     = "deliveries"
	waitingResource = "waiting"
)

func (q *Query) path(resource string) string {
	if q.Namespace == "" {
		return "v1/" + resource
	}
	return "v1/namespaces/" + url.PathEscape(q.Namespace) + "/" + resource
}

func (q *Query) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"postback": q.Postback, "event": q.Event, "eventID": q.EventID, "name": q.Name, "prefix": q.Prefix, "continue": q.Continue,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// Place is a delivery's position in lists, newest first. It never changes. The event's own time orders deliveries that
// were created in the same second, which is the precision of creation times.
type Place struct {
	types.NamespacedName

	// Created is the time at which the delivery was stored. EventTime is the event's own time.
	Created, EventTime time.Time
}

// PlaceOf returns the position of a delivery.
func PlaceOf(d *v1alpha1.PostbackDelivery) Place {
	return Place{client.ObjectKeyFromObject(d), d.CreationTimestamp.Time, d.Spec.Event.CreatedAt.Time}
}

// Compare orders the newest first.
func (p Place) Compare(other Place) int {
	return cmp.Or(other.Created.Compare(p.Created), other.EventTime.Compare(p.EventTime), cmp.Compare(p.Namespace, other.Namespace), cmp.Compare(p.Name, other.Name))
}

// IsObject reports whether a delivery is a PostbackDelivery. Otherwise it is only in a stream.
func IsObject(d *v1alpha1.PostbackDelivery) bool { return d.UID != "" }

// IsWaiting reports whether a delivery is only in the waiting stream.
func IsWaiting(d *v1alpha1.PostbackDelivery) bool { return !IsObject(d) && !d.Status.Phase.Finished() }
