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

// mountAll gives the node file systems of its own where it would otherwise write to those of the machine.
func mountAll(state string) error {
	// The kubelet hands mounts on to containers, which needs shared ones; they are shared in here only.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	// The content of /sys depends on the namespaces of the process that mounts it.
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

// coverState lets what is written below /var/lib, where kubelet and CNI keep some of their files whatever they are told,
// go elsewhere.
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

// mountGroups mounts the control groups, whose root is the group of this process: the namespace was made there.
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

// linkControllers lets each controller of a common hierarchy be found by its own name.
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

// hierarchyNames returns the controllers of each hierarchy of version 1 that this process is in, mounted or not. runc
// wants all of them.
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

// hideSettings shows the kubelet the settings of the kernel that it would make otherwise: they hold for the whole
// machine, and not for the node only.
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
