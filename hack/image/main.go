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

// Command image writes a container image as an OCI archive, without a Docker daemon or a base image. The image has
// one static program for one or more platforms, and the certificate authorities that it trusts.
//
// It uses go-containerregistry for the formats. ko would need a base image from a registry and build the programs
// itself, but here archives, images and tests share one build.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	var s spec
	var out string
	flag.StringVar(&s.name, "name", "", "Name and tag, such as registry.example.com/postback-manager:v1.")
	flag.StringVar(&s.version, "version", "", "Version for the image's labels.")
	flag.StringVar(&out, "o", "", "File to write.")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: image -name NAME:TAG -o FILE PLATFORM=PROGRAM..., such as linux/amd64=bin/manager")
		flag.PrintDefaults()
	}
	flag.Parse()
	if s.name == "" || out == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(s, out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(s spec, out string, platforms []string) error {
	created, err := created()
	if err != nil {
		return err
	}
	s.created = created
	index, err := s.build(platforms)
	if err != nil {
		return fmt.Errorf("build the image %s: %w", s.name, err)
	}
	if err := writeArchive(out, s.name, index); err != nil {
		return fmt.Errorf("write the image %s: %w", s.name, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("digest of the image %s: %w", s.name, err)
	}
	_, err = fmt.Fprintf(os.Stdout, "%s  %s@%s\n", out, s.name, digest)
	return err
}

// created returns the creation time of the image. It is not the present time, so that the same input gives the same
// bytes: see https://reproducible-builds.org/specs/source-date-epoch/.
func created() (time.Time, error) {
	const variable = "SOURCE_DATE_EPOCH"
	text := os.Getenv(variable)
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a number of seconds: %w", variable, err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
