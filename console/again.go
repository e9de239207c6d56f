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

package console

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// rotationPatience is how long the page waits until the operator has made a key.
const rotationPatience = 20 * time.Second

// prepareAgain finds the reason why redeliveries of many events wait. A redelivery of one event overrides more: see
// internal/waiting.
func prepareAgain(c *Console, d *dialog) {
	d.WaitReason = waiting.Endpoint(d.P, c.clock.Now()).Sentence
}

// doAgain requests a redelivery of all failed and unfinished deliveries since a time.
func doAgain(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	span, err := time.ParseDuration(d.Form.Get("since"))
	if err != nil || span <= 0 {
		d.Errors = map[string]string{"since": "Choose how far back."}
		return nil, errField
	}
	now, err := time.Parse(time.RFC3339Nano, d.token)
	if err != nil {
		return nil, err
	}
	d.done = "Redelivering"
	_, err = action.RedeliverSince(ctx, c, d.P, now.Add(-span), now)
	return d.P, err
}

// prepareRotate lists the other Postbacks that sign with the same key.
func prepareRotate(c *Console, d *dialog) {
	if d.Key == nil {
		return
	}
	for _, p := range c.feed.Postbacks() {
		if secretKey(p) == client.ObjectKeyFromObject(d.Key) && p.Name != d.P.Name {
			d.Sharing = append(d.Sharing, p.Name)
		}
	}
}

// doRotate sets the overlap if it changed, and requests a new key.
func doRotate(ctx context.Context, c client.Client, d *dialog) (client.Object, error) {
	overlap := d.Key.Spec.GetOverlap()
	if value := d.Form.Get("overlap"); value != "" {
		var err error
		if overlap, err = time.ParseDuration(value); err != nil {
			return nil, errors.New("choose how long the old key keeps signing")
		}
	}
	if overlap != d.Key.Spec.GetOverlap() {
		if err := action.SetOverlap(ctx, c, d.Key, overlap); err != nil {
			return nil, err
		}
	}
	rotation := d.Key.Spec.Rotation
	err := action.Rotate(ctx, c, d.Key, d.token)
	if d.Form.Get("preview") != "" {
		// A dry run stores nothing, so the second change lacks the first, and the preview has to add it.
		d.Key.Spec.Rotation = rotation
	}
	return d.Key, err
}

// afterRotate waits for the new key and shows it in the answer.
func afterRotate(ctx context.Context, c *Console, d *dialog) {
	key := client.ObjectKeyFromObject(d.Key)
	made := c.awaitKey(ctx, func() bool {
		s := c.feed.Secret(key)
		if s == nil || s.Status.LastHandledRotateSecret != v1alpha1.HandledToken(d.token) {
			return false
		}
		d.OldKeyEnds = oldKeyEnds(s, c.clock.Now())
		return true
	})
	if !made {
		d.Show, d.Error = true, "A new key is requested, but the operator has not made it yet. Try “Show signing secret” in a moment."
		return
	}
	showSecret(ctx, c, d)
}

// awaitKey waits until a change in the feed makes known true, for rotationPatience at most. It reports whether it is.
func (c *Console) awaitKey(ctx context.Context, known func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, rotationPatience)
	defer cancel()
	subscription := c.feed.Subscribe()
	defer subscription.Close()
	for !known() {
		select {
		case <-subscription.C:
			subscription.Take()
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// showSecret reads the current key for this answer only.
func showSecret(ctx context.Context, c *Console, d *dialog) {
	d.Show = true
	if d.May.Secret != "" {
		d.Error = d.May.Secret
		return
	}
	secret := &corev1.Secret{}
	if err := c.client.Get(ctx, types.NamespacedName{Namespace: d.P.Namespace, Name: d.P.Status.SecretName}, secret); err != nil {
		d.Error = explain(err)
		return
	}
	if d.Secret = string(secret.Data[v1alpha1.SigningKeyName]); d.Secret == "" {
		d.Error = "The Secret " + secret.Name + " holds no key."
	}
}

func prepareYAML(_ *Console, d *dialog) { d.YAML = manifest(d.P, nil) }

// overlaps are the overlaps to choose from in a rotation.
var overlaps = []choice{
	{Value: "0s", Text: "None: the old key has leaked"},
	{Value: "1h", Text: "1 hour"},
	{Value: "24h", Text: "24 hours"},
	{Value: "168h", Text: "7 days"},
	{Value: "720h", Text: "30 days"},
}

// Overlaps returns the overlaps to choose from, including the present overlap of the key.
func (d *dialog) Overlaps() []choice {
	var choices []choice
	now := v1alpha1.DefaultOverlap
	if d.Key != nil {
		now = d.Key.Spec.GetOverlap()
	}
	found := false
	for _, o := range overlaps {
		if span, err := time.ParseDuration(o.Value); err == nil {
			o.Chosen = span == now
		}
		found = found || o.Chosen
		choices = append(choices, o)
	}
	if !found {
		text := metav1.Duration{Duration: now}.Duration.String()
		choices = append(choices, choice{Value: text, Text: text + ", as now", Chosen: true})
	}
	return choices
}
