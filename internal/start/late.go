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

package start

import (
	"slices"

	"github.com/go-logr/logr"
)

// late is a LogSink that passes a logger's values to zap only with a line. zap would encode them into a buffer of 1
// KiB for each logger. controller-runtime makes two loggers for each reconciliation, and few of them write a line.
type late struct {
	logr.LogSink
	values []any
}

// WithValues implements logr.LogSink.
func (l late) WithValues(values ...any) logr.LogSink {
	return late{l.LogSink, l.and(values)}
}

// WithName implements logr.LogSink.
func (l late) WithName(name string) logr.LogSink {
	return late{l.LogSink.WithName(name), l.values}
}

// Info implements logr.LogSink.
func (l late) Info(level int, message string, values ...any) {
	l.LogSink.Info(level, message, l.and(values)...)
}

// Error implements logr.LogSink.
func (l late) Error(err error, message string, values ...any) {
	l.LogSink.Error(err, message, l.and(values)...)
}

// and returns the logger's values and others, in a new slice.
func (l late) and(values []any) []any { return append(slices.Clip(l.values), values...) }
