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

package load

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// ProbeOrders say which object to read, how often, and for how long.
type ProbeOrders struct {
	Kubeconfig, Namespace, Postback string
	Every, For                      time.Duration
}

// probe reads one object repeatedly, to measure how the API server serves other clients.
func probe(ctx context.Context, o ProbeOrders) (LoopReport, error) {
	c, err := newClient(o.Kubeconfig)
	if err != nil {
		return LoopReport{}, err
	}
	var report LoopReport
	began := time.Now()
	for time.Since(began) < o.For && ctx.Err() == nil {
		start := time.Now()
		if err := c.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: o.Postback}, &v1alpha1.Postback{}); err != nil {
			return LoopReport{}, err
		}
		report.Took = append(report.Took, time.Since(start))
		pause(ctx, o.Every-time.Since(start))
	}
	report.Done, report.Elapsed = len(report.Took), time.Since(began)
	return report, ctx.Err()
}
