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

// groupPrefix begins the names of the control groups; the id of the process that made them follows.
const groupPrefix = "postback-node-"

// hierarchy is a tree of control groups of version 1 that this process is in.
type hierarchy struct {
	// names are its controllers, or name=systemd.
	names string
	// folder is the group of this process.
	folder string
}

type hierarchies []hierarchy

// readHierarchies returns the hierarchies of version 1 that are mounted.
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
		// number:names:path
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

// enter makes a group in each hierarchy, below the one of this process, and moves this process there.
func (h hierarchies) enter(group string) error {
	for _, one := range h {
		folder := filepath.Join(one.folder, group)
		if err := os.Mkdir(folder, 0o755); err != nil {
			return fmt.Errorf("make a control group: %w", err)
		}
		// A group with no processors and no memory nodes takes no process.
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

// remove removes a group and those below it from each hierarchy. They have no processes any more.
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
		slices.Reverse(folders) // what is inside before what is around it
		for _, folder := range folders {
			all = errors.Join(all, os.Remove(folder))
		}
	}
	return all
}

// removeLeftOver removes the groups of nodes that a SIGKILL has ended.
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
