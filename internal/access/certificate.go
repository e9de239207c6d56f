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

package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"

	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

const (
	caNamespace = "kube-system"
	caConfigMap = "extension-apiserver-authentication"
	caKey       = "client-ca-file"
)

// Certificates authenticates callers by client certificates that the cluster's CA signed, as aggregated API servers
// do. It reads the CA from ConfigMap extension-apiserver-authentication and follows its changes. Kubernetes has a
// Role that permits this. A cluster that publishes no CA accepts no certificate here.
type Certificates struct {
	*Reviewer

	ca            *dynamiccertificates.ConfigMapCAController
	authenticator *x509.Authenticator
}

// NewCertificates returns a Certificates that checks rights with the Reviewer.
func NewCertificates(clients kubernetes.Interface, r *Reviewer) (*Certificates, error) {
	ca, err := dynamiccertificates.NewDynamicCAFromConfigMapController("client-ca", caNamespace, caConfigMap, caKey, clients)
	if err != nil {
		return nil, fmt.Errorf("watch the CA of client certificates: %w", err)
	}
	return &Certificates{Reviewer: r, ca: ca, authenticator: x509.NewDynamic(ca.VerifyOptions, x509.CommonNameUserConversion)}, nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (c *Certificates) NeedLeaderElection() bool { return false }

// Start watches the CA until ctx ends. It continues if the ConfigMap does not exist, or the right to read it is
// missing.
func (c *Certificates) Start(ctx context.Context) error {
	c.ca.Run(ctx, 1)
	return nil
}

// AllowCertificate returns the name of the user in a request's client certificate, if the user has a right. Its
// errors are those of Allow.
func (c *Certificates) AllowCertificate(ctx context.Context, request *http.Request, right rbacreview.Right) (user string, err error) {
	if _, known := c.ca.VerifyOptions(); !known {
		return "", &UnauthenticatedError{Detail: "This cluster publishes no CA for client certificates in ConfigMap " +
			caNamespace + "/" + caConfigMap + ": send a token."}
	}
	response, ok, err := c.authenticator.AuthenticateRequest(request)
	switch {
	case err != nil:
		return "", &UnauthenticatedError{Detail: fmt.Sprintf("The client certificate is not accepted: %v.", err)}
	case !ok:
		return "", &UnauthenticatedError{Detail: "The client certificate names no user."}
	}
	info := &authenticationv1.UserInfo{
		Username: response.User.GetName(), UID: response.User.GetUID(), Groups: response.User.GetGroups(),
		Extra: map[string]authenticationv1.ExtraValue{},
	}
	for name, values := range response.User.GetExtra() {
		info.Extra[name] = values
	}
	digest := sha256.Sum256(request.TLS.PeerCertificates[0].Raw)
	// The prefix keeps this key apart from those of tokens, which are bare digests.
	return c.permit(ctx, "certificate "+string(digest[:]), info, right)
}
