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

package operator

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build builds the manager and the dispatcher of the module in root into a folder, with further arguments of "go
// build". It uses the race detector if this program does.
func Build(ctx context.Context, root, dir string, further ...string) error {
	return build(ctx, root, dir, append(further, "./cmd/manager", "./cmd/dispatcher"))
}

// build runs "go build" with further arguments, of which the last are packages.
func build(ctx context.Context, root, dir string, further []string) error {
	// Without the race detector the flags are those of "make build", to share the build cache.
	args, env := []string{"-trimpath"}, []string{"CGO_ENABLED=0"}
	if raceEnabled {
		args, env = []string{"-race"}, nil
	}
	args = append(append([]string{"build", "-o", dir + "/"}, args...), further...)
	command := exec.CommandContext(ctx, "go", args...)
	var output bytes.Buffer
	command.Dir, command.Stdout, command.Stderr = root, &output, &output
	command.Env = append(os.Environ(), env...)
	if err := command.Run(); err != nil {
		return fmt.Errorf("build the operator: %w:\n%s", err, output.String())
	}
	return nil
}
