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

// memoryInterval is the interval at which the container's memory limit is read, because the limit can change while
// the container runs.
const memoryInterval = time.Minute

// limitMemory sets Go's memory limit to nine tenths of the container's, until ctx ends. The garbage collector then
// works harder near the limit, and memory outside the heap has room. It does nothing if GOMEMLIMIT is set.
func limitMemory(ctx context.Context, log logr.Logger) {
	_, err := memlimit.Set(memlimit.WithRefreshInterval(ctx, memoryInterval))
	if err != nil && !errors.Is(err, memlimit.ErrNoCgroup) && !errors.Is(err, memlimit.ErrCgroupsNotSupported) {
		log.Info("Cannot read the memory limit of the container; set GOMEMLIMIT", "reason", err.Error())
	}
}
