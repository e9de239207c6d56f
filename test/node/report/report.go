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

// Package report is what the programs that the tests of a real node run in Pods tell about their work.
package report

import (
	"encoding/json"
	"time"
)

// Received is what an endpoint has got.
type Received struct {
	// Events counts the requests with each event's id that the endpoint has accepted.
	Events map[string]int `json:"events"`
	// Unverified counts the requests whose signatures do not fit.
	Unverified int `json:"unverified"`
	// Refused counts the requests that the endpoint was told not to accept.
	Refused int `json:"refused"`
}

// Produced is what became of the events of a producer.
type Produced struct {
	Accepted int `json:"accepted"`
	// Refused holds the last error of each event that was not accepted, by its id.
	Refused map[string]string `json:"refused"`
	// Retries counts the tries that failed and were followed by another, by their error.
	Retries map[string]int `json:"retries"`
	// MostTries is the largest number of tries for one event.
	MostTries int `json:"mostTries"`
	// Median, P99 and Max are the times of the requests that were accepted.
	Median time.Duration `json:"median"`
	P99    time.Duration `json:"p99"`
	Max    time.Duration `json:"max"`
	// Posting is the time from the first event's first try to that of the last.
	Posting time.Duration `json:"posting"`
}

// ReadProduced reads what a producer has printed.
func ReadProduced(text []byte) (Produced, error) {
	var p Produced
	err := json.Unmarshal(text, &p)
	return p, err
}
