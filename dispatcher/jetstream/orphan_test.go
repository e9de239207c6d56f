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

package jetstream

import (
	"testing"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/natsserver"
)

// A message that is no delivery names no Postback, so nobody can ask whether its Postback exists.
func TestGarbageOfAnOrphanIsRemoved(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	x := r.replica(false)
	key := postbackKey{r.namespace, "no-route"}
	_, err := x.connection.intoWaiting.publish(t.Context(), &nats.Msg{Subject: x.connection.names.WaitingSubject(key.namespace, key.postback), Data: []byte("garbage")})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(x.consumer.drain.purgeOrphan(t.Context(), key)).To(Succeed())
	g.Expect(x.inWaiting()).To(BeZero())
}
