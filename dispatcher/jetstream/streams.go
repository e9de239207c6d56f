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

package jetstream

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	consumerName = "dispatcher"
	// ackWait is how long a message may go without a sign of progress before NATS delivers it to another replica.
	ackWait = 30 * time.Second
	// maxAckPending bounds the unsettled messages of all replicas, including those that wait to be delivered again.
	maxAckPending = 1 << 16
)

func (c *Connection) streams() []jetstream.StreamConfig {
	o := &c.options
	return []jetstream.StreamConfig{
		{
			Name: c.names.DeliveriesStream(), Subjects: []string{c.names.AllDeliveries()},
			Description: "Deliveries that wait for their first attempt",
			Retention:   jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
			MaxBytes: o.MaxBytes, Duplicates: o.DuplicateWindow, Replicas: o.Replicas,
			// The stream has a delivery only once, even if its id is forgotten.
			MaxMsgsPerSubject: 1, DiscardNewPerSubject: true,
			// Pending counts by direct reads.
			AllowDirect: true, AllowAtomicPublish: o.GroupCommit,
		},
		{
			Name: c.names.WaitingStream(), Subjects: []string{c.names.AllWaiting()},
			Description: "Deliveries that wait for their endpoint or for a retry",
			// A work queue permits no reads without acknowledgements.
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
			MaxBytes: o.MaxBytes, Duplicates: max(o.DuplicateWindow, DefaultDuplicateWindow), Replicas: o.Replicas,
			// The elected replica reads the stream page by page.
			AllowDirect: true, AllowAtomicPublish: o.GroupCommit,
		},
		{
			Name: c.names.LogStream(), Subjects: []string{c.names.AllLog()},
			Description: "Deliveries that succeeded and were no PostbackDelivery",
			Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
			MaxBytes: o.LogMaxBytes, MaxAge: o.LogMaxAge, Duplicates: DefaultDuplicateWindow, Replicas: o.Replicas,
			// The log is read page by page, from any server that has it.
			AllowDirect: true, AllowAtomicPublish: o.GroupCommit,
		},
		{
			Name: c.names.EventsStream(), Subjects: []string{c.names.AllEvents()},
			Description: "Events that producers have published, to be matched with Postbacks",
			Retention:   jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
			MaxBytes: o.MaxBytes, Duplicates: o.DuplicateWindow, Replicas: o.Replicas,
		},
	}
}

// workQueues are the streams whose messages all replicas share.
func (c *Connection) workQueues() []string {
	return []string{c.names.DeliveriesStream(), c.names.EventsStream()}
}

// sharedConsumer is the configuration of a work queue's single consumer, from which every replica pulls.
func sharedConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: consumerName, Description: "All dispatcher replicas", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1, MaxAckPending: maxAckPending, DeliverPolicy: jetstream.DeliverAllPolicy,
	}
}

// withNeeds returns an existing configuration with the required changes. It keeps the placement and the number of
// replicas, which an administrator may have chosen.
func withNeeds(have, want jetstream.StreamConfig) jetstream.StreamConfig {
	have.Subjects, have.Description, have.Discard = want.Subjects, want.Description, want.Discard
	have.MaxBytes, have.MaxAge, have.Duplicates = want.MaxBytes, want.MaxAge, want.Duplicates
	have.AllowDirect, have.DiscardNewPerSubject = want.AllowDirect, want.DiscardNewPerSubject
	have.AllowAtomicPublish = want.AllowAtomicPublish
	if want.DiscardNewPerSubject {
		have.MaxMsgsPerSubject = want.MaxMsgsPerSubject
	}
	// These settings would drop, refuse or rename messages, or leave a publisher without an answer.
	have.NoAck, have.MaxMsgs, have.MaxMsgSize, have.SubjectTransform = false, -1, -1, nil
	return have
}

// serves reports whether a consumer delivers every message repeatedly until it is acknowledged.
func serves(have *jetstream.ConsumerInfo) bool {
	c, want := &have.Config, sharedConsumer()
	return !have.Paused && c.AckPolicy == want.AckPolicy && c.DeliverPolicy == want.DeliverPolicy && c.AckWait == want.AckWait &&
		c.MaxDeliver == want.MaxDeliver && c.MaxAckPending == want.MaxAckPending && c.FilterSubject == "" && len(c.FilterSubjects) == 0 &&
		c.RateLimit == 0 && c.InactiveThreshold == 0 && !c.HeadersOnly && len(c.BackOff) == 0 && len(c.PriorityGroups) == 0
}

// boundedWindow returns the deduplication window, which NATS requires to be at most the age of its messages.
func boundedWindow(s jetstream.StreamConfig) time.Duration {
	if s.MaxAge > 0 {
		return min(s.Duplicates, s.MaxAge)
	}
	return s.Duplicates
}
