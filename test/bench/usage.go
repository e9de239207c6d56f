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
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc (USER_HZ, 100 Hz), on every architecture of Linux that Go supports.
const tick = 10 * time.Millisecond

// usage is the resource usage of processes, by name.
type usage map[string]spent

// spent is the resource usage of one process.
type spent struct {
	CPU time.Duration
	// PeakRSS is the largest resident memory since forgetPeaks, in bytes.
	PeakRSS int64
}

// usageOf reads the present usage of processes.
func usageOf(pids map[string]int) (usage, error) {
	u := usage{}
	for name, pid := range pids {
		cpu, err := cpuOf(pid)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", name, err)
		}
		peak, err := peakOf(pid)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", name, err)
		}
		u[name] = spent{CPU: cpu, PeakRSS: peak}
	}
	return u, nil
}

// since returns the usage since an earlier reading.
func (u usage) since(before usage) usage {
	used := usage{}
	for name, s := range u {
		used[name] = spent{CPU: s.CPU - before[name].CPU, PeakRSS: s.PeakRSS}
	}
	return used
}

// each returns the CPU milliseconds for one of n, by process.
func (u usage) each(n int) map[string]float64 {
	each := map[string]float64{}
	for name, s := range u {
		each[name] = milliseconds(s.CPU) / float64(max(n, 1))
	}
	return each
}

func procFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

func cpuOf(pid int) (time.Duration, error) {
	content, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0, err
	}
	// The name of the program is in parentheses and may contain anything. The fields from the third on follow it.
	const user, system, first = 14, 15, 3
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) <= system-first {
		return 0, fmt.Errorf("%s has %d fields", procFile(pid, "stat"), len(fields))
	}
	var ticks time.Duration
	for _, field := range []int{user, system} {
		n, err := strconv.ParseInt(fields[field-first], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += time.Duration(n)
	}
	return ticks * tick, nil
}

func peakOf(pid int) (int64, error) { return memoryOf(pid, "VmHWM:") }

// residentOf returns the present resident memory of a process in bytes.
func residentOf(pid int) (int64, error) { return memoryOf(pid, "VmRSS:") }

func memoryOf(pid int, field string) (int64, error) {
	content, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(content), field)
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("%s has no %s", procFile(pid, "status"), field)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}

// forgetPeaks restarts the peaks of memory.
func forgetPeaks(pids map[string]int) error {
	for name, pid := range pids {
		if err := os.WriteFile(procFile(pid, "clear_refs"), []byte("5"), 0o200); err != nil {
			return fmt.Errorf("forget the peak of %s: %w", name, err)
		}
	}
	return nil
}
