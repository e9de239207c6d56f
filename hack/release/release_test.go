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
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// pack packs two programs, for Linux and Windows, and returns their checksums.
func pack(t *testing.T, r release) map[platform]string {
	t.Helper()
	t.Chdir(filepath.Join("..", ".."))
	checksums := map[platform]string{}
	for _, p := range []platform{{"linux", "amd64"}, {"windows", "arm64"}} {
		sum, err := r.pack(p, []byte("program of "+p.os))
		if err != nil {
			t.Fatal(err)
		}
		checksums[p] = sum
	}
	return checksums
}

func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	archive, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	if strings.HasSuffix(path, ".zip") {
		reader, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range reader.File {
			content, err := file.Open()
			if err != nil {
				t.Fatal(err)
			}
			found[fmt.Sprintf("%s %o", file.Name, file.Mode())] = readAll(t, content)
		}
		return found
	}
	uncompressed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	reader := tar.NewReader(uncompressed)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[fmt.Sprintf("%s %o", header.Name, header.Mode)] = readAll(t, reader)
	}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestArchivesHoldTheProgramAndTheLicense(t *testing.T) {
	r := release{version: "v1.2.3", dir: t.TempDir(), time: time.Unix(1700000000, 0).UTC()}
	pack(t, r)
	for archive, want := range map[string][2]string{
		"kubectl-postback_linux_amd64.tar.gz": {"kubectl-postback 755", "program of linux"},
		"kubectl-postback_windows_arm64.zip":  {"kubectl-postback.exe 755", "program of windows"},
	} {
		t.Run(archive, func(t *testing.T) {
			got := contents(t, filepath.Join(r.dir, archive))
			if len(got) != 2 || got[want[0]] != want[1] || !strings.Contains(got["LICENSE 644"], "Apache License") {
				t.Errorf("%s holds %.100q", archive, got)
			}
		})
	}
}

func TestTheSameCommitGivesTheSameArchives(t *testing.T) {
	at := time.Unix(1700000000, 0).UTC()
	first := pack(t, release{version: "v1.2.3", dir: t.TempDir(), time: at})
	t.Chdir(filepath.Join("hack", "release"))
	second := pack(t, release{version: "v1.2.3", dir: t.TempDir(), time: at})
	for p, sum := range first {
		if second[p] != sum {
			t.Errorf("%v: %s and %s", p, sum, second[p])
		}
	}
}

func TestKrewManifestNamesTheArchives(t *testing.T) {
	r := release{version: "v1.2.3", dir: t.TempDir()}
	if err := r.writeKrewManifest(pack(t, r)); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(r.dir, "postback.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var plugin krewPlugin
	if err := yaml.UnmarshalStrict(manifest, &plugin); err != nil {
		t.Fatal(err)
	}
	if len(plugin.Spec.Platforms) != 6 || len(plugin.Spec.ShortDescription) > 50 {
		t.Errorf("the manifest is %s", manifest)
	}
	linux := plugin.Spec.Platforms[0]
	archive, err := os.ReadFile(filepath.Join(r.dir, filepath.Base(linux.URI)))
	if err != nil {
		t.Fatal(err)
	}
	if linux.SHA256 != fmt.Sprintf("%x", sha256.Sum256(archive)) || linux.Selector.MatchLabels["os"] != "linux" || linux.Bin != "kubectl-postback" ||
		linux.URI != "https://github.com/postback-dev/postback-operator/releases/download/v1.2.3/kubectl-postback_linux_amd64.tar.gz" {
		t.Errorf("the platform is %+v", linux)
	}
}

func TestChecksumsAreOfEveryFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"install.yaml": "manifests", "images/manager.tar": "image", checksumsFile: "old"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeChecksums(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, checksumsFile))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x  images/manager.tar\n%x  install.yaml\n", sha256.Sum256([]byte("image")), sha256.Sum256([]byte("manifests"))); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReleasesHaveAVersion(t *testing.T) {
	for name, version := range map[string]string{
		"none": "", "a commit": "7e5140b", "without v": "1.2.3", "without a patch": "v1.2", "with a leading zero": "v01.2.3", "with a space": "v1.2.3-dirty dirty",
	} {
		t.Run(name, func(t *testing.T) {
			if err := (release{version: version, dir: t.TempDir()}).run(t.Context()); err == nil || !strings.Contains(err.Error(), "VERSION=v0.1.0") {
				t.Errorf("%q: %v", version, err)
			}
		})
	}
}
