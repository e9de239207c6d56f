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
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// overlap is how long the replaced key keeps signing in the demo.
const overlap = 10 * time.Second

func (d *demo) rotate(ctx context.Context) error {
	d.out.step("Rotate the signing key")
	d.out.say("A replaced key keeps signing for a day, so that receivers have time to change; here for %s.", overlap)
	if err := d.kubectl(ctx, "-n", namespace, "patch", "postbacksecret", postback, "--type=merge",
		"-p", fmt.Sprintf(`{"spec":{"rotation":{"overlap":%q}}}`, overlap)); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "annotate", "postback", postback, v1alpha1.RotateSecretAnnotation+"=1"); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "wait", "--for=jsonpath={.status.version}=2", "--timeout=60s", "postbacksecret/"+postback); err != nil {
		return err
	}
	uid, err := d.postbackUID(ctx)
	if err != nil {
		return err
	}
	old := d.keys.known()[0].Value
	current, err := d.learn(ctx)
	if err != nil {
		return err
	}
	if err := d.inForce(ctx, uid, current, old); err != nil {
		return err
	}
	d.out.say("Now key 1 and key 2 both sign:")
	during := posted{eventType: "sale.created", when: "in the overlap", standard: []string{"key 1", "key 2"}, dub: []string{"key 2"}, attempts: 1}
	if err := d.postAndAwait(ctx, during); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "-n", namespace, "get", "postbacksecret", postback); err != nil {
		return err
	}
	d.out.say("Waiting for the end of the overlap ...")
	if err := d.inForce(ctx, uid, current); err != nil {
		return err
	}
	d.out.say("Now key 2 alone signs:")
	after := posted{eventType: "lead.created", when: "after the overlap", standard: []string{"key 2"}, dub: []string{"key 2"}, attempts: 1}
	return d.postAndAwait(ctx, after)
}

func (d *demo) postAndAwait(ctx context.Context, p posted) error {
	if err := d.post(ctx, p); err != nil {
		return err
	}
	return d.await(ctx, len(d.events)+1)
}

func (d *demo) postbackUID(ctx context.Context) (types.UID, error) {
	object := &v1alpha1.Postback{}
	if err := d.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: postback}, object); err != nil {
		return "", fmt.Errorf("read Postback %s: %w", postback, err)
	}
	return object.UID, nil
}

// inForce returns once the dispatcher signs with exactly these keys.
func (d *demo) inForce(ctx context.Context, uid types.UID, values ...string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return d.op.WaitSignedWith(ctx, uid, values...)
}
