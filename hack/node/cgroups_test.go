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
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMountPoint(t *testing.T) {
	const mounts = `tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0
`
	for names, want := range map[string]string{
		"cpu,cpuacct":  "/sys/fs/cgroup/cpu,cpuacct",
		"cpuset":       "/sys/fs/cgroup/cpuset",
		"name=systemd": "/sys/fs/cgroup/systemd",
		"memory":       "",
	} {
		t.Run(names, func(t *testing.T) {
			if got := mountPoint(mounts, names); got != want {
				t.Errorf("%s is mounted at %q, want %q", names, got, want)
			}
		})
	}
}

// TestGroupsOfTheDeadAreRemoved uses empty folders in place of groups without processes.
func TestGroupsOfTheDeadAreRemoved(t *testing.T) {
	folder := t.TempDir()
	groups := hierarchies{{names: "cpu", folder: folder}}
	const nobody = groupPrefix + "4194305" // One more than the largest process id.
	own := groupPrefix + "1"
	for _, path := range []string{nobody + "/kubepods/burstable/pod1", own + "/kubepods", "other"} {
		if err := os.MkdirAll(filepath.Join(folder, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := groups.removeLeftOver(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	if want := []string{"other", own}; !slices.Equal(left, want) {
		t.Errorf("%v are left, want %v", left, want)
	}
	if err := groups.remove(own); err != nil {
		t.Fatal(err)
	}
	if err := groups.remove("not there"); err != nil {
		t.Errorf("a group that is not there: %v", err)
	}
}
