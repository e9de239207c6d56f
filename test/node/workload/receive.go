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
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/test/node/report"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// hook is the path of the endpoint.
const hook = "/hooks"

// receive serves the endpoint on port 8080. Port 8081 returns the report and takes orders to refuse requests.
func receive(ctx context.Context, secretFile string) error {
	secrets := func() []receiver.Secret {
		value, err := os.ReadFile(secretFile)
		if err != nil {
			return nil // Without the file no signature verifies.
		}
		return []receiver.Secret{{Name: "current", Value: strings.TrimSpace(string(value))}}
	}
	endpoint, err := receiver.StartAt(":8080", secrets)
	if err != nil {
		return err
	}
	defer endpoint.Close()
	tell := http.NewServeMux()
	tell.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(received(endpoint.Requests(""))) // The caller notices a truncated answer.
	})
	tell.HandleFunc("POST /refuse", func(w http.ResponseWriter, r *http.Request) {
		times, errTimes := strconv.Atoi(r.FormValue("times"))
		every, errEvery := strconv.Atoi(r.FormValue("every"))
		if err := errors.Join(errTimes, errEvery); err != nil || every < 2 {
			http.Error(w, fmt.Sprintf("times and every must be numbers, every at least 2: %v", err), http.StatusBadRequest)
			return
		}
		endpoint.Answer(hook, refusals(times, every)...)
	})
	server := &http.Server{Addr: ":8081", ReadHeaderTimeout: 10 * time.Second, Handler: tell}
	go func() {
		<-ctx.Done()
		_ = server.Close() // The server has nothing to save.
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// refusals returns answers of which every nth is a 503.
func refusals(times, every int) []receiver.Answer {
	answers := make([]receiver.Answer, 0, 2*times)
	for range times {
		answers = append(answers, receiver.Times(every-1, http.StatusOK), receiver.Times(1, http.StatusServiceUnavailable))
	}
	return answers
}

func received(requests []receiver.Request) report.Received {
	all := report.Received{Events: map[string]int{}}
	for i := range requests {
		if requests[i].Status == http.StatusOK {
			all.Events[requests[i].ID()]++
		} else {
			all.Refused++
		}
		if !requests[i].Verified() {
			all.Unverified++
		}
	}
	return all
}
