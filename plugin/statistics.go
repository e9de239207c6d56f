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

package plugin

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

// counted are the PostbackStatistics of a scope.
type counted struct {
	of map[client.ObjectKey]*v1alpha1.PostbackStatistics
	// err is the reason why they are unknown, or nil.
	err error
}

// statistics reads the PostbackStatistics of the scope. If that fails, the result has the error, and the verb
// continues.
func (s *scope) statistics(ctx context.Context) counted {
	list := &v1alpha1.PostbackStatisticsList{}
	c := counted{of: map[client.ObjectKey]*v1alpha1.PostbackStatistics{}}
	if c.err = s.List(ctx, list, client.InNamespace(s.namespace)); c.err != nil {
		return c
	}
	for i := range list.Items {
		c.of[client.ObjectKeyFromObject(&list.Items[i])] = &list.Items[i]
	}
	return c
}

// statisticsOf reads the PostbackStatistics of one Postback.
func (s *scope) statisticsOf(ctx context.Context, key client.ObjectKey) counted {
	found := &v1alpha1.PostbackStatistics{}
	err := s.Get(ctx, key, found)
	if apierrors.IsNotFound(err) {
		return counted{}
	}
	return counted{of: map[client.ObjectKey]*v1alpha1.PostbackStatistics{key: found}, err: err}
}

const day = 24 * time.Hour

// cells returns the success rate and the numbers of delivered and failed deliveries of the last 24 hours.
func (c counted) cells(key client.ObjectKey, now time.Time) (rate, delivered, failed cell) {
	if c.err != nil {
		return plain("unknown"), plain("unknown"), plain("unknown")
	}
	counts := statistics.Over(c.of[key], now, day)
	rate, delivered, failed = plain(rateText(counts)), plain(decimal(int(counts.Delivered))), plain(decimal(int(counts.Failed)))
	if counts.Attempts > counts.Succeeded {
		rate.colour = yellow
	}
	return rate, delivered, failed
}

// lastSuccess returns the time of the newest success, or zero if none is recorded.
func (c counted) lastSuccess(key client.ObjectKey) time.Time {
	if s := c.of[key]; c.err == nil && s != nil && s.LastSuccessTime != nil {
		return s.LastSuccessTime.Time
	}
	return time.Time{}
}

func rateText(c statistics.Counts) string {
	if c.Attempts == 0 {
		return "-"
	}
	return fmt.Sprintf("%d%%", c.Rate())
}

// statistics writes the counts of the last 24 hours and the last week.
func (d *description) statistics(c counted, key client.ObjectKey) {
	if c.err != nil {
		d.field("Statistics", "unknown: %s", explain(c.err))
		return
	}
	counts := statistics.Over(c.of[key], d.now, day)
	d.field("Last 24 hours", "%s", countsText(counts))
	if counts.Attempts > 0 {
		d.field("Duration", "median about %s, 95%% within %s", took(counts.Percentile(0.5)), took(counts.Percentile(0.95)))
	}
	var failures []string
	for _, f := range counts.Failures() {
		failures = append(failures, fmt.Sprintf("%s %s", decimal(int(f.Count)), f.Outcome))
	}
	d.field("Failures", "%s", strings.Join(failures, ", "))
	if week := statistics.Over(c.of[key], d.now, v1alpha1.StatisticsSpan); week.Attempts != counts.Attempts {
		d.field("Last 7 days", "%s", countsText(week))
	}
	if s := c.of[key]; s != nil {
		d.field("Counted", "%s", ago(s.LastUpdateTime.Time, d.now))
	}
}

// countsText describes the counts of attempts and of deliveries.
func countsText(c statistics.Counts) string {
	if c.Attempts == 0 {
		return "no attempts"
	}
	text := fmt.Sprintf("%s of %s attempts succeeded (%s)", decimal(int(c.Succeeded)), decimal(int(c.Attempts)), rateText(c))
	if c.Deliveries() > 0 {
		text += fmt.Sprintf("; %s of %s finished deliveries succeeded", decimal(int(c.Delivered)), decimal(int(c.Deliveries())))
	}
	return text
}
