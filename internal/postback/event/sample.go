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
	"bytes"
	"embed"
	"encoding/json"
	"slices"
)

// The samples have every field of Dub's postbacks of the three types, with the values of Dub's documentation. The
// field click.trigger is legacy: receivers written for Dub may read it.
//
//go:embed samples/*.json
var samples embed.FS

// genericSample is the data of a test event of any other type: a shop's order.
const genericSample = `{"message":"This is a test event.","order":{"id":"order-1001","total":4900,"currency":"eur"},"customer":{"id":"customer-7"}}`

// SampleTypes are the event types with a complete sample.
var SampleTypes = []string{"lead.created", "sale.created", "commission.created"}

// sampleData holds the samples as compact JSON, by event type.
var sampleData = loadSamples()

// Sample returns the data of a test event: a complete sample for SampleTypes, and a shop's order for any other type.
// The caller may change the result.
func Sample(eventType string) json.RawMessage {
	if data, ok := sampleData[eventType]; ok {
		return slices.Clone(data)
	}
	return json.RawMessage(genericSample)
}

func loadSamples() map[string]json.RawMessage {
	loaded := map[string]json.RawMessage{}
	for _, eventType := range SampleTypes {
		// The files are embedded in the binary, and a test reads each. Sample returns the generic sample in place of
		// one that cannot be read.
		file, err := samples.ReadFile("samples/" + eventType + ".json")
		if err != nil {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, file); err != nil {
			continue
		}
		loaded[eventType] = compact.Bytes()
	}
	return loaded
}
