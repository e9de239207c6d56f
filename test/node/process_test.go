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

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// processOf returns the id of the process in a Pod's first container. The test shares the node's PID namespace, and
// finds the process by its control group, which contains the container's id.
func processOf(t *testing.T, pod *corev1.Pod) int {
	t.Helper()
	id, err := findProcess(pod)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func findProcess(pod *corev1.Pod) (int, error) {
	if len(pod.Status.ContainerStatuses) == 0 {
		return 0, fmt.Errorf("Pod %s has no container yet", pod.Name)
	}
	container := strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://")
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, file := range groups {
		content, err := os.ReadFile(file)
		if err == nil && container != "" && strings.Contains(string(content), container) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, fmt.Errorf("no process is in container %s of Pod %s", container, pod.Name)
}

// processStatus returns /proc/ID/status of a process.
func processStatus(t *testing.T, id int) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id), "status"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// memoryGroup returns the folder of the control group that limits a process's memory.
func memoryGroup(t *testing.T, id int) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && parts[1] == "memory" {
			return filepath.Join("/sys/fs/cgroup/memory", parts[2])
		}
	}
	t.Fatalf("process %d has no control group for memory:\n%s", id, content)
	return ""
}
