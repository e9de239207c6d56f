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
	"net/http"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// settle returns once every delivery of a namespace is finished and the history is pruned to at most a number.
func (r *rig) settle(ctx context.Context, namespace string, most int) error {
	var left, unfinished int
	err := wait.PollUntilContextTimeout(ctx, pollEvery, readyPatience, true, func(ctx context.Context) (bool, error) {
		var err error
		if left, err = r.total(ctx, namespace); err != nil || left > most {
			return false, err
		}
		if unfinished, err = r.count(ctx, namespace, unfinishedSelector); err != nil || unfinished > 0 {
			return false, err
		}
		unfinished, err = r.inStream(ctx, namespace)
		return unfinished == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait until the log is pruned: %d deliveries are left, %d of them unfinished: %w", left, unfinished, err)
	}
	return nil
}

// inStream returns the number of a namespace's deliveries that wait in streams.
func (r *rig) inStream(ctx context.Context, namespace string) (int, error) {
	switch {
	case r.nats != nil:
		return operator.WaitingAt(ctx, r.nats.URL(), namespace)
	case r.intake == intakeEmbedded:
		return inEmbeddedStreams(ctx, r.dispatchers[0].MetricsURL())
	}
	return 0, nil
}

// inEmbeddedStreams returns the number of deliveries, of all namespaces, in the streams of an embedded server,
// according to the dispatcher's metrics. No client can connect to that server.
func inEmbeddedStreams(ctx context.Context, metrics string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, metrics, http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", metrics, err)
	}
	sum := 0
	for _, name := range []string{"postback_nats_stream_deliveries", "postback_nats_waiting_deliveries"} {
		family := families[name]
		if family == nil || len(family.GetMetric()) != 1 {
			return 0, fmt.Errorf("%s has no gauge %s", metrics, name)
		}
		sum += int(family.GetMetric()[0].GetGauge().GetValue())
	}
	return sum, nil
}

// total returns the number of deliveries of a namespace. It lists only one of them: repeated full lists would be a
// large part of the API server's load.
func (r *rig) total(ctx context.Context, namespace string) (int, error) {
	list, err := r.deliveries(ctx, namespace, client.Limit(1))
	return len(list.Items) + int(ptr.Deref(list.RemainingItemCount, 0)), err
}

// count returns the number of a namespace's deliveries that a selector selects.
func (r *rig) count(ctx context.Context, namespace string, selector fields.Selector) (int, error) {
	list, err := r.deliveries(ctx, namespace, client.MatchingFieldsSelector{Selector: selector})
	return len(list.Items), err
}

func (r *rig) deliveries(ctx context.Context, namespace string, which client.ListOption) (*metav1.PartialObjectMetadataList, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDeliveryList"))
	return list, r.api.List(ctx, list, client.InNamespace(namespace), which)
}
