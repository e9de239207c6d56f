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

package v1alpha1

// LocalReference names an object of the same namespace.
type LocalReference struct {
	// name of the object.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, - and ."
	Name string `json:"name,omitempty"`
}

// SecretKeySelector selects a key of a Secret of the same namespace.
type SecretKeySelector struct {
	// name of the Secret.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a Secret: lower-case letters, digits, - and ."
	Name string `json:"name,omitempty"`

	// key of the Secret's data.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="must be a key of a Secret: letters, digits, -, _ and ."
	Key string `json:"key,omitempty"`
}

// HeaderSource is the source of the value of a header.
type HeaderSource struct {
	// secretKeyRef selects a key of a Secret of the same namespace.
	//
	// +required
	SecretKeyRef *SecretKeySelector `json:"secretKeyRef,omitempty"`
}

// Header is an HTTP header that each request carries.
//
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.valueFrom)",message="must have exactly one of value and valueFrom"
type Header struct {
	// name of the header, in any case. Names that HTTP or the operator sets are reserved: Host, Content-*, User-Agent,
	// Dub-Signature, webhook-*, Proxy-*, and those of one hop (RFC 9110, section 7.6.1).
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-!#$%&\\'*+.^_`|~0-9A-Za-z]+$')",message="must be an HTTP header name: letters, digits and -"
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['host', 'user-agent', 'dub-signature', 'connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect', 'accept-encoding']) && !self.lowerAscii().startsWith('content-') && !self.lowerAscii().startsWith('proxy-') && !self.lowerAscii().startsWith('webhook-')",message="is reserved: choose another name (HTTP and the operator set Host, Content-*, User-Agent, Dub-Signature, webhook-*, and the hop-by-hop headers themselves; Proxy-* is for proxies)"
	Name string `json:"name,omitempty"`

	// value of the header.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\x00-\\x08\\x0a-\\x1f\\x7f]')",message="must not contain line breaks or other control characters"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[ \\t]|[ \\t]$')",message="must not begin or end with a space or tab, which HTTP takes away: remove it"
	Value *string `json:"value,omitempty"`

	// valueFrom takes the value from a Secret. The value must not be longer than 4,096 bytes.
	//
	// +optional
	ValueFrom *HeaderSource `json:"valueFrom,omitempty"`
}

// TLS has the certificates by which the endpoint and the dispatcher identify themselves. The dispatcher always
// verifies the endpoint's certificate.
//
// +kubebuilder:validation:XValidation:rule="has(self.caSecretRef) || has(self.clientCertificateSecretRef)",message="must have at least one of caSecretRef and clientCertificateSecretRef"
type TLS struct {
	// caSecretRef selects PEM certificates of the authorities to trust, instead of the public authorities.
	//
	// +optional
	CASecretRef *SecretKeySelector `json:"caSecretRef,omitempty"`

	// clientCertificateSecretRef names a Secret with a certificate (tls.crt) and its key (tls.key), as in the type
	// kubernetes.io/tls. The dispatcher presents it to the endpoint.
	//
	// +optional
	ClientCertificateSecretRef *LocalReference `json:"clientCertificateSecretRef,omitempty"`
}

// Authentication is the source of the header Authorization.
//
// +kubebuilder:validation:XValidation:rule="[has(self.basic), has(self.bearer), has(self.oauth2)].filter(x, x).size() == 1",message="must have exactly one of basic, bearer and oauth2"
type Authentication struct {
	// basic sends a user name and password (RFC 7617).
	//
	// +optional
	Basic *BasicAuthentication `json:"basic,omitempty"`

	// bearer sends a token (RFC 6750).
	//
	// +optional
	Bearer *BearerAuthentication `json:"bearer,omitempty"`

	// oauth2 gets a token by the OAuth 2.0 client credentials grant (RFC 6749, section 4.4) and sends it.
	//
	// +optional
	OAuth2 *OAuth2ClientCredentials `json:"oauth2,omitempty"`
}

// BasicAuthentication is a user name and password.
type BasicAuthentication struct {
	// secretRef names a Secret with the data keys username and password, as in the type kubernetes.io/basic-auth.
	//
	// +required
	SecretRef LocalReference `json:"secretRef,omitzero"`
}

// BearerAuthentication is a token.
type BearerAuthentication struct {
	// secretKeyRef selects the token.
	//
	// +required
	SecretKeyRef SecretKeySelector `json:"secretKeyRef,omitzero"`
}

// OAuth2ClientCredentials are the parameters of a token request.
type OAuth2ClientCredentials struct {
	// tokenURL of the authorisation server: an absolute https URL, or http if the manager has
	// --allow-plain-http. The same rules for addresses apply as for the endpoint.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.matches('^[Hh][Tt][Tt][Pp][Ss]?://') && !self.matches('[\\x00-\\x20\\x7f#]') && isURL(self) && url(self).getHostname() != '' && !self.matches('^[^/]*//[^/?#]*@')",message="must be an absolute URL without user name, password, fragment or spaces, such as https://auth.example.com/token"
	// +kubebuilder:validation:XValidation:rule="!isURL(self) || self.matches('^[^/]*//[^/?#]*@') || self.matches('^[^/]*//([[][0-9A-Fa-f:.]+[]]|([0-9A-Za-z_-]|[^\\x00-\\x7f])+([.]([0-9A-Za-z_-]|[^\\x00-\\x7f])+)*[.]?)?(:[^/?#]*)?([/?#]|$)')",message="must have a DNS name or an IP address as its host, without wildcards, placeholders, empty labels or zones"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*:(0[0-9]*|[0-9]{6,}|[7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])([/?#]|$)')",message="must have a port from 1 to 65535, without leading zeros"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//([^]:[/?#@]*[.])?([0-9]+|0[xX][0-9A-Fa-f]*)[.]?(:[^/?#]*)?([/?#]|$)') || self.matches('^[^/]*//((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(:[^/?#]*)?([/?#]|$)')",message="must have an IPv4 address of four decimal numbers, such as 192.0.2.1"
	TokenURL string `json:"tokenURL,omitempty"`

	// clientID of the dispatcher at the authorisation server.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	ClientID string `json:"clientID,omitempty"`

	// clientSecretRef selects the client's secret.
	//
	// +required
	ClientSecretRef SecretKeySelector `json:"clientSecretRef,omitzero"`

	// scopes to request.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Scopes []OAuth2Scope `json:"scopes,omitempty"`

	// audience to request, which some authorisation servers require.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Audience string `json:"audience,omitempty"`
}

// OAuth2Scope is a scope of RFC 6749, section 3.3.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.matches(r'^[\\x21\\x23-\\x5b\\x5d-\\x7e]+$')",message="must be a scope: printable characters without space, quotation mark and backslash"
type OAuth2Scope string
