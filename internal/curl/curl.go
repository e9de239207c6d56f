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

// Package curl writes the request of a delivery as a shell script, for users who want to send the request themselves.
package curl

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/postback/format"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

// Header is a header of a request. Note describes a value that comes from a Secret, or differs in each attempt.
type Header struct {
	Name, Value, Note string
}

// Headers returns the headers of the delivery's next request.
func Headers(p *v1alpha1.Postback, d *v1alpha1.PostbackDelivery) []Header {
	headers := []Header{{Name: "Content-Type", Value: format.ContentType(d.Spec.Format)}}
	const signed = "signed anew for each attempt"
	for _, scheme := range p.Spec.GetSignatures() {
		switch scheme {
		case v1alpha1.SignatureStandardWebhooks:
			headers = append(headers, Header{Name: "webhook-id", Value: d.Spec.Event.ID},
				Header{Name: "webhook-timestamp", Note: "the time of the attempt"}, Header{Name: "webhook-signature", Note: signed})
		case v1alpha1.SignatureDub:
			headers = append(headers, Header{Name: sign.DefaultDubHeader, Note: signed})
		}
	}
	if auth := authorization(p.Spec.Auth); auth != "" {
		headers = append(headers, Header{Name: "Authorization", Note: auth})
	}
	for i := range p.Spec.Headers {
		h := &p.Spec.Headers[i]
		switch {
		case h.Value != nil && *h.Value != "" && endpoint.Sensitive(h.Name):
			headers = append(headers, Header{Name: h.Name, Note: "hidden: the name is that of a credential"})
			continue
		case h.Value != nil:
			headers = append(headers, Header{Name: h.Name, Value: *h.Value})
			continue
		}
		headers = append(headers, Header{Name: h.Name, Note: fromSecret(h, "from Secret %s, key %s")})
	}
	return headers
}

// fromSecret formats the Secret and data key of a header's value, or returns "" for a plain value.
func fromSecret(h *v1alpha1.Header, form string) string {
	if h.ValueFrom == nil || h.ValueFrom.SecretKeyRef == nil {
		return ""
	}
	return fmt.Sprintf(form, h.ValueFrom.SecretKeyRef.Name, h.ValueFrom.SecretKeyRef.Key)
}

func authorization(auth *v1alpha1.Authentication) string {
	switch {
	case auth == nil:
		return ""
	case auth.Basic != nil:
		return "Basic, from Secret " + auth.Basic.SecretRef.Name
	case auth.Bearer != nil:
		return "Bearer, from Secret " + auth.Bearer.SecretKeyRef.Name
	}
	return "Bearer, by OAuth 2.0"
}

// Kubectl holds the kubectl settings of a script. An empty one keeps kubectl's default.
type Kubectl struct {
	Context, Kubeconfig string
}

// Flags returns the flags between kubectl and its verb, each with a space before it and quoted for the shell.
func (k Kubectl) Flags() string {
	flags := ""
	if k.Kubeconfig != "" {
		flags += " --kubeconfig " + quote(k.Kubeconfig)
	}
	if k.Context != "" {
		flags += " --context " + quote(k.Context)
	}
	return flags
}

// Script returns a POSIX shell script that signs the delivery's body with the present key and posts it with curl. The
// script needs kubectl, openssl, od and base64. It reads keys, credentials and the present URL from the cluster when
// it runs, so its text holds no secret except those in the body.
func Script(p *v1alpha1.Postback, d *v1alpha1.PostbackDelivery, kubectl Kubectl) string {
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	line("#!/bin/sh")
	line("# Sends event %s to %s again, signed anew.", d.Spec.Event.ID, p.Name)
	line("set -eu")
	line("secret() { kubectl%s -n %s get secret \"$1\" -o go-template=\"{{index .data \\\"$2\\\" | base64decode}}\"; }", kubectl.Flags(), quote(p.Namespace))
	line("postback() { kubectl%s -n %s get postbacks.postback.dev %s -o go-template=\"$1\"; }", kubectl.Flags(), quote(p.Namespace), quote(p.Name))
	line("url=$(postback '{{.spec.url}}')")
	line("key=$(secret %s %s)", quote(secretName(p)), v1alpha1.SigningKeyName)
	line("id=%s", quote(d.Spec.Event.ID))
	line("timestamp=$(date +%%s)")
	line("body=%s", quote(d.Spec.Body))
	headers := []string{quote("Content-Type: " + format.ContentType(d.Spec.Format))}
	for _, scheme := range p.Spec.GetSignatures() {
		if scheme == v1alpha1.SignatureDub {
			line(`dub=$(printf %%s "$body" | openssl dgst -sha256 -hmac "$key" -r | cut -d ' ' -f 1)`)
			headers = append(headers, `"`+sign.DefaultDubHeader+`: $dub"`)
			continue
		}
		line(`hexkey=$(printf %%s "${key#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \n')`)
		line(`signature=$(printf %%s "$id.$timestamp.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$hexkey" -binary | base64)`)
		headers = append(headers, `"webhook-id: $id"`, `"webhook-timestamp: $timestamp"`, `"webhook-signature: v1,$signature"`)
	}
	for i := range p.Spec.Headers {
		h := &p.Spec.Headers[i]
		switch {
		case h.Value != nil && *h.Value == "":
			// curl sends a header without a value if a semicolon follows its name; with a colon, curl omits the
			// header.
			headers = append(headers, quote(h.Name+";"))
			continue
		case h.Value != nil && !endpoint.Sensitive(h.Name):
			headers = append(headers, quote(h.Name+": "+*h.Value))
			continue
		case h.Value != nil:
			line("value%d=$(postback %s)", i, quote(fmt.Sprintf(valueTemplate, h.Name)))
			line(`: "${value%d:?the header has no value any more: print the script again}"`, i)
		default:
			line("value%d=$(%s)", i, fromSecret(h, "secret '%s' '%s'"))
		}
		headers = append(headers, fmt.Sprintf(`"%s: $value%d"`, shellText(h.Name), i))
	}
	switch auth := p.Spec.Auth; {
	case auth == nil:
	case auth.Basic != nil:
		name := quote(auth.Basic.SecretRef.Name)
		line("username=$(secret %s username)", name)
		line("password=$(secret %s password)", name)
		line(`basic=$(printf %%s:%%s "$username" "$password" | base64 | tr -d '\n')`)
		headers = append(headers, `"Authorization: Basic $basic"`)
	case auth.Bearer != nil:
		line("bearer=$(secret '%s' '%s')", auth.Bearer.SecretKeyRef.Name, auth.Bearer.SecretKeyRef.Key)
		headers = append(headers, `"Authorization: Bearer $bearer"`)
	default:
		line(`: "${ACCESS_TOKEN:?get an access token of %s first, and set ACCESS_TOKEN to it}"`, shellText(endpoint.Masked(auth.OAuth2.TokenURL)))
		headers = append(headers, `"Authorization: Bearer $ACCESS_TOKEN"`)
	}
	// --globoff makes curl take brackets and braces in the URL literally.
	line("printf %%s \"$body\" | curl -sS -i --globoff -X POST \"$url\" \\")
	for _, header := range headers {
		line("  -H %s \\", header)
	}
	line("  --data-binary @-")
	return s.String()
}

// valueTemplate prints the plain value of the header with a name.
const valueTemplate = `{{range .spec.headers}}{{if eq .name %q}}{{with .value}}{{.}}{{end}}{{end}}{{end}}`

// secretName returns the name of the core Secret with the signing key.
func secretName(p *v1alpha1.Postback) string {
	return cmp.Or(p.Status.SecretName, p.GetPostbackSecretName())
}

// quote returns a text as one shell word.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// shellText escapes a text for double quotes in the shell.
func shellText(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(text)
}
