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

package message

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// DefaultPrefix begins the names of the streams, and in lower case those of the subjects, unless something else is chosen.
const DefaultPrefix = "POSTBACK"

// The kinds of subjects.
const (
	deliveries = "deliveries"
	waiting    = "waiting"
	logged     = "log"
	events     = "events"
	acts       = "acts"
)

// Names are those of the streams and subjects of an installation. Its value is the prefix, so that installations can share
// an account of NATS.
type Names string

// Valid reports whether the prefix can begin the names of streams and subjects.
func (n Names) Valid() bool {
	return n != "" && !strings.ContainsFunc(string(n), func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// DeliveriesStream holds the deliveries that wait for their first attempt.
func (n Names) DeliveriesStream() string { return string(n) + "_DELIVERIES" }

// WaitingStream holds the deliveries that wait for their endpoint.
func (n Names) WaitingStream() string { return string(n) + "_WAITING" }

// LogStream holds the deliveries whose first attempt succeeded.
func (n Names) LogStream() string { return string(n) + "_LOG" }

// EventsStream holds the events that producers publish to NATS themselves.
func (n Names) EventsStream() string { return string(n) + "_EVENTS" }

// AllDeliveries is the subject of the deliveries stream: three parts, so that nothing else can get in.
func (n Names) AllDeliveries() string { return n.root() + deliveries + ".*.*.*" }

// AllWaiting is the subject of the waiting stream: two parts, for it has one subject for each Postback.
func (n Names) AllWaiting() string { return n.root() + waiting + ".*.*" }

// AllLog is the subject of the log stream.
func (n Names) AllLog() string { return n.root() + logged + ".>" }

// AllEvents is the subject of the stream of published events.
func (n Names) AllEvents() string { return n.root() + events + ".*" }

// DeliverySubject is that of one delivery, so that the stream can be asked for it. No part holds a full stop: a namespace is
// a DNS label, and of the delivery's name the last part is enough (see delivery.Name).
func (n Names) DeliverySubject(namespace string, postback types.UID, delivery string) string {
	return n.of(deliveries, namespace, postback, delivery)
}

// WaitingSubject is that of all waiting deliveries of a Postback: a subject for each delivery would cost NATS memory.
func (n Names) WaitingSubject(namespace string, postback types.UID) string {
	return n.root() + waiting + "." + namespace + "." + string(postback)
}

// WaitingSubjects are filters for the waiting deliveries of a Postback, or, without one, of a namespace, or of all: those without
// an attempt, and the levels of those with some.
func (n Names) WaitingSubjects(namespace string, postback types.UID) []string {
	switch {
	case namespace == "":
		return []string{n.root() + waiting + ".>"}
	case postback == "":
		return []string{n.root() + waiting + "." + namespace + ".>"}
	}
	one := n.WaitingSubject(namespace, postback)
	return []string{one, one + ".*"}
}

// ActRequests is the subject of requests to the owner of the waiting stream, which no stream keeps. ActAnswers is that of the
// answer to one.
func (n Names) ActRequests() string { return n.root() + acts + ".request" }

// ActAnswers begins the subjects of answers.
func (n Names) ActAnswers() string { return n.root() + acts + ".answer." }

// LogSubject is that of one delivery in the log.
func (n Names) LogSubject(namespace string, postback types.UID, delivery string) string {
	return n.of(logged, namespace, postback, delivery)
}

// DeliverySubjects is a filter for the deliveries of a Postback, or, without one, of a namespace.
func (n Names) DeliverySubjects(namespace string, postback types.UID) string {
	return n.all(deliveries, namespace, postback)
}

// LogSubjects is a filter for the log of a Postback, or, without one, of a namespace.
func (n Names) LogSubjects(namespace string, postback types.UID) string {
	return n.all(logged, namespace, postback)
}

func (n Names) of(kind, namespace string, postback types.UID, delivery string) string {
	return n.root() + kind + "." + namespace + "." + string(postback) + "." + delivery[strings.LastIndexByte(delivery, '-')+1:]
}

func (n Names) all(kind, namespace string, postback types.UID) string {
	if postback == "" {
		return n.root() + kind + "." + namespace + ".>"
	}
	return n.root() + kind + "." + namespace + "." + string(postback) + ".*"
}

// EventSubject is that to which producers publish the events of a namespace.
func (n Names) EventSubject(namespace string) string { return n.root() + events + "." + namespace }

func (n Names) root() string { return strings.ToLower(string(n)) + "." }

// Owner returns the namespace and the Postback that the subject of a delivery, or of its log, names, or of an event, which
// has no Postback. It returns false if it is none of these.
func (n Names) Owner(subject string) (namespace string, postback types.UID, ok bool) {
	rest, found := strings.CutPrefix(subject, n.root())
	tokens := strings.Split(rest, ".")
	if !found || len(tokens) < 2 || tokens[1] == "" {
		return "", "", false
	}
	switch kind, size := tokens[0], len(tokens); {
	case kind == events && size == 2:
		return tokens[1], "", true
	case (kind == deliveries || kind == logged) && size == 4:
		return tokens[1], types.UID(tokens[2]), true
	case kind == waiting && size == 3:
		return tokens[1], types.UID(tokens[2]), true
	}
	return "", "", false
}
