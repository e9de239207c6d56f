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

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"

	"github.com/vishvananda/netlink"
)

const (
	nodeName = "node"
	// nodeIP is the address of the node. Nothing answers at gateway: the default route only makes Service addresses
	// routable.
	nodeIP      = "172.30.0.1"
	gateway     = "172.30.0.254"
	podCIDR     = "10.244.0.0/24"
	serviceCIDR = "10.96.0.0/16"
	apiIP       = "10.96.0.1"
	dnsIP       = "10.96.0.10"
)

// setUpNetwork creates an interface with the node's address in the empty network namespace.
func setUpNetwork() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("set up the loopback interface: %w", err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "node0"}, PeerName: "node0-peer"}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make an interface: %w", err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(nodeIP), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(pair, address); err != nil {
		return fmt.Errorf("give the interface an address: %w", err)
	}
	peer, err := netlink.LinkByName(pair.PeerName)
	if err != nil {
		return fmt.Errorf("find the interface's peer: %w", err)
	}
	for _, link := range []netlink.Link{pair, peer} {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set up an interface: %w", err)
		}
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: pair.Attrs().Index, Gw: net.ParseIP(gateway)}); err != nil {
		return fmt.Errorf("add the default route: %w", err)
	}
	return setNetworkSettings()
}

// setNetworkSettings changes kernel settings that each network namespace has separately.
func setNetworkSettings() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("have packets forwarded: %w", err)
	}
	// Only with this setting do packets between Pods pass the iptables rules of the node. Some kernels lack it.
	err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("have packets between Pods filtered: %w", err)
	}
	return nil
}

// policyQueue is the number of the kernel's queue for the NetworkPolicy agent.
const policyQueue = "100"

// queueByIPTables adds iptables rules that queue packets for the NetworkPolicy agent, on kernels whose nftables has
// no queues. As in the agent's own rules, packets of the node and of accepted connections pass.
func queueByIPTables(ctx context.Context) error {
	if kernelQueues(ctx) {
		return nil
	}
	for _, rule := range [][]string{
		{"-m", "owner", "--uid-owner", "0", "-j", "RETURN"},
		{"-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "RETURN"},
		{"-o", "lo", "-j", "RETURN"},
		{"-j", "NFQUEUE", "--queue-num", policyQueue},
	} {
		args := append([]string{"-w", "-t", "mangle", "-A", "POSTROUTING"}, rule...)
		if output, err := exec.CommandContext(ctx, "iptables", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("queue packets for NetworkPolicy: %w: %s", err, output)
		}
	}
	return nil
}

// kernelQueues reports whether nftables of this kernel supports queues.
func kernelQueues(ctx context.Context) bool {
	const rules = "add table inet probe; add chain inet probe queued; add rule inet probe queued queue num " + policyQueue
	err := exec.CommandContext(ctx, "nft", rules).Run()
	_ = exec.CommandContext(ctx, "nft", "delete table inet probe").Run() // The table does not exist if the probe failed.
	return err == nil
}
