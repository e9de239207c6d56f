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

package traffic

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// add adds the counts of a book to the statistics of its Postback. It resets statistics that belong to an earlier
// Postback of the same name. Statistics without an owner, as after a restore, continue.
func add(s *v1alpha1.PostbackStatistics, b *book, now time.Time) {
	s.Namespace, s.Name = b.key.Namespace, b.key.Name
	owner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Postback", Name: b.key.Name, UID: b.uid}
	if len(s.OwnerReferences) > 0 && !slices.ContainsFunc(s.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == b.uid }) {
		*s = v1alpha1.PostbackStatistics{ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
		}}
	}
	if len(s.OwnerReferences) == 0 {
		s.OwnerReferences = []metav1.OwnerReference{owner}
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	for name, value := range v1alpha1.OwnLabels() {
		s.Labels[name] = value
	}
	s.Labels[v1alpha1.PostbackLabel] = b.key.Name

	for i := range b.hours {
		h := &b.hours[i]
		addHour(hourOf(s, h.begin), &s.Total, h)
	}
	if s.StartTime.IsZero() {
		s.StartTime = metav1.NewTime(b.since)
	}
	s.LastSuccessTime, s.LastFailureTime = newest(s.LastSuccessTime, b.lastSuccess), newest(s.LastFailureTime, b.lastFailure)
	s.LastUpdateTime = metav1.NewMicroTime(now)
	trim(s, now)
}

// hourOf returns the entry of an hour, and creates it if necessary.
func hourOf(s *v1alpha1.PostbackStatistics, begin time.Time) *v1alpha1.StatisticsHour {
	at, found := slices.BinarySearchFunc(s.Hours, begin, func(h v1alpha1.StatisticsHour, begin time.Time) int { return h.Time.Time.Compare(begin) })
	if !found {
		s.Hours = slices.Insert(s.Hours, at, v1alpha1.StatisticsHour{Time: metav1.NewTime(begin)})
	}
	return &s.Hours[at]
}

func addHour(to *v1alpha1.StatisticsHour, total *v1alpha1.StatisticsTotal, h *hour) {
	to.Delivered += h.delivered
	to.Failed += h.failed
	total.Delivered += h.delivered
	total.Failed += h.failed
	sum := h.outcomes
	for _, o := range to.Outcomes {
		if i, known := outcomeIndex[o.Outcome]; known {
			sum[i] += o.Count
		}
	}
	to.Outcomes = nil
	for i, outcome := range v1alpha1.Outcomes {
		total.Attempts += h.outcomes[i]
		if outcome == v1alpha1.OutcomeSucceeded {
			total.Succeeded += h.outcomes[i]
		}
		if sum[i] > 0 {
			to.Outcomes = append(to.Outcomes, v1alpha1.OutcomeCount{Outcome: outcome, Count: sum[i]})
		}
	}
	durations := h.durations
	for i, n := range to.Durations {
		durations[min(i, len(durations)-1)] += n
	}
	used := len(durations)
	for used > 0 && durations[used-1] == 0 {
		used--
	}
	to.Durations = slices.Clone(durations[:used])
}

// newest returns the later of a recorded time and another one.
func newest(have *metav1.MicroTime, at time.Time) *metav1.MicroTime {
	if at.IsZero() || have != nil && !at.After(have.Time) {
		return have
	}
	t := metav1.NewMicroTime(at)
	return &t
}

// trim drops the hours beyond the retention.
func trim(s *v1alpha1.PostbackStatistics, now time.Time) {
	oldest := now.UTC().Add(-v1alpha1.StatisticsSpan).Truncate(time.Hour)
	s.Hours = slices.DeleteFunc(s.Hours, func(h v1alpha1.StatisticsHour) bool { return h.Time.Time.Before(oldest) })
	if extra := len(s.Hours) - v1alpha1.MaxStatisticsHours; extra > 0 {
		s.Hours = slices.Delete(s.Hours, 0, extra)
	}
}
