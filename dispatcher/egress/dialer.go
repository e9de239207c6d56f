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

package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	keepAlive = 30 * time.Second
	// stagger is the time after which the next address is tried as well (RFC 8305, section 5).
	stagger = 300 * time.Millisecond
	// maxAddresses bounds the tried addresses of a name, so that a DNS response cannot turn an attempt into a scan.
	maxAddresses = 8
	// maxDial bounds a dial without a deadline. It is the longest spec.timeout.
	maxDial = 30 * time.Second
)

type deadlineKey struct{}

// WithDialDeadline stores the deadline of ctx as a value of the context. http.Transport dials with the values of a
// request's context, but without its deadline.
func WithDialDeadline(ctx context.Context) context.Context {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, deadlineKey{}, deadline)
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Value(deadlineKey{}).(time.Time); ok {
		return context.WithDeadline(ctx, deadline)
	}
	return context.WithTimeout(ctx, maxDial)
}

// Dialer connects according to the rules of one or more namespaces. It is safe for concurrent use.
type Dialer struct {
	rules    rules
	resolver *net.Resolver
	proxy    *proxy // nil means no proxy.
	direct   net.Dialer
}

func newDialer(r rules, resolver *net.Resolver, p *proxy) *Dialer {
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	d := &Dialer{rules: r, resolver: resolver, proxy: p}
	d.direct = net.Dialer{KeepAlive: keepAlive, ControlContext: d.control}
	return d
}

// control checks the address of every socket: package net calls it before each connect, so no connection bypasses the
// rules.
func (d *Dialer) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	socket, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address of a socket: %w", err)
	}
	host := socket.Addr().String()
	if err := d.rules.checkPort(host, socket.Port()); err != nil {
		return err
	}
	return d.rules.checkAddress(host, socket.Addr())
}

// DialContext connects to host:port over TCP, for http.Transport. Errors are a *BlockedError, *ProxyError,
// *UpstreamError, or an error of package net.
func (d *Dialer) DialContext(ctx context.Context, _, hostPort string) (net.Conn, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	t, err := parseTarget(hostPort)
	if err != nil {
		return nil, err
	}
	if err := d.rules.checkPort(t.host, t.port); err != nil {
		return nil, err
	}
	proxied := d.proxy != nil && d.proxy.wanted(t)
	if proxied && d.proxy.resolves {
		if t.address.IsValid() {
			if err := d.rules.checkAddress(t.host, t.address); err != nil {
				return nil, err
			}
		}
		return d.proxy.connect(ctx, t)
	}
	addresses, err := d.permitted(ctx, t)
	if err != nil {
		return nil, err
	}
	return race(ctx, addresses, func(ctx context.Context, address netip.Addr) (net.Conn, error) {
		if proxied {
			return d.proxy.connect(ctx, target{host: address.String(), address: address, port: t.port})
		}
		return d.direct.DialContext(ctx, "tcp", netip.AddrPortFrom(address, t.port).String())
	})
}

// permitted resolves a target and returns the addresses that the rules allow, or a BlockedError if they allow none.
func (d *Dialer) permitted(ctx context.Context, t target) ([]netip.Addr, error) {
	addresses := []netip.Addr{t.address}
	if !t.address.IsValid() {
		var err error
		if addresses, err = d.resolver.LookupNetIP(ctx, "ip", t.host); err != nil {
			return nil, err
		}
	}
	var open []netip.Addr
	var blocked error
	for _, address := range addresses {
		err := d.rules.checkAddress(t.host, address)
		switch {
		case err == nil && len(open) < maxAddresses:
			open = append(open, address.Unmap())
		case err != nil && blocked == nil:
			blocked = err
		}
	}
	if len(open) > 0 {
		return alternate(open), nil
	}
	var named *BlockedError
	if errors.As(blocked, &named) && !t.address.IsValid() {
		named.Kind = "none of its addresses is open, for example because " + named.Kind
	}
	if blocked == nil {
		return nil, &net.DNSError{Err: "no such host", Name: t.host, IsNotFound: true}
	}
	return nil, blocked
}

// alternate interleaves IPv4 and IPv6 addresses, so that a broken family costs one wait, not many. The family of the
// first address (RFC 6724) stays first.
func alternate(addresses []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, address := range addresses {
		if address.Is4() == addresses[0].Is4() {
			first = append(first, address)
		} else {
			second = append(second, address)
		}
	}
	mixed := make([]netip.Addr, 0, len(addresses))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			mixed = append(mixed, first[i])
		}
		if i < len(second) {
			mixed = append(mixed, second[i])
		}
	}
	return mixed
}

// race connects to the first address that answers (RFC 8305). It tries the next address when one fails, or after
// stagger. The error is that of the first address. The fallback of net.Dialer is unsuitable: it resolves the name
// itself, without permitted, splits its timeout among the addresses, and opens no tunnel through a proxy.
func race(ctx context.Context, addresses []netip.Addr, connect func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		index int
		conn  net.Conn
		err   error
	}
	results := make(chan result, len(addresses))
	begun := 0
	begin := func() {
		if begun == len(addresses) {
			return
		}
		index := begun
		begun++
		go func() {
			conn, err := connect(ctx, addresses[index])
			results <- result{index, conn, err}
		}()
	}
	begin()
	next := time.NewTicker(stagger)
	defer next.Stop()
	errs := make([]error, len(addresses))
	for ended := 0; ended < len(addresses); {
		select {
		case <-next.C:
			begin()
		case r := <-results:
			ended++
			if r.err == nil {
				// Close late connections when they arrive. ctx ends with this function, which ends their dials soon.
				go func(late int) {
					for range late {
						if r := <-results; r.conn != nil {
							_ = r.conn.Close()
						}
					}
				}(begun - ended)
				return r.conn, nil
			}
			errs[r.index] = r.err
			next.Reset(stagger)
			begin()
		}
	}
	return nil, errs[0]
}
