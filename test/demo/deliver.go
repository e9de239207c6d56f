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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const (
	// shownData is the length of the shown part of an event's data.
	shownData = 44
	// learnTimeout bounds the read of a new key while a request waits.
	learnTimeout = 2 * time.Second

	// sender is the ServiceAccount that posts events.
	sender      = "shop"
	createToken = "$(kubectl -n " + namespace + " create token " + sender + ")"
)

// posted is an accepted event, with the expected result.
type posted struct {
	id, eventType string
	// when names the step of the demo in which the event was posted.
	when string
	// standard and dub name the keys whose signatures the request must have; no other known key may verify it.
	standard, dub []string
	// known names the keys that the endpoint knew.
	known []string
	// attempts is the expected number of attempts.
	attempts int
}

// keys are the signing keys that the endpoint knows, newest last.
type keys struct {
	mu   sync.Mutex
	list []receiver.Secret
}

func (k *keys) known() []receiver.Secret {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list)
}

// add adds a key unless it is known.
func (k *keys) add(value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.ContainsFunc(k.list, func(s receiver.Secret) bool { return s.Value == value }) {
		k.list = append(k.list, receiver.Secret{Name: "key " + strconv.Itoa(len(k.list)+1), Value: value})
	}
}

// known returns the keys for verification. Once the reader may rotate, it first reads the current key.
func (d *demo) known() []receiver.Secret {
	if d.kept.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), learnTimeout)
		defer cancel()
		// If that fails, the request counts as unverified, and the demo shows so.
		_, _ = d.learn(ctx)
	}
	return d.keys.known()
}

// learn reads the current signing key from its Secret, as a user would who gives it to the partner.
func (d *demo) learn(ctx context.Context) (string, error) {
	secret := &corev1.Secret{}
	if err := d.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: postback}, secret); err != nil {
		return "", fmt.Errorf("read the signing key: %w", err)
	}
	value := string(secret.Data[v1alpha1.SigningKeyName])
	d.keys.add(value)
	return value, nil
}

func (d *demo) declare(ctx context.Context) error {
	d.out.step("The partner declares a Postback")
	if err := d.kubectl(ctx, "create", "namespace", namespace); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "apply", "-k", "config/samples"); err != nil {
		return err
	}
	d.out.say("The sample sends to crm.example.com; here the endpoint above takes its place.")
	if err := d.kubectl(ctx, "-n", namespace, "patch", "postback", postback, "--type=merge",
		"-p", `{"spec":{"url":"`+d.endpoint.URL(hookPath)+`"}}`); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "wait", "--for=condition=Ready", "--timeout=60s", "postback/"+postback); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "get", "postback", postback); err != nil {
		return err
	}
	_, err := d.learn(ctx)
	return err
}

// allowSender creates the ServiceAccount that posts, as in the README.
func (d *demo) allowSender(ctx context.Context) error {
	d.out.say("Who posts is a ServiceAccount that may: of this namespace or any other.")
	if err := d.kubectl(ctx, "-n", namespace, "create", "serviceaccount", sender); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "create", "rolebinding", sender,
		"--clusterrole="+operator.SenderRole, "--serviceaccount="+namespace+":"+sender); err != nil {
		return err
	}
	d.out.command("export TOKEN=" + createToken)
	config, err := d.cp.ServiceAccountConfig(ctx, namespace, sender)
	if err != nil {
		return fmt.Errorf("make a token: %w", err)
	}
	d.token = config.BearerToken
	return nil
}

func (d *demo) postEvents(ctx context.Context) error {
	d.out.step("Post one event of each type")
	if err := d.allowSender(ctx); err != nil {
		return err
	}
	before := posted{when: "before the rotation", standard: []string{"key 1"}, dub: []string{"key 1"}, attempts: 1}
	for i, eventType := range []string{"lead.created", "sale.created", "commission.created"} {
		p := before
		p.eventType = eventType
		if i == 0 {
			p.attempts = 2
		}
		if err := d.post(ctx, p); err != nil {
			return err
		}
		// Wait for each event, so that the first one gets the 503.
		if err := d.await(ctx, i+1); err != nil {
			return err
		}
	}
	d.out.say("Each arrived at once, signed.")
	return nil
}

// answer is the JSON body of ingest's response.
type answer struct {
	Events []struct {
		ID         string `json:"id"`
		Deliveries []struct {
			Postback string `json:"postback"`
			Delivery string `json:"delivery"`
			Result   string `json:"result"`
		} `json:"deliveries"`
	} `json:"events"`
}

// post posts an event with sample data and without an id, and records the id that ingest gave it.
func (d *demo) post(ctx context.Context, p posted) error {
	data := event.Sample(p.eventType)
	path := "/v1/namespaces/" + namespace + "/events"
	d.out.command(fmt.Sprintf("%s %s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n-d '{\"event\":%q,\"data\":%s…}'", d.door.curl, d.door.url+path, p.eventType, data[:min(len(data), shownData)]))
	body, err := json.Marshal(map[string]any{"event": p.eventType, "data": data})
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.door.address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+d.token)
	response, err := d.door.client.Do(request)
	if err != nil {
		return fmt.Errorf("post %s: %w", p.eventType, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("post %s: %w", p.eventType, err)
	}
	var a answer
	if err := json.Unmarshal(content, &a); err != nil || response.StatusCode != http.StatusAccepted || len(a.Events) != 1 || len(a.Events[0].Deliveries) != 1 {
		return fmt.Errorf("post %s: ingest answers %s: %s", p.eventType, response.Status, content)
	}
	e := a.Events[0]
	d.out.output(fmt.Sprintf("%s: event %s, for Postback %s: %s", response.Status, e.ID, e.Deliveries[0].Postback, e.Deliveries[0].Result))
	p.id = e.ID
	for _, key := range d.keys.known() {
		p.known = append(p.known, key.Name)
	}
	d.events = append(d.events, p)
	return nil
}

// await returns once the endpoint has received n requests.
func (d *demo) await(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_, err := d.endpoint.Wait(ctx, hookPath, n)
	return err
}

func (d *demo) awaitRetry(ctx context.Context) error {
	d.out.step("The retry")
	d.out.say("The endpoint answered 503 to the first event. It is tried again after 12s, then 2m28s, 30m8s, 6h7m6s,")
	d.out.say("and then every day until it is delivered. Waiting for the first retry ...")
	if err := d.await(ctx, 4); err != nil {
		return err
	}
	gap, err := d.gap()
	if err != nil {
		return err
	}
	d.out.say("%s arrived again, %.2fs after the first attempt: same id, same bytes, signed anew.", d.events[0].eventType, gap.Seconds())
	return nil
}

// gap returns the time between the two attempts of the first event.
func (d *demo) gap() (time.Duration, error) {
	arrivals := d.arrivals(d.events[0].id)
	if len(arrivals) < 2 {
		return 0, errors.New("the first event was not tried again")
	}
	return arrivals[1].Time.Sub(arrivals[0].Time), nil
}

// arrivals returns the requests of an event.
func (d *demo) arrivals(id string) []receiver.Request {
	var of []receiver.Request
	for _, request := range d.endpoint.Requests(hookPath) {
		if request.ID() == id {
			of = append(of, request)
		}
	}
	return of
}
