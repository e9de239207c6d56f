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
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// build compiles a program for an architecture.
func build(t *testing.T, architecture string) string {
	t.Helper()
	folder := t.TempDir()
	source := filepath.Join(folder, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println(1) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "manager")
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, source)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return program
}

// unpack extracts an archive, and returns the index of its image and the annotations of that index.
func unpack(t *testing.T, archive string) (v1.ImageIndex, map[string]string) {
	t.Helper()
	content, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, content := range readTar(t, bytes.NewReader(content)) {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outer, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the archive holds %d images, want 1", len(manifest.Manifests))
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index, manifest.Manifests[0].Annotations
}

// readTar returns the files of an archive by name.
func readTar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImage(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	programs := map[string]string{"amd64": build(t, "amd64"), "arm64": build(t, "arm64")}
	archive := filepath.Join(t.TempDir(), "image.tar")
	s := spec{name: "postback-manager:v1.2.3", version: "v1.2.3"}
	if err := run(s, archive, []string{"linux/amd64=" + programs["amd64"], "linux/arm64=" + programs["arm64"]}); err != nil {
		t.Fatal(err)
	}
	index, annotations := unpack(t, archive)
	if got := annotations["io.containerd.image.name"]; !strings.HasSuffix(got, "/library/postback-manager:v1.2.3") {
		t.Errorf("containerd would name the image %q", got)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, programs[descriptor.Platform.Architecture])
	}
	if len(manifest.Manifests) != len(programs) {
		t.Errorf("there are %d platforms, want %d", len(manifest.Manifests), len(programs))
	}
}

func checkImage(t *testing.T, image v1.Image, program string) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/manager" || config.Created.Unix() != 1790000000 {
		got, _ := json.Marshal(config)
		t.Errorf("the configuration is %s", got)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range readTar(t, content) {
			files[name] = content
		}
	}
	want, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(files["manager"], want) {
		t.Error("the program is not the one that was given")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"]) {
		t.Error("there are no certificate authorities")
	}
	if passwd := string(files["etc/passwd"]); !strings.HasPrefix(passwd, "nonroot:x:65532:65532:") {
		t.Errorf("/etc/passwd is %q", passwd)
	}
}

func TestImageIsReproducible(t *testing.T) {
	program := build(t, "amd64")
	archive := func(name string) []byte {
		path := filepath.Join(t.TempDir(), name)
		if err := run(spec{name: "example.com/manager:v1"}, path, []string{"linux/amd64=" + program}); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first := archive("first")
	// The time and the mode of the program's file do not affect the image.
	if err := os.Chtimes(program, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o640); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, archive("second")) {
		t.Error("two archives of the same program differ")
	}
}

func TestImageRefuses(t *testing.T) {
	program := build(t, "amd64")
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ name, platform, want string }{
		"another platform": {"m:v1", "linux/arm64=" + program, "not for linux/arm64"},
		"unknown platform": {"m:v1", "windows/amd64=" + program, "not one that images are made for"},
		"no program":       {"m:v1", "linux/amd64", "not of the form"},
		"no tag":           {"m@sha256:" + strings.Repeat("0", 64), "linux/amd64=" + program, "no tag"},
		"no image name":    {"M:v1", "linux/amd64=" + program, "lowercase"},
		"a dynamic one":    {"m:v1", "linux/" + runtime.GOARCH + "=" + shell, "CGO_ENABLED=0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := run(spec{name: test.name}, filepath.Join(t.TempDir(), "image.tar"), []string{test.platform})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
