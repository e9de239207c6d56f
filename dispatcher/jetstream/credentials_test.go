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
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// operator is an operator of NATS as nsc creates it: it signs an account, which signs users.
type operator struct {
	t       *testing.T
	account nkeys.KeyPair
	// config is the part of the servers' configuration that names the operator.
	config string
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{t: t}
	root := o.key(nkeys.CreateOperator())
	system := o.key(nkeys.CreateAccount())
	o.account = o.key(nkeys.CreateAccount())
	operatorClaims := jwt.NewOperatorClaims(o.public(root))
	operatorClaims.SystemAccount = o.public(system)
	accountClaims := jwt.NewAccountClaims(o.public(o.account))
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	o.config = fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: {\n  %s: %s\n  %s: %s\n}\n",
		o.sign(operatorClaims, root), o.public(system), o.sign(jwt.NewAccountClaims(o.public(system)), root), o.public(o.account), o.sign(accountClaims, root))
	return o
}

func (o *operator) key(pair nkeys.KeyPair, err error) nkeys.KeyPair {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
	return pair
}

func (o *operator) public(pair nkeys.KeyPair) string {
	o.t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		o.t.Fatal(err)
	}
	return key
}

func (o *operator) sign(claims jwt.Claims, by nkeys.KeyPair) string {
	o.t.Helper()
	token, err := claims.Encode(by)
	if err != nil {
		o.t.Fatal(err)
	}
	return token
}

// issue writes the credentials of a user with the permissions in docs/jetstream.md, which expire at a time.
func (o *operator) issue(file string, until time.Time) {
	o.t.Helper()
	user := o.key(nkeys.CreateUser())
	claims := jwt.NewUserClaims(o.public(user))
	claims.Expires = until.Unix()
	claims.Permissions.Pub.Allow.Add("postback.>", "$JS.API.>", "$JS.ACK.>")
	claims.Permissions.Sub.Allow.Add("_INBOX.>")
	seed, err := user.Seed()
	if err != nil {
		o.t.Fatal(err)
	}
	credentials, err := jwt.FormatUserConfig(o.sign(claims, o.account), seed)
	if err != nil {
		o.t.Fatal(err)
	}
	// Replace the file atomically, as the kubelet does.
	if err := os.WriteFile(file+".new", credentials, 0o600); err != nil {
		o.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		o.t.Fatal(err)
	}
}

// TestCredentialsAreRenewed: expired credentials are refused at every try. Replaced credentials in the same file are
// accepted, at the start and when the former ones expire during a connection.
func TestCredentialsAreRenewed(t *testing.T) {
	g := NewWithT(t)
	o := newOperator(t)
	file := filepath.Join(t.TempDir(), "user.creds")
	o.issue(file, time.Now().Add(-time.Minute))
	var complaints, connected atomic.Int32
	r := newRig(t, natsserver.Options{Extra: o.config}, func(options *Options) {
		options.CredentialsFile = file
		options.Log = funcr.New(func(_, args string) {
			switch {
			case strings.Contains(args, "Cannot connect to NATS"):
				complaints.Add(1)
			case strings.Contains(args, "onnected to NATS"):
				connected.Add(1)
			}
		}, funcr.Options{})
	})
	refusals := func() int {
		log, err := r.servers.Nodes[0].Log()
		g.Expect(err).NotTo(HaveOccurred())
		return strings.Count(log, "authentication error")
	}
	begun := time.Now()
	c, err := Connect(r.options)
	g.Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { g.Expect(c.Start(ctx)).To(Succeed()) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		c.Close()
	})
	const often = 6
	g.Eventually(refusals).WithTimeout(patience).Should(BeNumerically(">=", often))
	g.Expect(c.Available()).To(MatchError(errDisconnected))

	const short = 3 * time.Second
	var issued time.Time
	g.Eventually(func() error {
		// On a busy machine the credentials may expire before they are used.
		if time.Since(issued) > short {
			issued = time.Now()
			o.issue(file, issued.Add(short))
		}
		return c.Available()
	}).WithTimeout(patience).Should(Succeed())
	before := refusals()
	g.Eventually(refusals).WithTimeout(patience).Should(BeNumerically(">=", before+often))
	// The server accepts credentials in their last moment, too, and ends the connection at once.
	times := 1 + connected.Load() + int32(time.Since(begun)/complainAgain)
	g.Expect(complaints.Load()).To(And(BeNumerically(">=", 2), BeNumerically("<=", times)), "once for each time without a connection")

	o.issue(file, time.Now().Add(time.Hour))
	g.Eventually(c.Available).WithTimeout(patience).Should(Succeed())

	x, e := r.replica(true), newEndpoint(t)
	g.Expect(x.store(r.postback("endpoint", e), "evt_1", data(1)).Result).To(Equal(intake.Stored))
	g.Eventually(func() int { return e.count("evt_1") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
}
