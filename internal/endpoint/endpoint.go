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

// Package endpoint validates and normalises the URLs of endpoints, in the same way for all programs.
package endpoint

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of a domain name (RFC 1035) and a port.
const (
	maxHost  = 253
	maxLabel = 63
	maxPort  = 65535
)

// Mistake returns the fault of a URL and its remedy, or "". The text repeats no part of the URL, which may hold a
// token.
func Mistake(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Opaque != "":
		return "must be an absolute URL, such as https://example.com/hooks: this is not a valid URL"
	case u.Scheme != "https" && u.Scheme != "http":
		return "must be an absolute URL that starts with https://, such as https://example.com/hooks"
	case u.User != nil:
		return "must not contain a user name or password: keep them in a Secret, and name it in spec.auth"
	}
	if mistake := hostMistake(u.Host, u.Hostname()); mistake != "" {
		return mistake
	}
	return portMistake(u.Port())
}

func hostMistake(authority, host string) string {
	const correct = ": write a DNS name or an IP address, such as example.com"
	switch {
	case host == "":
		return "has no host" + correct
	case !utf8.ValidString(host):
		return "has a host that is not UTF-8" + correct
	case strings.HasPrefix(authority, "["):
		address, err := netip.ParseAddr(host)
		if err != nil {
			return "has a host in brackets that is no IPv6 address: write one such as [2001:db8::1]"
		}
		if address.Zone() != "" {
			return "has an IPv6 address with a zone (%): use an address without one"
		}
		return ""
	}
	ascii := toASCII(host)
	if _, err := netip.ParseAddr(ascii); err == nil {
		return ""
	}
	name := strings.TrimSuffix(ascii, ".")
	if len(name) > maxHost {
		return "has a host longer than 253 characters" + correct
	}
	last := ""
	for last = range strings.SplitSeq(name, ".") {
		switch {
		case last == "":
			return "has a host with an empty label, such as two full stops in a row" + correct
		case len(last) > maxLabel:
			return "has a host with a label longer than 63 characters" + correct
		case strings.Trim(strings.ToLower(last), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
			return "has a host with a character that no host name has" + correct
		}
	}
	if isNumber(last) {
		return "has a host that ends in a number and is no IPv4 address: write four decimal numbers, such as 192.0.2.1"
	}
	return ""
}

// isNumber reports whether URL parsers take a label for a part of an IPv4 address.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func portMistake(port string) string {
	if port == "" {
		return ""
	}
	if number, err := strconv.Atoi(port); err != nil || number < 1 || number > maxPort || strconv.Itoa(number) != port {
		return "has an impossible port: write a number from 1 to 65535 without leading zeros"
	}
	return ""
}

// toASCII returns the ASCII form of a host (UTS 46), which is used both to dial and in the header Host. A host without
// such a form stays unchanged.
func toASCII(host string) string {
	if strings.IndexFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return host
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return host
	}
	return ascii
}

// Normalise replaces the host of a URL by its ASCII form.
func Normalise(u *url.URL) {
	host, port := u.Hostname(), u.Port()
	ascii := toASCII(host)
	if ascii == host {
		return
	}
	u.Host = ascii
	if port != "" {
		u.Host = net.JoinHostPort(ascii, port)
	}
}
