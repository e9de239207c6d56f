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
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestGarbagePercent(t *testing.T) {
	for name, test := range map[string]struct {
		inUse uint64
		want  int
	}{
		"nothing":           {want: 100},
		"little":            {inUse: 32 << 20, want: 100},
		"as much as may be": {inUse: mostGarbage, want: 100},
		"more":              {inUse: 2 * mostGarbage, want: 50},
		"much":              {inUse: 3 * mostGarbage, want: 33},
		"very much":         {inUse: 64 << 30, want: leastPercent},
	} {
		t.Run(name, func(t *testing.T) {
			if got := garbagePercent(test.inUse); got != test.want {
				t.Errorf("%s: %d, want %d", name, got, test.want)
			}
		})
	}
}

func TestBoundGarbage(t *testing.T) {
	much := make([]byte, 2*mostGarbage)
	for name, test := range map[string]struct{ gogc, want string }{
		"as it is":    {want: "less"},
		"GOGC is set": {gogc: "100", want: "as much"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOGC", test.gogc)
			t.Cleanup(func() { debug.SetGCPercent(defaultPercent) })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			runtime.GC()
			boundGarbage(ctx)
			sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			metrics.Read(sample)
			got := "as much"
			if sample[0].Value.Uint64() < defaultPercent {
				got = "less"
			}
			if got != test.want {
				t.Errorf("of %d bytes that are in use %s garbage may come together, want %s", len(much), got, test.want)
			}
		})
	}
	runtime.KeepAlive(much)
}
