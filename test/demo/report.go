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
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const (
	// The first retry is due 12 s after the end of the first attempt.
	shortestGap, longestGap = 12 * time.Second, 14 * time.Second
	lookInterval            = 100 * time.Millisecond
)

func (d *demo) showLog(ctx context.Context) error {
	d.out.step("The log, as kubectl shows it")
	if err := d.awaitRecorded(ctx); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "get", "postbackdeliveries", "-o", "wide", "--sort-by=.spec.event.createdAt"); err != nil {
		return err
	}
	d.out.say("The one that took two attempts:")
	name, err := d.runKubectl(ctx, "-n", namespace, "get", "postbackdeliveries",
		"--field-selector=spec.event.id="+d.events[0].id, "-o", "jsonpath={.items[0].metadata.name}")
	if err != nil {
		return err
	}
	return d.kubectl(ctx, "-n", namespace, "describe", "postbackdelivery", name)
}

// awaitRecorded returns once every delivery is recorded as Delivered, which is a moment after the endpoint has
// received it.
func (d *demo) awaitRecorded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	list := &v1alpha1.PostbackDeliveryList{}
	err := wait.PollUntilContextCancel(ctx, lookInterval, true, func(ctx context.Context) (bool, error) {
		if err := d.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		return len(list.Items) == d.objects() && !slices.ContainsFunc(list.Items, func(delivery v1alpha1.PostbackDelivery) bool {
			return delivery.Status.Phase != v1alpha1.DeliveryDelivered
		}), nil
	})
	if err != nil {
		return fmt.Errorf("wait until every delivery is recorded as %s: %w", v1alpha1.DeliveryDelivered, err)
	}
	return nil
}

// objects returns the expected number of PostbackDeliveries at the end: all deliveries, or, with streams, only those
// with retries.
func (d *demo) objects() int {
	n := 0
	for _, p := range d.events {
		if !d.jetStream() || p.attempts > 1 {
			n++
		}
	}
	return n
}

func (d *demo) summarize(context.Context) error {
	d.out.step("What arrived")
	requests := d.endpoint.Requests("")
	rows := [][]string{{"#", "AT", "EVENT", "ID", "ATTEMPT", "ANSWER", "STANDARD WEBHOOKS", "DUB-SIGNATURE", "WHEN"}}
	seen := map[string]int{}
	for i := range requests {
		r := &requests[i]
		seen[r.ID()]++
		p := d.find(r.ID())
		rows = append(rows, []string{
			strconv.Itoa(i + 1), fmt.Sprintf("%5.1fs", r.Time.Sub(requests[0].Time).Seconds()), p.eventType, shorten(r.ID()),
			strconv.Itoa(seen[r.ID()]), strconv.Itoa(r.Status), p.verdict(r.StandardWebhooks), p.verdict(r.Dub), p.when,
		})
	}
	d.out.table(rows)
	missing := d.missing(requests)
	if len(missing) > 0 {
		return errors.New("not everything is as it has to be:\n  - " + strings.Join(missing, "\n  - "))
	}
	gap, err := d.gap()
	if err != nil {
		return err
	}
	d.out.say("")
	d.out.say("Everything arrived, and each request verified by both schemes with the keys that were valid then.")
	d.out.say("The two attempts of the first event are %.2fs apart. The whole demo took %.0fs.", gap.Seconds(), time.Since(d.begun).Seconds())
	return nil
}

// verdict tells which of the known keys verified a request, and which did not.
func (p *posted) verdict(verified []string) string {
	if len(verified) == 0 {
		return "NOT VERIFIED"
	}
	text := "ok with " + strings.Join(verified, " and ")
	var refused []string
	for _, key := range p.known {
		if !slices.Contains(verified, key) {
			refused = append(refused, key)
		}
	}
	if len(refused) > 0 {
		text += ", not " + strings.Join(refused, " or ")
	}
	return text
}

func (d *demo) find(id string) posted {
	for _, p := range d.events {
		if p.id == id {
			return p
		}
	}
	return posted{eventType: "?", when: "never posted"}
}

// missing lists the differences from the expected requests.
func (d *demo) missing(requests []receiver.Request) []string {
	var missing []string
	for _, p := range d.events {
		arrivals := d.arrivals(p.id)
		if len(arrivals) != p.attempts {
			missing = append(missing, fmt.Sprintf("%s %s came %d times, not %d", p.eventType, p.id, len(arrivals), p.attempts))
		}
		for i, r := range arrivals {
			if !slices.Equal(r.StandardWebhooks, p.standard) || !slices.Equal(r.Dub, p.dub) {
				missing = append(missing, fmt.Sprintf("%s %s (%s) verified by %v and %v, not by %v and %v",
					p.eventType, p.id, p.when, r.StandardWebhooks, r.Dub, p.standard, p.dub))
			}
			if !bytes.Equal(r.Body, arrivals[0].Body) {
				missing = append(missing, fmt.Sprintf("%s %s has other bytes in attempt %d", p.eventType, p.id, i+1))
			}
		}
	}
	for i := range requests {
		if d.find(requests[i].ID()).id == "" {
			missing = append(missing, fmt.Sprintf("request %d carries an event that was never posted", i+1))
		}
	}
	if gap, err := d.gap(); err != nil {
		missing = append(missing, err.Error())
	} else if gap < shortestGap || gap > longestGap {
		missing = append(missing, fmt.Sprintf("the retry came after %s, not after %s to %s", gap, shortestGap, longestGap))
	}
	return missing
}

func shorten(id string) string {
	const kept = 10
	if len(id) <= kept {
		return id
	}
	return id[:kept] + "…"
}
