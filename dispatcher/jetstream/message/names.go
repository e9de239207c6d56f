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

// LogStream holds the deliveries whose first attempt succeeded.
func (n Names) LogStream() string { return string(n) + "_LOG" }

// AllDeliveries is the subject of the deliveries stream.
func (n Names) AllDeliveries() string { return n.root() + "deliveries.>" }

// AllLog is the subject of the log stream.
func (n Names) AllLog() string { return n.root() + "log.>" }

// DeliverySubject is that of the deliveries of a Postback. Neither part holds a full stop: a namespace is a DNS label.
func (n Names) DeliverySubject(namespace string, postback types.UID) string {
	return n.root() + "deliveries." + namespace + "." + string(postback)
}

// LogSubject is that of one delivery in the log, of which the name's last part is enough: see delivery.Name.
func (n Names) LogSubject(namespace string, postback types.UID, delivery string) string {
	return n.root() + "log." + namespace + "." + string(postback) + "." + delivery[strings.LastIndexByte(delivery, '-')+1:]
}

// LogSubjects is a filter for the log of a Postback, or, without one, of a namespace.
func (n Names) LogSubjects(namespace string, postback types.UID) string {
	if postback == "" {
		return n.root() + "log." + namespace + ".>"
	}
	return n.root() + "log." + namespace + "." + string(postback) + ".*"
}

func (n Names) root() string { return strings.ToLower(string(n)) + "." }

// tokensOf is how many parts the subjects have behind the prefix.
var tokensOf = map[string]int{"deliveries": 3, "log": 4}

// Owner returns the namespace and the Postback that the subject of a delivery, or of its log, names. It returns false if it is
// neither.
func (n Names) Owner(subject string) (namespace string, postback types.UID, ok bool) {
	rest, found := strings.CutPrefix(subject, n.root())
	tokens := strings.Split(rest, ".")
	size, known := tokensOf[tokens[0]]
	if !found || !known || len(tokens) != size || tokens[1] == "" || tokens[2] == "" {
		return "", "", false
	}
	return tokens[1], types.UID(tokens[2]), true
}
