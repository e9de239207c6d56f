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

// Package message encodes deliveries as messages of NATS and decodes them. The headers have the spec and metadata of
// a PostbackDelivery, the data is the exact body. A message contains no configuration of the Postback: neither its
// URL nor a key.
package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// These are headers of the messages. NATS treats them as case-sensitive.
const (
	PostbackHeader    = "Postback-Name"
	EventIDHeader     = "Postback-Event-Id"
	EventTypeHeader   = "Postback-Event-Type"
	CreatedAtHeader   = "Postback-Event-Created-At"
	FormatHeader      = "Postback-Format"
	TestHeader        = "Postback-Test"
	TraceparentHeader = "traceparent"
	// StoredAtHeader is when the delivery was accepted, in the delivery log and the waiting stream. AttemptHeader is
	// the successful attempt as JSON, only in the delivery log.
	StoredAtHeader = "Postback-Stored-At"
	AttemptHeader  = "Postback-Attempt"
	// StatusHeader is the status after the failed attempts as JSON, in the same messages, if there were any.
	StatusHeader = "Postback-Status"
	// DoubtfulHeader marks a waiting delivery that may have been attempted before it was moved to the waiting stream.
	DoubtfulHeader = "Postback-Doubtful"
)

// PendingHeader is in the response to a read: the number of further messages of the subject.
const PendingHeader = "Nats-Num-Pending"

// Yes is the value of boolean headers that are true.
const Yes = "true"

// Delivery returns the message of a delivery before its first attempt. Its id is the namespace and name of the
// delivery, so that an event is stored only once within the deduplication window.
func (n Names) Delivery(d *v1alpha1.PostbackDelivery) *nats.Msg {
	m := n.message(n.DeliverySubject(d.Namespace, d.Spec.PostbackRef.UID, d.Name), d)
	m.Header.Set(nats.MsgIdHdr, ID(d))
	return m
}

// ID returns the message id of a delivery's first message in a stream.
func ID(d *v1alpha1.PostbackDelivery) string { return d.Namespace + "/" + d.Name }

// Waiting returns the message of a delivery that waits for its endpoint. stored is when it was accepted. It has the
// id of Delivery, so that NATS refuses a second copy within the deduplication window.
func (n Names) Waiting(d *v1alpha1.PostbackDelivery, stored time.Time) *nats.Msg {
	m := n.message(n.WaitingSubject(d.Namespace, d.Spec.PostbackRef.UID), d)
	m.Header.Set(nats.MsgIdHdr, ID(d))
	m.Header.Set(StoredAtHeader, stored.UTC().Format(time.RFC3339Nano))
	return m
}

// Log returns the entry of a delivery after a successful attempt. d has the status before that attempt. The id
// includes the time of the attempt: if two attempts succeed, both are in the log.
func (n Names) Log(d *v1alpha1.PostbackDelivery, stored time.Time, a v1alpha1.Attempt) (*nats.Msg, error) {
	encoded, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode the attempt of delivery %s/%s: %w", d.Namespace, d.Name, err)
	}
	m := n.message(n.LogSubject(d.Namespace, d.Spec.PostbackRef.UID, d.Name), d)
	m.Header.Set(nats.MsgIdHdr, d.Namespace+"/"+d.Name+"/"+a.Time.UTC().Format(time.RFC3339Nano))
	m.Header.Set(StoredAtHeader, stored.UTC().Format(time.RFC3339Nano))
	m.Header.Set(AttemptHeader, string(encoded))
	if d.Status.AttemptCount > 0 {
		err = setStatus(m, &d.Status)
	}
	return m, err
}

func (n Names) message(subject string, d *v1alpha1.PostbackDelivery) *nats.Msg {
	header := nats.Header{
		PostbackHeader:  {d.Spec.PostbackRef.Name},
		EventIDHeader:   {d.Spec.Event.ID},
		EventTypeHeader: {d.Spec.Event.Type},
		CreatedAtHeader: {d.Spec.Event.CreatedAt.UTC().Format(time.RFC3339Nano)},
	}
	if d.Spec.Format != "" {
		header.Set(FormatHeader, string(d.Spec.Format))
	}
	if d.Spec.Test {
		header.Set(TestHeader, Yes)
	}
	if place := d.Annotations[v1alpha1.TraceparentAnnotation]; place != "" {
		header.Set(TraceparentHeader, place)
	}
	return &nats.Msg{Subject: subject, Header: header, Data: []byte(d.Spec.Body)}
}

// ParseDelivery decodes a message of the deliveries stream.
func (n Names) ParseDelivery(subject string, header nats.Header, data []byte) (*v1alpha1.PostbackDelivery, error) {
	namespace, postback, ok := n.Owner(subject)
	if !ok || postback == "" {
		return nil, fmt.Errorf("subject %q is not that of a delivery", subject)
	}
	created, err := time.Parse(time.RFC3339Nano, header.Get(CreatedAtHeader))
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", CreatedAtHeader, err)
	}
	spec := v1alpha1.PostbackDeliverySpec{
		PostbackRef: v1alpha1.PostbackReference{Name: header.Get(PostbackHeader), UID: postback},
		Event: v1alpha1.EventReference{
			ID:        header.Get(EventIDHeader),
			Type:      header.Get(EventTypeHeader),
			CreatedAt: metav1.NewMicroTime(created.UTC()),
		},
		Body:   string(data),
		Format: v1alpha1.PayloadFormat(header.Get(FormatHeader)),
		Test:   header.Get(TestHeader) == Yes,
	}
	switch {
	case spec.PostbackRef.Name == "":
		return nil, errors.New("header " + PostbackHeader + " is missing")
	case !event.ValidID(spec.Event.ID):
		return nil, errors.New("header " + EventIDHeader + " is not the id of an event")
	case !event.ValidType(spec.Event.Type):
		return nil, errors.New("header " + EventTypeHeader + " is not the type of an event")
	case len(data) == 0:
		return nil, errors.New("there is no body")
	}
	d := delivery.FromSpec(namespace, spec)
	if place := header.Get(TraceparentHeader); place != "" {
		d.Annotations = map[string]string{v1alpha1.TraceparentAnnotation: place}
	}
	return d, nil
}

// ParseWaiting decodes a message of the waiting stream. stored is when the delivery was accepted.
func (n Names) ParseWaiting(subject string, header nats.Header, data []byte) (d *v1alpha1.PostbackDelivery, stored time.Time, err error) {
	if d, err = n.ParseDelivery(subject, header, data); err != nil {
		return nil, time.Time{}, err
	}
	if stored, err = time.Parse(time.RFC3339Nano, header.Get(StoredAtHeader)); err != nil {
		return nil, time.Time{}, fmt.Errorf("header %s: %w", StoredAtHeader, err)
	}
	if err := parseStatus(header, &d.Status); err != nil {
		return nil, time.Time{}, err
	}
	return d, stored, nil
}

// Created returns the creationTimestamp of a delivery that was stored at a time.
func Created(stored time.Time) metav1.Time { return metav1.NewTime(stored.UTC().Truncate(time.Second)) }

// ParseLog decodes an entry of the delivery log, with the status that the PostbackDelivery would have. It has no UID
// and no resourceVersion.
func (n Names) ParseLog(subject string, header nats.Header, data []byte) (*v1alpha1.PostbackDelivery, error) {
	d, err := n.ParseDelivery(subject, header, data)
	if err != nil {
		return nil, err
	}
	stored, err := time.Parse(time.RFC3339Nano, header.Get(StoredAtHeader))
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", StoredAtHeader, err)
	}
	var a v1alpha1.Attempt
	if err := json.Unmarshal([]byte(header.Get(AttemptHeader)), &a); err != nil {
		return nil, fmt.Errorf("header %s: %w", AttemptHeader, err)
	}
	if a.Outcome != v1alpha1.OutcomeSucceeded {
		return nil, fmt.Errorf("header %s: the log holds what was delivered, not %q", AttemptHeader, a.Outcome)
	}
	d.CreationTimestamp = Created(stored)
	d.Generation = 1
	if err := parseStatus(header, &d.Status); err != nil {
		return nil, err
	}
	delivery.Apply(d, nil, a, delivery.Request{}) // A success needs no route.
	return d, nil
}
