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

// Command workload runs in Pods for the tests of a real node: as an endpoint, as a producer of events, or to try a
// connection.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// connectTimeout is longer than a connection takes that no policy blocks.
const connectTimeout = 3 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: workload receive|produce|connect FLAGS")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	switch args[0] {
	case "receive":
		secret := flags.String("secret-file", "", "File with the signing secret.")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return receive(ctx, *secret)
	case "produce":
		var p producer
		flags.StringVar(&p.url, "url", "", "URL that takes the events.")
		flags.StringVar(&p.caFile, "ca-file", "", "File with the certificate authority of that URL.")
		flags.StringVar(&p.tokenFile, "token-file", "", "File with the token to send.")
		flags.StringVar(&p.prefix, "prefix", "", "What the ids of the events begin with.")
		flags.IntVar(&p.events, "events", 1, "How many events to post, each in a request of its own.")
		flags.Float64Var(&p.rate, "rate", 1, "Events per second.")
		flags.IntVar(&p.tries, "tries", 1, "How often to try to post an event.")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return p.produce(ctx, os.Stdout)
	case "connect":
		address := flags.String("address", "", "Host and port.")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return connect(ctx, *address)
	}
	return fmt.Errorf("there is no %q", args[0])
}

// connect connects to an address, or fails.
func connect(ctx context.Context, address string) error {
	connection, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}
