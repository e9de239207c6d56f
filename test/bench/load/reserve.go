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

package load

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
)

// reservation is a bound socket that does not listen: it refuses connections and keeps its address from others.
type reservation struct{ socket int }

// reserve reserves a free loopback port.
func (r *receiver) reserve() (address string, err error) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return "", fmt.Errorf("reserve an address: %w", err)
	}
	defer func() {
		if err != nil {
			_ = syscall.Close(socket)
		}
	}()
	syscall.CloseOnExec(socket)
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", fmt.Errorf("reserve an address: %w", err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		return "", fmt.Errorf("reserve an address: %w", err)
	}
	at, ok := bound.(*syscall.SockaddrInet4)
	if !ok {
		return "", fmt.Errorf("reserve an address: %T is none of IPv4", bound)
	}
	address = fmt.Sprintf("127.0.0.1:%d", at.Port)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved[address] = &reservation{socket}
	return address, nil
}

// open listens and serves at a reserved address.
func (r *receiver) open(address string) error {
	r.mu.Lock()
	reserved := r.reserved[address]
	delete(r.reserved, address)
	r.mu.Unlock()
	if reserved == nil {
		return fmt.Errorf("open %s: nobody reserved it", address)
	}
	if err := syscall.Listen(reserved.socket, syscall.SOMAXCONN); err != nil {
		return fmt.Errorf("open %s: %w", address, err)
	}
	file := os.NewFile(uintptr(reserved.socket), address)
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("open %s: %w", address, err)
	}
	if err := file.Close(); err != nil { // The listener has its own copy.
		return fmt.Errorf("open %s: %w", address, err)
	}
	go func() { _ = r.server.Serve(listener) }() // Serve ends with the server.
	return nil
}

// answer answers a request with the result of do.
func answer(w http.ResponseWriter, do func() (string, error)) {
	result, err := do()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(result) // The caller notices a truncated answer.
}
