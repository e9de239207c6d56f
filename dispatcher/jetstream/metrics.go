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
	"github.com/postback-dev/postback-operator/internal/metric"
)

var (
	published = metric.Dispatcher.Counter("postback_nats_published_total",
		"Deliveries that this replica has stored in the stream.")
	redelivered = metric.Dispatcher.Counter("postback_nats_redelivered_total",
		"Messages that this replica got again, because no replica had acknowledged them.")
	overflows = metric.Dispatcher.Counter("postback_nats_overflows_total",
		"Deliveries that became PostbackDeliveries before any attempt, because they exceed a message of NATS.")
	movedToWaiting = metric.Dispatcher.Counter("postback_nats_moved_to_waiting_total",
		"Deliveries that this replica has put into the waiting stream: their Postback is paused or limited, or their endpoint is throttled or slow.")
	retriesStored = metric.Dispatcher.Counter("postback_nats_retries_stored_total",
		"Failed attempts after which this replica has put the delivery into the waiting stream for a retry.")
	logged = metric.Dispatcher.Counter("postback_nats_logged_total",
		"Delivered events that this replica has written to the delivery log.")
	invalid = metric.Dispatcher.Counter("postback_nats_invalid_messages_total",
		"Messages that are not deliveries, and were removed from the stream.")

	dropped = metric.Dispatcher.Counter("postback_nats_dropped_total",
		"Deliveries in the waiting stream that users dropped.")

	remade = metric.Dispatcher.Counter("postback_nats_remade_total",
		"Streams and consumers that were created anew since this replica last saw them. Their earlier messages may be lost.")

	// These metrics belong to the only connection of the process.
	connectedGauge = metric.Dispatcher.Gauge("postback_nats_connected",
		"1 if this replica is connected to NATS; 0 if not, and with --intake=kubernetes.")
	streamsReadyGauge = metric.Dispatcher.Gauge("postback_nats_streams_ready",
		"1 if streams and consumers have the configuration that this replica needs; 0 if not, and with --intake=kubernetes.")
	inUseGauge     = metric.Dispatcher.Gauge("postback_nats_in_use", "1 if this replica runs with --intake=jetstream, else 0.")
	unsettledGauge = metric.Dispatcher.Gauge("postback_nats_unsettled_messages",
		"Messages of the deliveries stream that this replica received and has not settled.")
	drainingGauge = metric.Dispatcher.Gauge("postback_nats_draining_messages", "Deliveries from the waiting stream that are in a lane of this replica.")
	waitingGauge  = metric.Dispatcher.Gauge("postback_nats_waiting_deliveries",
		"Deliveries in the waiting stream. Their Postbacks are paused or limited, their endpoints are throttled or slow, or they wait for a retry.")
	waitingUsedGauge = metric.Dispatcher.Gauge("postback_nats_waiting_used_ratio",
		"Bytes of the waiting stream divided by --nats-max-bytes; from 0.95 on, events whose deliveries would wait there are refused.")
	largestShareGauge = metric.Dispatcher.Gauge("postback_nats_waiting_largest_share_ratio",
		"Estimated bytes of the largest Postback in the waiting stream, divided by --nats-max-bytes.")
	overShareGauge = metric.Dispatcher.Gauge("postback_nats_waiting_over_share_postbacks",
		"Postbacks whose events are refused because they hold more than their share of the waiting stream.")
	oldestWaitingGauge = metric.Dispatcher.Gauge("postback_nats_oldest_waiting_age_seconds",
		"Time since the oldest delivery in the waiting stream was put there; 0 if there is none.")
	deliveriesGauge = metric.Dispatcher.Gauge("postback_nats_stream_deliveries",
		"Deliveries in the deliveries stream, counted every second.")
	deliveriesUsedGauge = metric.Dispatcher.Gauge("postback_nats_stream_used_ratio",
		"Bytes of the deliveries in the stream divided by --nats-max-bytes; at 1 events are refused.")
	oldestDeliveryGauge = metric.Dispatcher.Gauge("postback_nats_oldest_delivery_age_seconds",
		"Age of the oldest delivery in the deliveries stream, measured every second; 0 if there is none.")
)
