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

package event

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Fields of Dub's postbacks. The value is the type in the sample.
var (
	clickFields = map[string]string{
		"id": "string", "timestamp": "string", "url": "string", "country": "string", "city": "string",
		"region": "string", "continent": "string", "device": "string", "browser": "string", "os": "string",
		"ua": "string", "trigger": "string", "referer": "string", "refererUrl": "string", "qr": "boolean",
		"ip": "string",
	}
	linkFields = map[string]string{"id": "string", "shortLink": "string", "domain": "string", "key": "string"}
	saleFields = map[string]string{"amount": "number", "currency": "string"}
)

func customerFields(firstSaleAt string) map[string]string {
	return map[string]string{
		"id": "string", "country": "string", "createdAt": "string", "firstSaleAt": firstSaleAt,
		"subscriptionCanceledAt": "null",
	}
}

func fieldsOf(plain map[string]string, objects map[string]map[string]string) map[string]string {
	all := maps.Clone(plain)
	for name, fields := range objects {
		for field, kind := range fields {
			all[name+"."+field] = kind
		}
	}
	return all
}

func TestSampleHoldsEveryField(t *testing.T) {
	tests := map[string]map[string]string{
		"lead.created": fieldsOf(map[string]string{"eventName": "string"}, map[string]map[string]string{
			"click": clickFields, "link": linkFields, "customer": customerFields("null"),
		}),
		"sale.created": fieldsOf(map[string]string{"eventName": "string"}, map[string]map[string]string{
			"click": clickFields, "link": linkFields, "customer": customerFields("string"), "sale": saleFields,
		}),
		"commission.created": fieldsOf(map[string]string{
			"id": "string", "type": "string", "amount": "number", "earnings": "number", "currency": "string",
			"status": "string", "description": "null", "quantity": "number", "createdAt": "string",
		}, map[string]map[string]string{"link": linkFields, "customer": customerFields("string")}),
		"invoice.paid": fieldsOf(map[string]string{"message": "string"}, map[string]map[string]string{
			"order": {"id": "string", "total": "number", "currency": "string"}, "customer": {"id": "string"},
		}),
	}
	for eventType, want := range tests {
		t.Run(eventType, func(t *testing.T) {
			var data map[string]any
			if err := json.Unmarshal(Sample(eventType), &data); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			flatten("", data, got)
			if !maps.Equal(got, want) {
				t.Errorf("fields differ:\n got %v\nwant %v", got, want)
			}
		})
	}
}

func flatten(prefix string, object map[string]any, into map[string]string) {
	for name, value := range object {
		switch v := value.(type) {
		case map[string]any:
			flatten(prefix+name+".", v, into)
		case string:
			into[prefix+name] = "string"
		case float64:
			into[prefix+name] = "number"
		case bool:
			into[prefix+name] = "boolean"
		case nil:
			into[prefix+name] = "null"
		}
	}
}

func TestSampleIsCompactAndTheCallersOwn(t *testing.T) {
	first := Sample("lead.created")
	if strings.ContainsAny(string(first), "\n") || strings.Contains(string(first), `": `) {
		t.Errorf("not compact: %s", first)
	}
	want := slices.Clone(first)
	first[0] = 'x'
	if second := Sample("lead.created"); !slices.Equal(second, want) {
		t.Errorf("a caller's change shows: %s", second)
	}
}
