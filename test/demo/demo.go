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
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const (
	namespace = "partner-acme"
	postback  = "crm"
	hookPath  = "/hooks/postback"

	// jetStreamIntake is the value of --intake with which the demo embeds a NATS server.
	jetStreamIntake = "jetstream"

	stepTimeout = time.Minute
	stopTimeout = time.Minute
	logLines    = 30
)

// demo is one run of the demo.
type demo struct {
	out      *screen
	programs string
	intake   string
	portal   bool
	begun    time.Time

	root       string
	cp         *controlplane.ControlPlane
	client     client.Client
	op         *operator.Operator
	manager    *operator.Process
	dispatcher *operator.Process
	// pages is the process of the portal.
	pages *operator.Process
	// supervised waits for the goroutines that restart programs.
	supervised sync.WaitGroup
	endpoint   *receiver.Receiver
	door       door

	// token is the token of the sender.
	token  string
	keys   keys
	events []posted
	// kept is true once the steps are over and the reader may change things.
	kept atomic.Bool
}

func (d *demo) jetStream() bool { return d.intake == jetStreamIntake }

// play runs the steps. Each prepares the next.
func (d *demo) play(ctx context.Context) error {
	d.out.print("POSTBACK DEMO: events go out signed, are retried, and every attempt is on record.\n" +
		"Everything runs on this machine, as its own processes, which end with it.\n")
	steps := []func(context.Context) error{
		d.startControlPlane, d.install, d.startEndpoint, d.declare, d.postEvents, d.awaitRetry, d.rotate, d.showLog, d.summarize,
	}
	if d.jetStream() {
		steps = slices.Insert(steps, len(steps)-1, d.showStreams)
	}
	if d.portal {
		steps = append(steps, d.openPortal)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) startControlPlane(ctx context.Context) error {
	d.out.step("A Kubernetes control plane")
	var err error
	if d.root, err = controlplane.ModuleRoot(); err != nil {
		return err
	}
	begun := time.Now()
	// The demo applies all manifests by kubectl.
	d.cp, err = controlplane.Start(ctx, controlplane.Options{WithoutCRDs: true, Log: &progress{out: d.out}})
	if err != nil {
		return err
	}
	if d.client, err = d.cp.Client(); err != nil {
		return err
	}
	d.out.say("Ready after %.1fs.", time.Since(begun).Seconds())
	return nil
}

func (d *demo) install(ctx context.Context) error {
	d.out.step("The operator, as it is shipped")
	if d.programs == "" {
		d.out.say("Building manager and dispatcher ...")
	} else {
		d.programs, _ = filepath.Abs(d.programs)
	}
	var err error
	if d.op, err = operator.Install(ctx, d.cp, operator.Options{Programs: d.programs}); err != nil {
		return err
	}
	d.out.command("kubectl apply -k config/default")
	d.out.output(summary(d.op.Applied))
	if d.manager, err = d.op.StartManager(ctx, "postback-manager-demo", operator.WithArgs("--allow-plain-http")); err != nil {
		return err
	}
	var intake []operator.Option
	if d.jetStream() {
		intake = d.streamFlags()
	}
	if d.dispatcher, err = d.op.StartDispatcher(ctx, "postback-dispatcher-demo", intake...); err != nil {
		return err
	}
	d.door = door{url: d.dispatcher.IngestURL(), curl: "curl", address: d.dispatcher.IngestURL(), client: http.DefaultClient}
	d.out.say("manager and dispatcher run with the arguments of their Deployments, and each with a token of its")
	d.out.say("own ServiceAccount. One flag is added: --allow-plain-http, for the endpoint below has no certificate.")
	if d.jetStream() {
		if err := d.openTLS(ctx); err != nil {
			return err
		}
	}
	for _, p := range d.op.Processes() {
		d.supervised.Go(func() { supervise(ctx, d.out, p.Name, p, restartPause) })
	}
	return nil
}

// program returns the path of a program other than manager and dispatcher. It builds the program unless built
// programs were given.
func (d *demo) program(ctx context.Context, name string) (string, error) {
	if d.programs != "" {
		return filepath.Join(d.programs, name), nil
	}
	path := filepath.Join(d.op.Dir, name)
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/"+name)
	build.Dir = d.root
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, output)
	}
	return path, nil
}

func (d *demo) startEndpoint(context.Context) error {
	d.out.step("A partner's endpoint")
	var err error
	if d.endpoint, err = receiver.Start(d.known); err != nil {
		return err
	}
	d.endpoint.Answer(hookPath, receiver.Answer{Status: 503, Body: "down for maintenance\n", Times: 1})
	d.out.say("%s verifies each request twice: with the Standard Webhooks", d.endpoint.URL(hookPath))
	d.out.say("library, and with a plain HMAC-SHA256 as Dub documents. It answers 503 to the first request.")
	return nil
}

// stop ends everything, newest first. The context of play must have ended.
func (d *demo) stop() error {
	d.supervised.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	if d.op != nil {
		errs = append(errs, d.op.Stop(ctx))
	}
	if d.endpoint != nil {
		errs = append(errs, d.endpoint.Close())
	}
	if d.cp != nil {
		errs = append(errs, d.cp.Stop())
	}
	return errors.Join(errs...)
}

// explain prints why the demo failed, and the last output of the operator's processes.
func (d *demo) explain(w io.Writer, err error) {
	if d.op != nil {
		_, _ = fmt.Fprintln(w)
		d.op.DumpLogs(w, logLines)
	}
	_, _ = fmt.Fprintf(w, "\nThe demo failed: %v\n", err)
}

// kubectl prints a command, runs it, and prints its output.
func (d *demo) kubectl(ctx context.Context, args ...string) error {
	d.out.command("kubectl " + quoteAll(args))
	text, err := d.runKubectl(ctx, args...)
	if err != nil {
		return err
	}
	d.out.output(text)
	return nil
}

func (d *demo) runKubectl(ctx context.Context, args ...string) (string, error) {
	for i, arg := range args {
		if strings.HasPrefix(arg, "config/") {
			args[i] = filepath.Join(d.root, arg)
		}
	}
	text, _, err := d.cp.Kubectl(ctx, "", args...)
	return text, err
}

// summary counts the objects that kubectl apply created, by kind.
func summary(applied string) string {
	counts, order := map[string]int{}, []string{}
	for line := range strings.Lines(applied) {
		kind, _, _ := strings.Cut(line, "/")
		kind, _, _ = strings.Cut(kind, ".")
		if counts[kind]++; counts[kind] == 1 {
			order = append(order, kind)
		}
	}
	parts := make([]string, len(order))
	for i, kind := range order {
		parts[i] = fmt.Sprintf("%d %s", counts[kind], kind)
		if counts[kind] > 1 {
			parts[i] += "s"
		}
	}
	return strings.Join(parts, ", ")
}

// progress prints the lines of another writer within a step.
type progress struct {
	out *screen
	// rest is an incomplete line.
	rest []byte
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	if end := bytes.LastIndexByte(p.rest, '\n'); end >= 0 {
		p.out.output(string(p.rest[:end]))
		p.rest = p.rest[end+1:]
	}
	return len(b), nil
}

func (d *demo) kubectlPath() string { return filepath.Join(d.cp.AssetsDir, "kubectl") }
