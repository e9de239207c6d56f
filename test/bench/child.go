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
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

// roleFlag makes this program play a role in a child process.
const roleFlag = "-as"

func roleCommand(ctx context.Context, role string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	command := exec.CommandContext(ctx, self, roleFlag, role)
	command.Stderr = os.Stderr
	return command, nil
}

// call plays a role in a child process, and returns its report.
func call[Report any](ctx context.Context, role string, orders any) (Report, error) {
	var report Report
	encoded, err := json.Marshal(orders)
	if err != nil {
		return report, fmt.Errorf("encode the orders for %s: %w", role, err)
	}
	command, err := roleCommand(ctx, role)
	if err != nil {
		return report, err
	}
	command.Stdin = bytes.NewReader(encoded)
	out, err := command.Output()
	if err != nil {
		return report, fmt.Errorf("%s: %w", role, err)
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return report, fmt.Errorf("read the report of %s: %w", role, err)
	}
	return report, nil
}

// receiver is the child process that plays the endpoints.
type receiver struct {
	address string
	command *exec.Cmd
	cancel  context.CancelFunc
}

func startReceiver(ctx context.Context) (*receiver, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &receiver{cancel: cancel}
	var err error
	if r.command, err = roleCommand(ctx, load.Receive); err != nil {
		cancel()
		return nil, err
	}
	out, err := r.command.StdoutPipe()
	if err == nil {
		err = r.command.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("start the receiver: read its address: %w", err)
	}
	r.address = strings.TrimSpace(line)
	return r, nil
}

func (r *receiver) stop() {
	r.cancel()
	_ = r.command.Wait() // The error says that it was killed.
}

func (r *receiver) url(endpoint string) string { return load.EndpointURL(r.address, endpoint) }

// arrivals returns the events that have arrived since forget.
func (r *receiver) arrivals(ctx context.Context) (arrivals []load.Arrival, err error) {
	return arrivals, r.ask(ctx, load.ArrivalsPath, nil, &arrivals)
}

// count returns the number of events that an endpoint has answered with 2xx; "" means all endpoints.
func (r *receiver) count(ctx context.Context, endpoint string) (n int, err error) {
	return n, r.ask(ctx, load.CountPath+"?endpoint="+url.QueryEscape(endpoint), nil, &n)
}

// reserve returns an address that refuses connections until it is opened.
func (r *receiver) reserve(ctx context.Context) (address string, err error) {
	return address, r.ask(ctx, load.ReservePath, nil, &address)
}

func (r *receiver) open(ctx context.Context, address string) error {
	return r.ask(ctx, load.OpenPath, address, nil)
}

// await returns once n events have arrived at an endpoint, or none for patience. An endpoint of "" means all
// together.
func (r *receiver) await(ctx context.Context, endpoint string, n int, patience time.Duration) error {
	const every = 50 * time.Millisecond
	last, since := -1, time.Now()
	for {
		count, err := r.count(ctx, endpoint)
		if err != nil {
			return err
		}
		if count != last {
			last, since = count, time.Now()
		}
		if count >= n || time.Since(since) > patience {
			return nil
		}
		if err := rest(ctx, every); err != nil {
			return err
		}
	}
}

func (r *receiver) forget(ctx context.Context) error { return r.ask(ctx, load.ForgetPath, nil, nil) }

func (r *receiver) behave(ctx context.Context, b load.Behaviour) error {
	return r.ask(ctx, load.BehavePath, b, nil)
}

func (r *receiver) ask(ctx context.Context, path string, orders, answer any) error {
	encoded, err := json.Marshal(orders)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.address+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the receiver: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the receiver answers %s", response.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// rest waits for a time, or returns an error when ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
