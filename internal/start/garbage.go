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
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// mostGarbage bounds the garbage before a collection, in bytes, unless leastPercent permits more.
	mostGarbage = 96 << 20
	// defaultPercent is Go's default: as much garbage as live heap. leastPercent bounds the cost of collections in a
	// very large heap.
	defaultPercent, leastPercent = 100, 25
	// garbageInterval is the interval at which the live heap is measured. At the start it grows within seconds.
	garbageInterval = time.Second
)

// boundGarbage bounds the garbage of a process with a large live heap, such as the backlog of an outage, until ctx
// ends. It does nothing if the environment variable GOGC is set.
func boundGarbage(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	inUse := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := defaultPercent
	follow := func(context.Context) {
		metrics.Read(inUse)
		if now := garbagePercent(inUse[0].Value.Uint64()); now != percent {
			percent = now
			debug.SetGCPercent(percent)
		}
	}
	follow(ctx)
	go wait.UntilWithContext(ctx, follow, garbageInterval)
}

// garbagePercent returns the value of GOGC for a live heap, in bytes.
func garbagePercent(inUse uint64) int {
	if inUse <= mostGarbage {
		return defaultPercent
	}
	return max(int(defaultPercent*mostGarbage/inUse), leastPercent)
}
