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

// Command release makes the files of a release other than the manifests and the chart: an archive of the kubectl
// plugin for each platform, its manifest for krew, and the checksums of all files in the folder. The same commit
// gives the same bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// release describes the release to build.
type release struct {
	version string
	// dir is the folder of the release.
	dir string
	// time is the time of every file in the archives.
	time time.Time
}

// platform is an operating system and architecture of the plugin.
type platform struct{ os, arch string }

var platforms = []platform{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"},
}

var semantic = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

func main() {
	var r release
	var seconds int64
	flag.StringVar(&r.version, "version", "", "Version of the release, such as v0.1.0.")
	flag.StringVar(&r.dir, "dir", "dist", "Folder of the release.")
	flag.Int64Var(&seconds, "time", 0, "Time of the files in the archives, in seconds since 1970: that of the commit.")
	flag.Parse()
	r.time = time.Unix(seconds, 0).UTC()
	if err := r.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (r release) run(ctx context.Context) error {
	if !semantic.MatchString(r.version) {
		return fmt.Errorf("%q is no version of a release: say make release VERSION=v0.1.0", r.version)
	}
	checksums := map[platform]string{}
	for _, p := range platforms {
		program, err := r.build(ctx, p)
		if err != nil {
			return err
		}
		if checksums[p], err = r.pack(p, program); err != nil {
			return err
		}
	}
	if err := r.writeKrewManifest(checksums); err != nil {
		return err
	}
	return writeChecksums(r.dir)
}

// build builds the plugin for a platform and returns its bytes.
func (r release) build(ctx context.Context, p platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "postback-plugin-")
	if err != nil {
		return nil, fmt.Errorf("build the plugin: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, p.program())
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+r.version, "-o", path, "./cmd/kubectl-postback")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch)
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the plugin for %s/%s: %w:\n%s", p.os, p.arch, err, output)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("build the plugin: %w", err)
	}
	return program, nil
}

// program returns the file name of the plugin on a platform.
func (p platform) program() string {
	if p.os == "windows" {
		return "kubectl-postback.exe"
	}
	return "kubectl-postback"
}

// archive returns the file name of a platform's archive.
func (p platform) archive() string {
	extension := ".tar.gz"
	if p.os == "windows" {
		extension = ".zip"
	}
	return strings.Join([]string{"kubectl-postback", p.os, p.arch}, "_") + extension
}
