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
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// groupPrefix begins the names of the node's control groups, followed by the process id of their maker.
const groupPrefix = "postback-node-"

// hierarchy is a control group hierarchy of version 1.
type hierarchy struct {
	// names lists its controllers, separated by commas, or is name=systemd.
	names string
	// folder is the path of this process's group.
	folder string
}

type hierarchies []hierarchy

// readHierarchies returns the mounted hierarchies of version 1.
func readHierarchies() (hierarchies, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var all hierarchies
	for line := range strings.Lines(string(groups)) {
		// The line has the form number:names:path.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || parts[1] == "" {
			continue
		}
		if mounted := mountPoint(string(mounts), parts[1]); mounted != "" {
			all = append(all, hierarchy{names: parts[1], folder: filepath.Join(mounted, parts[2])})
		}
	}
	return all, nil
}

// mountPoint returns where a hierarchy is mounted, or "".
func mountPoint(mounts, names string) string {
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[2] != "cgroup" {
			continue
		}
		options := strings.Split(fields[3], ",")
		if !slices.ContainsFunc(strings.Split(names, ","), func(name string) bool { return !slices.Contains(options, name) }) {
			return fields[1]
		}
	}
	return ""
}

func (h hierarchies) have(controller string) bool {
	return slices.ContainsFunc(h, func(one hierarchy) bool {
		return slices.Contains(strings.Split(one.names, ","), controller)
	})
}

// enter makes a group below this process's group in each hierarchy, and moves this process into it.
func (h hierarchies) enter(group string) error {
	for _, one := range h {
		folder := filepath.Join(one.folder, group)
		if err := os.Mkdir(folder, 0o755); err != nil {
			return fmt.Errorf("make a control group: %w", err)
		}
		// A group without CPUs and memory nodes accepts no process.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			content, err := os.ReadFile(filepath.Join(one.folder, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := errors.Join(err, os.WriteFile(filepath.Join(folder, file), content, 0o644)); err != nil {
				return fmt.Errorf("set up a control group: %w", err)
			}
		}
		if err := os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("enter a control group: %w", err)
		}
	}
	return nil
}

// remove removes a group and its subgroups, which must have no processes, from each hierarchy.
func (h hierarchies) remove(group string) error {
	var all error
	for _, one := range h {
		var folders []string
		err := filepath.WalkDir(filepath.Join(one.folder, group), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return err
		})
		all = errors.Join(all, err)
		slices.Reverse(folders) // Subgroups come before their parents.
		for _, folder := range folders {
			all = errors.Join(all, os.Remove(folder))
		}
	}
	return all
}

// removeLeftOver removes the groups of nodes that were ended by SIGKILL.
func (h hierarchies) removeLeftOver() error {
	var all error
	for _, one := range h {
		folders, err := filepath.Glob(filepath.Join(one.folder, groupPrefix+"*"))
		all = errors.Join(all, err)
		for _, folder := range folders {
			group := filepath.Base(folder)
			pid, err := strconv.Atoi(strings.TrimPrefix(group, groupPrefix))
			if err != nil {
				continue
			}
			if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); errors.Is(err, fs.ErrNotExist) {
				all = errors.Join(all, hierarchies{one}.remove(group))
			}
		}
	}
	return all
}
