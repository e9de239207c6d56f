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
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// user and group are the ids of nonroot in most images.
	user = 65532
	// certificatesPath is where Go and most other programs look first.
	certificatesPath = "etc/ssl/certs/ca-certificates.crt"
)

// spec describes the image to build.
type spec struct {
	name, version string
	created       time.Time
}

// build returns an index with one image per platform. Each platform names its program: linux/amd64=bin/manager.
func (s spec) build(platforms []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		name, program, ok := strings.Cut(p, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not of the form PLATFORM=PROGRAM", p)
		}
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return nil, fmt.Errorf("platform %q: %w", name, err)
		}
		image, err := s.image(platform, program)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return index, nil
}

func (s spec) image(platform *v1.Platform, program string) (v1.Image, error) {
	if err := checkStatic(platform, program); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	// Files that rarely change are in their own layer, which a node pulls only once.
	base, err := newLayer(
		file{certificatesPath, 0o644, certificates()},
		file{"etc/passwd", 0o644, fmt.Appendf(nil, "nonroot:x:%d:%d:nonroot:/:/sbin/nologin\n", user, user)},
		file{"etc/group", 0o644, fmt.Appendf(nil, "nonroot:x:%d:\n", user)},
	)
	if err != nil {
		return nil, err
	}
	own, err := newLayer(file{filepath.Base(program), 0o755, content})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	history := v1.History{CreatedBy: "hack/image", Created: v1.Time{Time: s.created}}
	image, err = mutate.Append(image, mutate.Addendum{Layer: base, History: history}, mutate.Addendum{Layer: own, History: history})
	if err != nil {
		return nil, fmt.Errorf("add the layers: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return mutate.ConfigFile(image, s.configure(config.DeepCopy(), platform, filepath.Base(program)))
}

func (s spec) configure(config *v1.ConfigFile, platform *v1.Platform, program string) *v1.ConfigFile {
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Created = v1.Time{Time: s.created}
	title, _, _ := strings.Cut(path.Base(s.name), ":")
	config.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", user, user),
		Entrypoint: []string{"/" + program},
		WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    title,
			"org.opencontainers.image.version":  s.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":   "https://github.com/postback-dev/postback-operator",
		},
	}
	return config
}

// checkStatic refuses a program of another platform, and one that needs a dynamic linker, which the image lacks.
func checkStatic(platform *v1.Platform, program string) error {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	want, ok := machines[platform.Architecture]
	if platform.OS != "linux" || !ok {
		return fmt.Errorf("platform %s is not one that images are made for", platform)
	}
	parsed, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("read %s: %w", program, err)
	}
	defer parsed.Close()
	if parsed.Machine != want {
		return fmt.Errorf("%s is for %s, not for %s", program, parsed.Machine, platform)
	}
	for _, header := range parsed.Progs {
		if header.Type == elf.PT_INTERP {
			return errors.New(program + " is linked dynamically: build it with CGO_ENABLED=0")
		}
	}
	return nil
}
