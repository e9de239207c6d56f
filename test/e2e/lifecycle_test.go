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

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// TestFirstPostback acts as a new user: apply the sample, wait, post events, look at the tables.
func TestFirstPostback(t *testing.T) {
	n := newTenant(t)
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "postback.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := regexp.MustCompile(`(?m)^  url: .*$`).ReplaceAllString(string(sample), "  url: "+n.endpoint.URL(hooks))
	n.kubectlWith(manifest, "apply", "-f", "-")
	n.waitReady("crm")

	events := []event{lead("evt_lead"), lead("evt_sale"), lead("evt_commission"), lead("evt_other")}
	events[1].Type, events[2].Type, events[3].Type = "sale.created", "commission.created", "order.created"
	answer := n.post(events...)
	for i, want := range []int{1, 1, 1, 0} {
		if got := len(answer.Events[i].Deliveries); got != want {
			t.Errorf("event %s is for %d Postbacks, want %d", events[i].ID, got, want)
		}
	}
	for _, id := range []string{"evt_lead", "evt_sale", "evt_commission"} {
		n.object(n.waitPhase(id, v1alpha1.DeliveryDelivered, 1), dispatcher)
	}
	requests := n.wait(3)
	if len(requests) != 3 {
		t.Errorf("%d requests for 3 events", len(requests))
	}
	for _, r := range requests {
		if !slices.Equal(r.StandardWebhooks, []string{"crm/1"}) || !slices.Equal(r.Dub, []string{"crm/1"}) {
			t.Errorf("event %s verified by %v and %v", r.ID(), r.StandardWebhooks, r.Dub)
		}
	}
	checkTables(t, n)
	checkMetrics(t)
}

// checkTables compares kubectl's tables with the expected ones.
func checkTables(t *testing.T, n *tenant) {
	t.Helper()
	tables := n.kubectl("get", "pb,pbs,pbd")
	for _, want := range []string{
		`NAME +READY +REASON +STATE +HEALTHY +HOST +AGE`,
		`postback\.postback\.dev/crm +True +Routed +Enabled +` + regexp.QuoteMeta(n.endpoint.Address()) + ` +\d+s`,
		`NAME +READY +REASON +SOURCE +VERSION +ROTATED +NEXT ROTATION +OVERLAP UNTIL +AGE`,
		`postbacksecret\.postback\.dev/crm +True +KeyAvailable +Generated +1 +\d+s +\d+s`,
		`NAME +POSTBACK +EVENT +PHASE +ATTEMPTS +HTTP +OUTCOME +AGE`,
		`postbackdelivery\.postback\.dev/crm-\S+ +crm +lead\.created +Delivered +1 +200 +Succeeded +\d+s`,
		`postbackdelivery\.postback\.dev/crm-\S+ +crm +commission\.created +Delivered +1 +200 +Succeeded +\d+s`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + ` *$`).MatchString(tables) {
			t.Errorf("no line of kubectl get matches %s:\n%s", want, tables)
		}
	}
	if all := n.kubectl("get", "postbacks"); !strings.Contains(all, "crm") {
		t.Errorf("kubectl get postbacks prints %q", all)
	}
	if all := n.kubectl("get", "pbd", "-l", "postback.dev/event-type=sale.created", "--field-selector=status.phase=Delivered", "-o", "name"); strings.Count(all, "\n") != 1 {
		t.Errorf("kubectl get by label and phase prints %q", all)
	}
}

func checkMetrics(t *testing.T) {
	t.Helper()
	content, err := dispatcher.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`postback_attempts_total{outcome="Succeeded"}`, `postback_attempt_duration_seconds_count`,
		`postback_deliveries_total{phase="Delivered"}`, `postback_ingest_events_total{result="Stored"}`,
		`postback_unfinished_deliveries`, `postback_oldest_due_age_seconds`,
	} {
		if !strings.Contains(string(content), "\n"+want) {
			t.Errorf("there is no metric %s", want)
		}
	}
}

func TestDeletePostback(t *testing.T) {
	n := newTenant(t)
	p := n.postback("crm")
	n.post(lead("evt_2"))
	n.waitPhase("evt_2", v1alpha1.DeliveryDelivered, 1)
	n.endpoint.Answer(hooks, unavailable(0))
	n.post(lead("evt_1"))
	eventually(t, func() error {
		if d := n.deliveries()["evt_1"]; d == nil || d.Status.Phase != v1alpha1.DeliveryRetrying {
			return fmt.Errorf("the delivery is %+v", d)
		}
		return nil
	})

	n.kubectl("delete", "postback", "crm", "--timeout="+patience.String())
	eventually(t, func() error { return n.nothingLeft(p) })

	// A new Postback of the same name starts without history.
	n.endpoint.Answer(hooks)
	again := n.postback("crm")
	n.post(lead("evt_1"))
	n.waitPhase("evt_1", v1alpha1.DeliveryDelivered, 1)
	if again.UID == p.UID {
		t.Error("the Postback was not deleted")
	}
}

func TestDeleteNamespace(t *testing.T) {
	n := newTenant(t)
	n.endpoint.Answer(hooks, unavailable(0))
	n.kubectlWith("apiVersion: postback.dev/v1alpha1\nkind: PostbackSecret\nmetadata: {name: shared}\n", "apply", "-f", "-")
	first, second := n.postback("first", "secretRef: {name: shared}"), n.postback("second")
	n.post(lead("evt_1"))
	n.wait(2)

	n.kubectl("delete", "namespace", n.namespace, "--timeout=3m")
	for _, p := range []*v1alpha1.Postback{first, second} {
		eventually(t, func() error { return n.nothingLeft(p) })
	}
}

// nothingLeft returns an error that names the objects left of a Postback.
func (n *tenant) nothingLeft(p *v1alpha1.Postback) error {
	ctx := n.t.Context()
	if err := gone(ctx, operator.Namespace, route.SecretName(p.UID), &corev1.Secret{}); err != nil {
		return err
	}
	for _, list := range []client.ObjectList{
		&v1alpha1.PostbackList{}, &v1alpha1.PostbackSecretList{}, &v1alpha1.PostbackDeliveryList{}, &corev1.SecretList{},
	} {
		if err := api.List(ctx, list, client.InNamespace(n.namespace)); err != nil {
			return err
		}
		if left := meta.LenList(list); left > 0 {
			return fmt.Errorf("a %T still has %d items", list, left)
		}
	}
	return nil
}
