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

package dispatcher

import (
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/dispatcher/embedded"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
)

func TestFlagsOfTheEmbeddedServer(t *testing.T) {
	peers := embedded.Cluster{Peers: embedded.Peers{"peer-0", "peer-1", "peer-2"}}
	for _, tt := range []struct {
		name    string
		options Options
		// want are parts of the error; none means success.
		want []string
	}{
		{"no server", Options{Intake: IntakeKubernetes}, nil},
		{"one server", Options{Intake: IntakeJetStream, EmbedNATS: true, NATS: jetstream.Options{Replicas: 1}}, nil},
		{"three servers", Options{Intake: IntakeJetStream, EmbedNATS: true, NATS: jetstream.Options{Replicas: 1}, NATSServer: embedded.Options{Cluster: peers}}, nil},
		{"three servers, said twice", Options{Intake: IntakeJetStream, EmbedNATS: true, NATS: jetstream.Options{Replicas: 3}, NATSServer: embedded.Options{Cluster: peers}}, nil},
		{"three replicas of one server", Options{Intake: IntakeJetStream, EmbedNATS: true, NATS: jetstream.Options{Replicas: 3}}, []string{"--nats-replicas must be the number of embedded servers, 1, not 3"}},
		{"beside a URL", Options{Intake: IntakeJetStream, EmbedNATS: true, NATS: jetstream.Options{URL: "nats://nats"}}, []string{"--nats-embedded", "--nats-url"}},
		{"with credentials", Options{Intake: IntakeJetStream, EmbedNATS: true, NATS: jetstream.Options{CredentialsFile: "user.creds"}}, []string{"--nats-embedded", "--nats-credentials-file"}},
		{"with another intake", Options{Intake: IntakeKubernetes, EmbedNATS: true}, []string{"--nats-embedded needs --intake=jetstream"}},
		{"a directory without a server", Options{Intake: IntakeJetStream, NATSServer: embedded.Options{StoreDir: "/data"}}, []string{"--nats-store-dir", "--nats-embedded"}},
		{"peers without a server", Options{Intake: IntakeJetStream, NATSServer: embedded.Options{Cluster: peers}}, []string{"--nats-cluster-peers", "--nats-embedded"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.options.validateNATS()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("the flags are judged with %v, want %q", err, tt.want)
			}
			for _, text := range tt.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the error %q does not say %q", err, text)
				}
			}
		})
	}
}
