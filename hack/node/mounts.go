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
	"strings"

	"golang.org/x/sys/unix"
)

// mountAll mounts file systems of the node over folders of the machine in which the node would write.
func mountAll(state string) error {
	// The kubelet passes mounts on to containers, which requires shared mounts. They are shared in this namespace
	// only.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	// /sys shows the namespaces of the process that mounts it.
	if err := mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	if err := mountGroups(); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := mount("", "/run", "", unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	logs := filepath.Join(state, "varlog")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	if err := mount(logs, "/var/log", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := coverState(state); err != nil {
		return err
	}
	return hideSettings(state)
}

// coverState redirects writes below /var/lib to state, because some paths of the kubelet and of CNI plugins cannot be
// configured.
func coverState(state string) error {
	const covered = "/var/lib"
	upper, work := filepath.Join(state, "varlib"), filepath.Join(state, "varlib-work")
	for _, folder := range []string{upper, work} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := mount("overlay", covered, "overlay", 0, "lowerdir="+covered+",upperdir="+upper+",workdir="+work); err != nil {
		return err
	}
	return mount("", covered, "", unix.MS_SHARED, "")
}

// mountGroups mounts the control groups. Their root is this process's group, in which the cgroup namespace was
// created.
func mountGroups() error {
	const root = "/sys/fs/cgroup"
	hierarchies, err := hierarchyNames()
	if err != nil {
		return err
	}
	if err := mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, names := range hierarchies {
		folder := filepath.Join(root, strings.TrimPrefix(names, "name="))
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		options := names
		if strings.HasPrefix(names, "name=") {
			options = "none," + names
		}
		if err := mount("cgroup", folder, "cgroup", 0, options); err != nil {
			return err
		}
		if err := linkControllers(root, names); err != nil {
			return err
		}
	}
	return nil
}

// linkControllers links the name of each controller of a hierarchy to the hierarchy.
func linkControllers(root, names string) error {
	controllers := strings.Split(names, ",")
	if len(controllers) == 1 {
		return nil
	}
	for _, controller := range controllers {
		if err := os.Symlink(names, filepath.Join(root, controller)); err != nil {
			return err
		}
	}
	return nil
}

// hierarchyNames returns the names of this process's hierarchies of version 1, mounted or not. runc needs all of
// them.
func hierarchyNames() ([]string, error) {
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(content)) {
		if parts := strings.SplitN(line, ":", 3); len(parts) == 3 && parts[1] != "" {
			all = append(all, parts[1])
		}
	}
	return all, nil
}

// hideSettings mounts files with the kernel settings that the kubelet wants. Otherwise the kubelet would change them
// for the whole machine.
func hideSettings(state string) error {
	folder := filepath.Join(state, "settings")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		file := filepath.Join(folder, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		err := mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}
