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
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// These are the ways to install the operator.
const (
	installByManifests = "manifests"
	installByChart     = "chart"
	installEmbedded    = "embedded"
)

var how = flag.String("install", installByManifests, "how the operator is installed: manifests, chart, or embedded: the chart with three embedded NATS servers")

// deployments are the Deployments of the installation.
var deployments = []string{"postback-manager", "postback-dispatcher"}

// install installs the operator as users do, with a partner and its endpoint, and waits until all Pods are ready.
func install(ctx context.Context) error {
	began := time.Now()
	var err error
	switch *how {
	case installByManifests:
		err = installManifests(ctx)
	case installByChart:
		if err = preparePortal(ctx); err == nil {
			err = installChart(ctx, "testdata/portal-values.yaml")
		}
	case installEmbedded:
		if err = makeVolumes(ctx); err == nil {
			err = installChart(ctx, "testdata/embedded-values.yaml")
		}
	default:
		err = fmt.Errorf("there is no way %q to install", *how)
	}
	if err != nil {
		return err
	}
	figure("installed, -install="+*how+", all Pods ready", time.Since(began))
	if *how == installByManifests {
		if err := openEndpoints(ctx); err != nil {
			return err
		}
	}
	if _, err := kubectl(ctx, "", "apply", "-f", "testdata/partner.yaml"); err != nil {
		return err
	}
	if _, err := kubectl(ctx, "", "-n", partner, "wait", "--for=condition=Ready", "--timeout=90s", "postback/shop", "pod/receiver"); err != nil {
		return err
	}
	return errors.Join(connectable(ctx, partner, "receiver"), connectable(ctx, system, "postback-ingest"))
}

// installManifests applies the output of "make build-installer" unchanged.
func installManifests(ctx context.Context) error {
	if _, err := kubectl(ctx, "", "apply", "--server-side", "-f", os.Getenv(installerVariable)); err != nil {
		return err
	}
	return allRolledOut(ctx)
}

// installChart installs the chart by Helm, with further values files, into a namespace that enforces the profile
// restricted.
func installChart(ctx context.Context, values ...string) error {
	if _, err := kubectl(ctx, "", "apply", "-f", "../../config/default/namespace.yaml"); err != nil {
		return err
	}
	args := []string{"install", "postback", "../../charts/postback", "--namespace", system, "--values", "testdata/values.yaml", "--wait", "--timeout", "3m"}
	for _, file := range values {
		args = append(args, "--values", file)
	}
	command := exec.CommandContext(ctx, "helm", args...)
	// Helm must not use the settings and the cache of the user.
	command.Env = append(os.Environ(), "HOME="+filepath.Join(os.Getenv(nodeVariable), "helm"))
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("helm install: %w: %s", err, output)
	}
	if *how == installEmbedded {
		return nil // Helm has waited for the Pods.
	}
	return allRolledOut(ctx)
}

// openEndpoints permits the installed operator to send to endpoints in the cluster, without TLS.
func openEndpoints(ctx context.Context) error {
	for deployment, arg := range map[string]string{
		"postback-manager":    "--allow-plain-http",
		"postback-dispatcher": "--allow-cidr=10.96.0.0/16,10.244.0.0/16",
	} {
		patch := fmt.Sprintf(`[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": %q}]`, arg)
		if _, err := kubectl(ctx, "", "-n", system, "patch", "deployment", deployment, "--type=json", "--patch="+patch); err != nil {
			return err
		}
	}
	return allRolledOut(ctx)
}

func allRolledOut(ctx context.Context) error {
	for _, deployment := range deployments {
		if _, err := kubectl(ctx, "", "-n", system, "rollout", "status", "--timeout=180s", "deployment/"+deployment); err != nil {
			return err
		}
	}
	return nil
}
