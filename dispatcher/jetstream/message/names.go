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
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

// DefaultPrefix is the default prefix of stream names, and, in lower case, of subjects.
const DefaultPrefix = "POSTBACK"

// These are kinds of subjects.
const (
	deliveries = "deliveries"
	waiting    = "waiting"
	logged     = "log"
	events     = "events"
	acts       = "acts"
)

// Names is the prefix of an installation's streams and subjects. With different prefixes, installations can share an
// account of NATS.
type Names string

// Valid reports whether the prefix may begin names of streams and subjects.
func (n Names) Valid() bool {
	return n != "" && !strings.ContainsFunc(string(n), func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// DeliveriesStream returns the name of the stream of deliveries before their first attempt.
func (n Names) DeliveriesStream() string { return string(n) + "_DELIVERIES" }

// WaitingStream returns the name of the stream of deliveries that wait for their endpoint or for a retry.
func (n Names) WaitingStream() string { return string(n) + "_WAITING" }

// LogStream returns the name of the stream of deliveries that succeeded and were no PostbackDelivery.
func (n Names) LogStream() string { return string(n) + "_LOG" }

// EventsStream returns the name of the stream of events that producers publish to NATS.
func (n Names) EventsStream() string { return string(n) + "_EVENTS" }

// AllDeliveries returns the subject filter of the deliveries stream. Its fixed number of tokens excludes other
// subjects.
func (n Names) AllDeliveries() string { return n.root() + deliveries + ".*.*.*" }

// AllWaiting returns the subject filter of the waiting stream, which covers WaitingSubject and the RetrySubjects of
// each Postback.
func (n Names) AllWaiting() string { return n.root() + waiting + ".>" }

// AllLog returns the subject filter of the delivery log.
func (n Names) AllLog() string { return n.root() + logged + ".>" }

// AllEvents returns the subject filter of the stream of published events.
func (n Names) AllEvents() string { return n.root() + events + ".*" }

// DeliverySubject returns the subject of one delivery, by which the stream can be searched. No token contains a full
// stop: a namespace is a DNS label, and only the last part of the delivery's name is used (see delivery.Name).
func (n Names) DeliverySubject(namespace string, postback types.UID, name string) string {
	return n.of(deliveries, namespace, postback, name)
}

// WaitingSubject returns the subject of a Postback's waiting deliveries that are due at once. One subject per
// delivery would cost NATS memory.
func (n Names) WaitingSubject(namespace string, postback types.UID) string {
	return n.root() + waiting + "." + namespace + "." + string(postback)
}

// WaitingSubjects returns the filters for waiting deliveries of a Postback, or, if it is "", of a namespace, or of
// all. The filters cover deliveries without attempts, and all levels of retries.
func (n Names) WaitingSubjects(namespace string, postback types.UID) []string {
	switch {
	case namespace == "":
		return []string{n.root() + waiting + ".>"}
	case postback == "":
		return []string{n.root() + waiting + "." + namespace + ".>"}
	}
	one := n.WaitingSubject(namespace, postback)
	return []string{one, n.RetrySubjects(namespace, postback)}
}

// ActRequests returns the subject of requests to the elected replica about the waiting stream. No stream stores
// them.
func (n Names) ActRequests() string { return n.root() + acts + ".request" }

// Moves returns the subject of notices to the elected replica that a delivery can be attempted at once. The data is
// its subject in the waiting stream. No stream stores them.
func (n Names) Moves() string { return n.root() + acts + ".moved" }

// ActAnswers returns the prefix of the subjects of answers.
func (n Names) ActAnswers() string { return n.root() + acts + ".answer." }

// Levels is the number of retry subjects of a Postback: one for each delay, and the last one for retries without a
// time, because the endpoint answered 410.
const Levels = delivery.Levels + 1

// RetrySubject returns the subject of a Postback's waiting deliveries whose retries have the same delay. Level 0 is
// WaitingSubject.
func (n Names) RetrySubject(namespace string, postback types.UID, level int) string {
	if level == 0 {
		return n.WaitingSubject(namespace, postback)
	}
	return n.WaitingSubject(namespace, postback) + "." + strconv.Itoa(level)
}

// RetrySubjects returns the filter for the retries of a Postback at all levels from 1 on.
func (n Names) RetrySubjects(namespace string, postback types.UID) string {
	return n.WaitingSubject(namespace, postback) + ".*"
}

// Level returns the level of a subject of the waiting stream.
func (n Names) Level(subject string) int {
	tokens := strings.Split(subject, ".")
	if len(tokens) != waitingTokens+1 {
		return 0
	}
	level, _ := strconv.Atoi(tokens[waitingTokens]) // Owner has checked the number.
	return level
}

// waitingTokens is the number of tokens in a WaitingSubject.
const waitingTokens = 4

// LogSubject returns the subject of one entry of the delivery log.
func (n Names) LogSubject(namespace string, postback types.UID, name string) string {
	return n.of(logged, namespace, postback, name)
}

// DeliverySubjects returns the filter for deliveries of a Postback, or, if it is "", of a namespace.
func (n Names) DeliverySubjects(namespace string, postback types.UID) string {
	return n.all(deliveries, namespace, postback)
}

// LogSubjects returns the filter for entries of a Postback, or, if it is "", of a namespace.
func (n Names) LogSubjects(namespace string, postback types.UID) string {
	return n.all(logged, namespace, postback)
}

func (n Names) of(kind, namespace string, postback types.UID, name string) string {
	return n.root() + kind + "." + namespace + "." + string(postback) + "." + name[strings.LastIndexByte(name, '-')+1:]
}

func (n Names) all(kind, namespace string, postback types.UID) string {
	if postback == "" {
		return n.root() + kind + "." + namespace + ".>"
	}
	return n.root() + kind + "." + namespace + "." + string(postback) + ".*"
}

// EventSubject returns the subject to which producers publish the events of a namespace.
func (n Names) EventSubject(namespace string) string { return n.root() + events + "." + namespace }

func (n Names) root() string { return strings.ToLower(string(n)) + "." }

// Owner returns the namespace and the Postback in the subject of a delivery or an entry. The subject of an event has
// no Postback. ok is false for other subjects.
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
	case kind == waiting && (size == 3 || size == 4 && isLevel(tokens[3])):
		return tokens[1], types.UID(tokens[2]), true
	}
	return "", "", false
}

// isLevel reports whether the last token of a subject is a level of retries.
func isLevel(token string) bool {
	level, err := strconv.Atoi(token)
	return err == nil && level >= 1 && level <= Levels
}
