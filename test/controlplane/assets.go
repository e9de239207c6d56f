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

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	modulePath        = "github.com/postback-dev/postback-operator"
	assetsEnvironment = "KUBEBUILDER_ASSETS"
)

// programs lists the programs that the assets folder must have.
var programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"}

// ModuleRoot returns the folder of the module's go.mod, which is the working directory or a parent.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(content), "module "+modulePath+"\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod of %s in the working directory or above it", modulePath)
		}
		dir = parent
	}
}

// Assets returns the folder of the control plane's programs: KUBEBUILDER_ASSETS, or otherwise the output of
// hack/controlplane/build.sh. The first build takes minutes and writes its progress to progress.
func Assets(ctx context.Context, progress io.Writer) (string, error) {
	dir := os.Getenv(assetsEnvironment)
	if dir == "" {
		built, err := Build(ctx, progress, "controlplane")
		if err != nil {
			return "", err
		}
		dir = built
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the control plane's programs: %w", err)
	}
	for _, program := range programs {
		if _, err := os.Stat(filepath.Join(dir, program)); errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%s has no %s: point %s to a folder with %s, or unset it to have them built",
				dir, program, assetsEnvironment, strings.Join(programs, ", "))
		} else if err != nil {
			return "", fmt.Errorf("find the control plane's programs: %w", err)
		}
	}
	return dir, nil
}

// Build runs build.sh of a folder below hack, which builds programs unless they exist. It writes the progress to
// progress, and returns the path that the script prints.
func Build(ctx context.Context, progress io.Writer, folder string) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	build := exec.CommandContext(ctx, filepath.Join(root, "hack", folder, "build.sh"))
	build.Stdout, build.Stderr = &out, progress
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build programs with hack/%s/build.sh: %w", folder, err)
	}
	return strings.TrimSpace(out.String()), nil
}
