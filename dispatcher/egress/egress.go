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

// Package egress decides which addresses the dispatcher may reach, and connects to them, directly or through a proxy.
package egress

import (
	"errors"
	"net"
)

// Options restrict the reachable addresses. The zero value allows the public internet on DefaultPorts.
type Options struct {
	// AllowCIDRs are ranges to open: "10.0.0.0/8" for all namespaces, "partner-acme=10.1.0.0/16" for one.
	AllowCIDRs List
	// ClusterCIDRs are the ranges of the cluster, closed even if their addresses are public.
	ClusterCIDRs List
	// AllowPorts is a list of ports and ranges; "" means DefaultPorts.
	AllowPorts string
	// Proxy is a URL of scheme http, https, socks5 or socks5h; "" means no proxy.
	Proxy string
	// ProxyCredentialsFile has user:password for the proxy on its first line. It is read for each connection.
	ProxyCredentialsFile string
	// NoProxy lists hosts, domains and CIDRs to reach without the proxy.
	NoProxy string
	// Resolver resolves names; nil means net.DefaultResolver.
	Resolver *net.Resolver
}

// Egress makes dialers. It is safe for concurrent use.
type Egress struct {
	all *Dialer
	own map[string]*Dialer
}

// New returns an Egress, or an error that names the invalid option, never the password.
func New(o Options) (*Egress, error) {
	if o.AllowPorts == "" {
		o.AllowPorts = DefaultPorts
	}
	all, own, rulesErr := parseRules(o.AllowCIDRs, o.ClusterCIDRs, o.AllowPorts)
	proxy, proxyErr := newProxy(o)
	if err := errors.Join(rulesErr, proxyErr); err != nil {
		return nil, err
	}
	e := &Egress{all: newDialer(all, o.Resolver, proxy), own: map[string]*Dialer{}}
	for namespace, r := range own {
		e.own[namespace] = newDialer(r, o.Resolver, proxy)
	}
	return e, nil
}

// Dialer returns the Dialer for the Postbacks of a namespace. Namespaces with the same Dialer share their rules, so
// they may share connections. A connection must never serve a namespace with another Dialer.
func (e *Egress) Dialer(namespace string) *Dialer {
	if d, ok := e.own[namespace]; ok {
		return d
	}
	return e.all
}
