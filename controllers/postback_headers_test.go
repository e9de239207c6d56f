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

package controllers

import (
	"strings"
	"testing"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/header"
)

// The CRD and the manager refuse the same header names, which are those that the dispatcher omits.
func TestReservedHeadersAreRefused(t *testing.T) {
	b := newBench(t)
	for name, reserved := range map[string]bool{
		"Host": true, "user-agent": true, "Dub-Signature": true, "Connection": true, "KEEP-ALIVE": true, "Te": true, "Trailer": true,
		"Transfer-Encoding": true, "Upgrade": true, "Expect": true, "Accept-Encoding": true, "content-x": true, "webhook-id": true,
		"Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true, "Proxy-Tenant": true, "proxy-": true, "PROXY-X": true,
		"Proxy": false, "X-Proxy-Tenant": false, "Forwarded": false, "Via": false, "Authorization": false, "Accept": false, "Contents": false,
	} {
		t.Run(name, func(t *testing.T) {
			if header.Reserved(name) != reserved {
				t.Errorf("%s: Reserved is %t", name, !reserved)
			}
			p := newPostback("reserved", func(p *v1alpha1.Postback) {
				p.Spec.Headers = []v1alpha1.Header{{Name: name, Value: ptr.To("x")}}
			})
			p.Namespace = b.ns
			err := b.direct.Create(t.Context(), p, client.DryRunAll)
			if refused := err != nil && strings.Contains(err.Error(), "is reserved: choose another name"); refused != reserved || err != nil && !refused {
				t.Errorf("%s: the API server says %v", name, err)
			}
			v := Policy{SignatureHeader: "Acme-Signature"}.check(&p.Spec)
			if refused := v != nil && v.reason == v1alpha1.InvalidHeaderReason && strings.Contains(v.message, name); refused != reserved {
				t.Errorf("%s: the manager says %+v", name, v)
			}
		})
	}
}
