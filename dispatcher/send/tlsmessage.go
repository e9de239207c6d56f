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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"time"
)

func isTLS(err error) bool {
	var (
		record      tls.RecordHeaderError
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		invalid     x509.CertificateInvalidError
	)
	return errors.As(err, &record) || errors.As(err, &certificate) || errors.As(err, &alert) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.Is(err, http.ErrSchemeMismatch) || strings.Contains(err.Error(), "tls: ")
}

// tlsMessage describes the fault of a TLS handshake, and the remedy.
func tlsMessage(err error) string {
	var (
		record    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &host):
		return "the endpoint's certificate is for another host (" + host.Error() + "): change spec.url, or have the certificate made for its host"
	case errors.As(err, &authority):
		return "the endpoint's certificate is signed by an unknown authority (or lacks an intermediate certificate): " +
			"have the endpoint send its whole chain, or name its authority by spec.tls.caSecretRef"
	case errors.As(err, &invalid):
		return invalidCertificate(&invalid)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "the endpoint does not speak TLS on this port (" + err.Error() + ")"
	}
	return alertMessage(err.Error())
}

// invalidCertificate tells an expired certificate from one that is not valid yet. crypto/x509 has one reason for
// both.
func invalidCertificate(invalid *x509.CertificateInvalidError) string {
	if invalid.Reason != x509.Expired || invalid.Cert == nil {
		return "the endpoint's certificate is not valid: " + invalid.Error()
	}
	if from := invalid.Cert.NotBefore; time.Now().Before(from) {
		return "the endpoint's certificate is not yet valid, before " + from.UTC().Format(time.RFC3339) +
			": have it replaced, or check the clock of the dispatcher's node"
	}
	return "the endpoint's certificate has expired, at " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339) + ": have it renewed"
}

// alertMessage describes an alert of the other side (RFC 8446, section 6.2). It recognises the alert by its text,
// because it has no type.
func alertMessage(text string) string {
	switch {
	case strings.Contains(text, "protocol version not supported"), strings.Contains(text, "unsupported protocol version"):
		return "the endpoint has no common TLS version with the dispatcher, which speaks 1.2 and 1.3 (" + text + ")"
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"),
		strings.Contains(text, "unknown certificate authority"), strings.Contains(text, "expired certificate"):
		return "the endpoint does not accept the dispatcher's client certificate, or requires one: " +
			"see spec.tls.clientCertificateSecretRef (" + text + ")"
	case strings.Contains(text, "no renegotiation"):
		return "the endpoint asked for a second TLS handshake within the connection (renegotiation), which the dispatcher refuses (RFC 9325, section 3.5): " +
			"have the endpoint speak TLS 1.3, or ask for the client certificate in its first handshake (" + text + ")"
	case strings.Contains(text, "handshake failure"):
		return "the endpoint ended the TLS handshake; it may have no common cipher, no certificate for this host, or require a client certificate (" + text + ")"
	default:
		return text
	}
}
