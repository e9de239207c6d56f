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
	"encoding/json"
	"fmt"

	"github.com/postback-dev/postback-operator/test/receiver"
)

// keep explains what is running, and lets it run until ctx ends.
func (d *demo) keep(ctx context.Context) {
	d.kept.Store(true)
	d.out.step("Yours to try")
	d.out.say("In another terminal, in this folder, whose bin holds the kubectl plugin:")
	d.out.command("export KUBECONFIG=" + d.cp.Kubeconfig)
	d.out.command("alias kubectl=" + d.kubectlPath())
	d.out.command("export INGEST=" + d.door.url + " TOKEN=" + createToken)
	d.out.command("export PATH=$PWD/bin:$PATH")
	d.out.say("Then, for example:")
	d.out.command("kubectl postback -n " + namespace + " console --open")
	d.out.command("kubectl postback -n " + namespace + " events " + postback)
	d.out.command("kubectl -n " + namespace + " get postback-all")
	d.out.command("kubectl -n " + namespace + " annotate --overwrite postback " + postback + " postback.dev/send-test=sale.created/1")
	d.out.command("kubectl -n " + namespace + " annotate --overwrite postbackdeliveries --all postback.dev/redeliver=again")
	d.out.command("kubectl -n " + namespace + " annotate --overwrite postback " + postback + " postback.dev/rotate-secret=2")
	d.out.command("kubectl -n " + namespace + ` patch postback ` + postback + ` --type=merge -p '{"spec":{"state":"Paused"}}'`)
	d.out.command(d.door.curl + " -i $INGEST/v1/namespaces/" + namespace + "/events -H \"Authorization: Bearer $TOKEN\" \\\n" +
		`-H 'Content-Type: application/json' -d '{"event":"lead.created","data":{"eventName":"Signup"}}'`)
	d.out.say("")
	places := [][]string{
		{"Endpoint", d.endpoint.URL(hookPath)},
		{"Metrics, manager", d.manager.MetricsURL()},
		{"Metrics, dispatcher", d.dispatcher.MetricsURL()},
		{"Logs", d.op.Dir + "/*.log"},
	}
	if d.portal {
		places = append(places, []string{"Portal", d.pages.IngestURL()})
	}
	if d.jetStream() {
		places = append(places, []string{"NATS, files", d.storeDir()})
	}
	d.out.table(places)
	d.out.say("")
	if d.portal {
		d.showLinks(ctx)
	}
	d.out.say("There is no kubelet here: the Deployments show 0 of 2, and their programs run as the processes above.")
	d.out.say("Ctrl-C ends everything. What arrives from now on:")
	d.follow(ctx)
}

// follow prints each request that arrives, until ctx ends.
func (d *demo) follow(ctx context.Context) {
	shown := len(d.endpoint.Requests(""))
	for {
		requests, err := d.endpoint.Wait(ctx, "", shown+1)
		if err != nil {
			return
		}
		for i := range requests[shown:] {
			d.out.say("  %s", describe(&requests[shown+i]))
		}
		shown = len(requests)
	}
}

// describe returns a line about a request.
func describe(r *receiver.Request) string {
	var e struct {
		Event string `json:"event"`
	}
	if err := json.Unmarshal(r.Body, &e); err != nil {
		e.Event = "not JSON"
	}
	p := posted{}
	return fmt.Sprintf("%s  %-18s  %s  answered %d  Standard Webhooks %s  Dub-Signature %s", r.Time.Format("15:04:05.000"),
		e.Event, shorten(r.ID()), r.Status, p.verdict(r.StandardWebhooks), p.verdict(r.Dub))
}
