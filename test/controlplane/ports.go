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
	// Ports are below the range that Linux uses for outgoing connections. Otherwise a connection might take the port
	// of the API server while that is stopped.
	firstPort, lastPort = 20000, 32000
	portTries           = 100
)

// reservations has a UDP socket for each port that FreePort has returned, until this process ends.
var reservations struct {
	sync.Mutex
	sockets []net.PacketConn
}

// FreePort returns a free loopback port, below the range that Linux uses for outgoing connections. While this process
// lives, no other call returns the same port, in any process, because FreePort keeps the UDP port of the same number.
// So a program may stop and start again on the port.
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

// reserve binds the UDP port of an address. It fails if that is taken, or if something listens on the TCP port.
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
