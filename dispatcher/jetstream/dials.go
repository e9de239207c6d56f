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
	"net"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// dials counts the network connections of a nats.Conn. Each later one is a reconnect, or a try of it. nats.Conn counts
// reconnects itself, but under the lock that each publish needs.
type dials struct {
	count atomic.Uint64
}

// counted is an option of nats.Connect. The options of an embedded server must precede it.
func (d *dials) counted(o *nats.Options) error {
	if o.InProcessServer != nil {
		o.InProcessServer = &countedServer{o.InProcessServer, d}
	}
	if o.CustomDialer == nil {
		o.CustomDialer = &net.Dialer{Timeout: o.Timeout}
	}
	o.CustomDialer = &countedDialer{o.CustomDialer, d}
	return nil
}

// made counts a connection before nats.Conn uses it, so whoever sees an answer on it sees its count.
func (d *dials) made(conn net.Conn, err error) (net.Conn, error) {
	if err == nil {
		d.count.Add(1)
	}
	return conn, err
}

type countedDialer struct {
	nats.CustomDialer

	dials *dials
}

// Dial implements nats.CustomDialer.
func (d *countedDialer) Dial(network, address string) (net.Conn, error) {
	return d.dials.made(d.CustomDialer.Dial(network, address))
}

type countedServer struct {
	nats.InProcessConnProvider

	dials *dials
}

// InProcessConn implements nats.InProcessConnProvider.
func (s *countedServer) InProcessConn() (net.Conn, error) {
	return s.dials.made(s.InProcessConnProvider.InProcessConn())
}
