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

package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// StatisticsSpan is the time for which PostbackStatistics keep their hours.
	StatisticsSpan = 7 * 24 * time.Hour
	// StatisticsInterval is the least time between two writes of one PostbackStatistics.
	StatisticsInterval = time.Minute
	// MaxStatisticsHours bounds the hours of PostbackStatistics. It exceeds the 168 hours of StatisticsSpan, for the
	// hour in progress and replicas whose clocks are ahead. The schema repeats it as maxItems.
	MaxStatisticsHours = 192
)

// AttemptDurationBounds are the inclusive upper bounds of the classes in StatisticsHour.Durations. One more class
// counts longer attempts. The metric postback_attempt_duration_seconds has the same bounds.
var AttemptDurationBounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// OutcomeCount is the number of attempts that ended with one outcome.
type OutcomeCount struct {
	// outcome of the attempts.
	//
	// +required
	Outcome Outcome `json:"outcome,omitempty"`

	// count is the number of these attempts.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	Count int64 `json:"count,omitempty"`
}

// StatisticsHour counts the attempts that began within one hour, and the deliveries that these attempts finished.
type StatisticsHour struct {
	// time is the beginning of the hour.
	//
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// delivered is the number of deliveries that the endpoint accepted. A redelivery counts again.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Delivered int64 `json:"delivered,omitempty"`

	// failed is the number of deliveries that failed for good.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Failed int64 `json:"failed,omitempty"`

	// outcomes count the attempts by outcome, in the order in which the documentation lists the outcomes.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Outcomes []OutcomeCount `json:"outcomes,omitempty"`

	// durations count the attempts by their duration: up to 5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 500ms, 1s, 2.5s, 5s, 10s, 30s,
	// and longer. Zeros at the end are omitted.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=13
	// +kubebuilder:validation:items:Minimum=0
	Durations []int64 `json:"durations,omitempty"`
}

// StatisticsTotal counts since the beginning of the statistics. Its numbers never decrease.
type StatisticsTotal struct {
	// attempts is the number of recorded attempts.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Attempts int64 `json:"attempts,omitempty"`

	// succeeded is the number of attempts that the endpoint accepted.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Succeeded int64 `json:"succeeded,omitempty"`

	// delivered is the number of deliveries that the endpoint accepted. A redelivery counts again.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Delivered int64 `json:"delivered,omitempty"`

	// failed is the number of deliveries that failed for good.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Failed int64 `json:"failed,omitempty"`
}

// PostbackStatistics counts the attempts and deliveries of the Postback of the same name, with an entry for each hour of the
// last seven days. The dispatcher writes it at most once a minute, and only after attempts. The counts do not depend on the retention of
// PostbackDeliveries.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=pbstat,categories=postback-all,path=postbackstatistics
// +kubebuilder:printcolumn:name="Delivered",type="integer",JSONPath=".total.delivered",description="Deliveries that the endpoint accepted since counting began"
// +kubebuilder:printcolumn:name="Failed",type="integer",JSONPath=".total.failed",description="Deliveries that failed for good since counting began"
// +kubebuilder:printcolumn:name="Attempts",type="integer",JSONPath=".total.attempts",description="Recorded attempts since counting began"
// +kubebuilder:printcolumn:name="Succeeded",type="integer",JSONPath=".total.succeeded",description="Attempts that the endpoint accepted since counting began"
// +kubebuilder:printcolumn:name="Last success",type="date",JSONPath=".lastSuccessTime",description="Age of the newest attempt that the endpoint accepted"
// +kubebuilder:printcolumn:name="Last failure",type="date",JSONPath=".lastFailureTime",description="Age of the newest attempt that failed"
// +kubebuilder:printcolumn:name="Since",type="date",JSONPath=".startTime",description="Age of the statistics"
type PostbackStatistics struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// startTime is the time at which counting began.
	//
	// +required
	StartTime metav1.Time `json:"startTime,omitzero"`

	// lastUpdateTime is the time at which a replica last added its counts.
	//
	// +required
	LastUpdateTime metav1.MicroTime `json:"lastUpdateTime,omitzero"`

	// lastSuccessTime is the end of the newest attempt that the endpoint accepted.
	//
	// +optional
	LastSuccessTime *metav1.MicroTime `json:"lastSuccessTime,omitempty"`

	// lastFailureTime is the end of the newest attempt that failed.
	//
	// +optional
	LastFailureTime *metav1.MicroTime `json:"lastFailureTime,omitempty"`

	// total has the counts since startTime.
	//
	// +optional
	Total StatisticsTotal `json:"total,omitzero"`

	// hours has an entry for each hour with attempts, oldest first.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=192
	Hours []StatisticsHour `json:"hours,omitempty"`
}

// PostbackStatisticsList is a list of PostbackStatistics.
//
// +kubebuilder:object:root=true
type PostbackStatisticsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PostbackStatistics `json:"items"`
}
