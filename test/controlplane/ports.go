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

package controlplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const (
	// Ports are chosen below the range that Linux gives to outgoing connections, so that none of those takes the API
	// server's port while it is stopped.
	firstPort, lastPort = 20000, 32000
	portTries           = 100
)

// reservations holds a UDP socket for each port that FreePort has returned, until this process ends.
var reservations struct {
	sync.Mutex
	sockets []net.PacketConn
}

// FreePort returns a port of the loopback interface that nothing listens on now, below the range that Linux gives to outgoing
// connections. No other call returns it while this process lives, in whatever process, so that a program may end there and
// start again: each call takes the UDP port of the same number first.
func FreePort() (int, error) {
	reservations.Lock()
	defer reservations.Unlock()
	var err error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var reservation net.PacketConn
		if reservation, err = reserve(net.JoinHostPort(loopback, strconv.Itoa(port))); err == nil {
			reservations.sockets = append(reservations.sockets, reservation)
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// reserve takes the UDP port of an address, or returns an error if that is taken, or something listens on the TCP port.
func reserve(address string) (net.PacketConn, error) {
	reservation, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err == nil {
		err = listener.Close()
	}
	if err != nil {
		return nil, errors.Join(err, reservation.Close())
	}
	return reservation, nil
}
