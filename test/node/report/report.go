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

// Package report has the reports of the programs that run in Pods for the tests of a real node.
package report

import (
	"encoding/json"
	"time"
)

// Received is the report of an endpoint.
type Received struct {
	// Events counts the accepted requests by the id of their event.
	Events map[string]int `json:"events"`
	// Unverified counts the requests with invalid signatures.
	Unverified int `json:"unverified"`
	// Refused counts the requests that the endpoint refused as ordered.
	Refused int `json:"refused"`
}

// Produced is the report of a producer.
type Produced struct {
	Accepted int `json:"accepted"`
	// Refused has the last error of each event that was never accepted, by its id.
	Refused map[string]string `json:"refused"`
	// Retries counts the failed tries that were followed by another, by their error.
	Retries map[string]int `json:"retries"`
	// MostTries is the largest number of tries for one event.
	MostTries int `json:"mostTries"`
	// Median, P99 and Max are durations of the accepted requests.
	Median time.Duration `json:"median"`
	P99    time.Duration `json:"p99"`
	Max    time.Duration `json:"max"`
	// Posting is the time from the first try of the first event to that of the last event.
	Posting time.Duration `json:"posting"`
}

// ReadProduced decodes the output of a producer.
func ReadProduced(text []byte) (Produced, error) {
	var p Produced
	err := json.Unmarshal(text, &p)
	return p, err
}
