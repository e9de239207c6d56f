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
	"context"
	"errors"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"
)

// memoryInterval is the interval at which the memory limit of the container is read, because it can change while the container
// runs.
const memoryInterval = time.Minute

// limitMemory makes the garbage collector work harder before the process exceeds the memory limit of its container, until
// ctx ends. It begins at nine tenths of the limit, which leaves room for memory outside the heap. GOMEMLIMIT, if it is set,
// holds instead.
func limitMemory(ctx context.Context, log logr.Logger) {
	_, err := memlimit.Set(memlimit.WithRefreshInterval(ctx, memoryInterval))
	if err != nil && !errors.Is(err, memlimit.ErrNoCgroup) && !errors.Is(err, memlimit.ErrCgroupsNotSupported) {
		log.Info("Cannot read the memory limit of the container; set GOMEMLIMIT", "reason", err.Error())
	}
}
