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

// Package fault recovers panics, so that one piece of work cannot end the process and all other work. Its callers
// decide what the work reports.
package fault

import (
	"errors"
	"runtime/debug"

	"github.com/go-logr/logr"
)

// errPanic is the error of the log line about a panic.
var errPanic = errors.New("panic")

// Recover recovers a panic of the function that defers it. It calls report, which sets the result of that function
// and returns keys and values for the log. It then logs message with the cause and the stack. Without a panic it does
// nothing.
func Recover(log logr.Logger, message string, report func() (keysAndValues []any)) {
	if cause := recover(); cause != nil {
		log.Error(errPanic, message, append(report(), "cause", cause, "stack", string(debug.Stack()))...)
	}
}
