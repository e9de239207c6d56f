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

package e2e

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// Profiles are served only if a flag asks for them, and without a host only on loopback.
func TestProfilesAreForThisMachineAlone(t *testing.T) {
	g := NewWithT(t)
	port, err := controlplane.FreePort()
	g.Expect(err).NotTo(HaveOccurred())
	address := ":" + strconv.Itoa(port)
	replica, err := op.StartDispatcher(t.Context(), "postback-dispatcher-profiled", operator.WithArgs("--pprof-bind-address="+address))
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() {
		_, err := replica.Terminate(context.WithoutCancel(t.Context()))
		g.Expect(err).NotTo(HaveOccurred())
	})

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+address+"/debug/pprof/", http.NoBody)
	g.Expect(err).NotTo(HaveOccurred())
	response, err := http.DefaultClient.Do(request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(response.Body.Close()).To(Succeed())
	g.Expect(response.StatusCode).To(Equal(http.StatusOK))

	// A server on every interface would answer on this other address of the machine.
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.2"+address)
	if err == nil {
		_ = connection.Close()
	}
	g.Expect(err).To(HaveOccurred(), "it listens on more than 127.0.0.1")
}
