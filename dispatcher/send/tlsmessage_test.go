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

package send

import (
	"errors"
	"strings"
	"testing"
)

// These errors of crypto/tls have no type and are recognised by their texts. Each message names a remedy.
func TestMessagesOfTLSAlerts(t *testing.T) {
	for text, want := range map[string]string{
		"local error: tls: no renegotiation":                "ask for the client certificate in its first handshake",
		"remote error: tls: protocol version not supported": "speaks 1.2 and 1.3",
		"remote error: tls: certificate required":           "spec.tls.clientCertificateSecretRef",
		"remote error: tls: handshake failure":              "require a client certificate",
	} {
		t.Run(text, func(t *testing.T) {
			if got := tlsMessage(errors.New(text)); !strings.Contains(got, want) || !strings.Contains(got, text) {
				t.Errorf("%s: %s", text, got)
			}
		})
	}
}
