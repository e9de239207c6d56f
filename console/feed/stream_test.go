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

package feed

import (
	"fmt"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// The feed shows deliveries that are only in the delivery log, and redelivered ones, which are also
// PostbackDeliveries.
func TestTheStreamStandsWithTheRest(t *testing.T) {
	f := filled(t, 2)
	if err := f.putLogged(stored("logged", 5, "7"), stored("both", 6, "8")); err != nil {
		t.Fatal(err)
	}
	check(t, "both together", f.Rows(crm), "both", "logged", "d01", "d00")
	object := stored("both", 9, "100")
	object.Status.Phase = v1alpha1.DeliveryRetrying
	if err := f.sources[2].Add(object); err != nil {
		t.Fatal(err)
	}
	check(t, "the PostbackDelivery tells more", f.Rows(crm), "both", "logged", "d01", "d00")
	if r := f.Row(f.Rows(crm)[0].NamespacedName); r.Logged || r.Phase != v1alpha1.DeliveryRetrying {
		t.Errorf("the row is %+v", r)
	}
	// The entry comes again, as after a reconnect.
	if err := f.putLogged(stored("both", 6, "8")); err != nil {
		t.Fatal(err)
	}
	if r := f.Rows(crm)[0]; r.Logged {
		t.Error("the stream hides the PostbackDelivery")
	}
	// A new list of PostbackDeliveries does not affect the entries of the delivery log.
	if err := f.sources[2].Replace([]any{stored("d01", 1, "1"), object}, ""); err != nil {
		t.Fatal(err)
	}
	check(t, "after a list", f.Rows(crm), "both", "logged", "d01")
	if err := f.sources[2].Delete(object); err != nil {
		t.Fatal(err)
	}
	if rows := f.Rows(crm); !rows[0].Logged {
		t.Error("what the delivery log has went with its PostbackDelivery")
	}
	check(t, "after the PostbackDelivery went", f.Rows(crm), "both", "logged", "d01")
}

func TestTheStreamIsBounded(t *testing.T) {
	f := New(nil, "", nil)
	var all []*v1alpha1.PostbackDelivery
	for i := range maxLogged + 3 {
		all = append(all, stored(fmt.Sprintf("d%05d", i), i, "1"))
	}
	if err := f.putLogged(all...); err != nil {
		t.Fatal(err)
	}
	rows := f.Rows(crm)
	if len(rows) != maxLogged || rows[0].Name != fmt.Sprintf("d%05d", maxLogged+2) || rows[maxLogged-1].Name != "d00003" {
		t.Errorf("%d rows, from %s to %s", len(rows), rows[0].Name, rows[len(rows)-1].Name)
	}
}
