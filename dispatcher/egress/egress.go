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

// Package egress decides what the dispatcher may reach, and connects to it, directly or through a proxy.
package egress

import (
	"errors"
	"net"
)

// Options restrict the reachable addresses. The zero value opens the public internet, on the default ports.
type Options struct {
	// AllowCIDRs are opened: "10.0.0.0/8" for all namespaces, "partner-acme=10.1.0.0/16" for one.
	AllowCIDRs List
	// ClusterCIDRs are the cluster's own ranges, closed even if they are public addresses.
	ClusterCIDRs List
	// AllowPorts is a list of ports and ranges; "" means DefaultPorts.
	AllowPorts string
	// Proxy is a URL of scheme http, https, socks5 or socks5h, or "" for none.
	Proxy string
	// ProxyCredentialsFile holds user:password for the proxy in its first line. It is read at each connection.
	ProxyCredentialsFile string
	// NoProxy are the hosts, domains and CIDRs that are reached without the proxy.
	NoProxy string
	// Resolver of names; nil means that of the system.
	Resolver *net.Resolver
}

// Egress makes dialers. It is safe for concurrent use.
type Egress struct {
	all *Dialer
	own map[string]*Dialer
}

// New returns an Egress, or an error that names the wrong option, and no password.
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

// Dialer returns what connects for the Postbacks of a namespace. Namespaces that share one share their rules, and so
// their connections; what one Dialer has connected must never carry the request of another's namespace.
func (e *Egress) Dialer(namespace string) *Dialer {
	if d, ok := e.own[namespace]; ok {
		return d
	}
	return e.all
}
