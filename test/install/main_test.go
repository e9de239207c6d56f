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

// Package install tests what users install: the manifests of "make build-installer" and the chart, by the real
// kubectl and Helm, on a real control plane. It runs the built programs of the version in a Deployment's image, with
// the arguments, environment, files and token of the Deployment.
package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// These versions are installed, upgraded to, and rolled back to. Their programs differ only in the version that they
// report.
const (
	oldVersion = "v0.1.0"
	newVersion = "v0.2.0"
	registry   = "registry.test/acme"
)

var (
	// root is the folder of the module.
	root string
	// programs maps versions to the folders of their built programs.
	programs = map[string]string{}
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	dir, err := os.MkdirTemp("", "postback-install-")
	if err == nil {
		err = prepare(context.Background(), dir)
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// prepare builds the tools, which takes minutes the first time, and the programs.
func prepare(ctx context.Context, dir string) error {
	var err error
	if root, err = controlplane.ModuleRoot(); err != nil {
		return err
	}
	tools := exec.CommandContext(ctx, "make", "bin/helm", "bin/kustomize")
	tools.Dir, tools.Stdout, tools.Stderr = root, os.Stderr, os.Stderr
	if err := tools.Run(); err != nil {
		return fmt.Errorf("build Helm and Kustomize: %w", err)
	}
	for _, version := range []string{oldVersion, newVersion} {
		programs[version] = filepath.Join(dir, version)
		if err := operator.Build(ctx, root, programs[version], "-ldflags=-X main.version="+version); err != nil {
			return err
		}
	}
	return nil
}

// commandTimeout is longer than any --timeout in the tests.
const commandTimeout = 10 * time.Minute

// command runs a program in the module's folder and returns its output.
func command(ctx context.Context, env []string, name string, args ...string) (string, error) {
	var out, errOut strings.Builder
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, fmt.Errorf("it did not end within %s", commandTimeout))
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.WaitDelay = 10 * time.Second // A child of the command may keep its output open.
	c.Dir, c.Env, c.Stdout, c.Stderr = root, append(os.Environ(), env...), &out, &errOut
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), errors.Join(err, context.Cause(ctx)), strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// installer returns the output of "make build-installer".
func installer(t *testing.T, version, registry string) string {
	t.Helper()
	manifests, err := command(t.Context(), nil, filepath.Join(root, "hack", "installer.sh"), version, registry)
	if err != nil {
		t.Fatal(err)
	}
	return manifests
}

// helm runs Helm, with a kubeconfig unless it is "", and without the settings of the user.
func helm(t *testing.T, kubeconfig string, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	env := []string{"HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home, "KUBECONFIG=" + kubeconfig}
	return command(t.Context(), env, filepath.Join(root, "bin", "helm"), args...)
}

func chart() string { return filepath.Join(root, "charts", "postback") }
