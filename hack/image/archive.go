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
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// readable is the mode of files that everybody may read.
const readable = 0o644

// file is a file or folder of a layer or archive.
type file struct {
	name    string
	mode    int64
	content []byte
}

// newLayer returns a layer of files and their parent folders.
func newLayer(files ...file) (v1.Layer, error) {
	var content bytes.Buffer
	if err := writeTar(&content, withFolders(files)); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("make a layer: %w", err)
	}
	return layer, nil
}

// withFolders inserts each parent folder before its first file. The name of a folder ends with a slash.
func withFolders(files []file) []file {
	seen := map[string]bool{}
	var all []file
	for _, f := range files {
		parts := strings.Split(f.name, "/")
		for i := 1; i < len(parts); i++ {
			folder := strings.Join(parts[:i], "/") + "/"
			if !seen[folder] {
				seen[folder] = true
				all = append(all, file{name: folder, mode: 0o755})
			}
		}
		all = append(all, f)
	}
	return all
}

// writeTar writes files in their order, reproducibly: with a fixed time and root as the owner.
func writeTar(w io.Writer, files []file) error {
	archive := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{
			Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("archive %s: %w", f.name, err)
		}
		if _, err := archive.Write(f.content); err != nil {
			return fmt.Errorf("archive %s: %w", f.name, err)
		}
	}
	return archive.Close()
}

// certificates returns the certificate authorities of Mozilla's list in PEM. It omits those with constraints, which
// PEM cannot express.
func certificates() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			all.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return all.Bytes()
}

// writeArchive writes an OCI layout as a tar file. Its annotations name the image for containerd and Docker.
func writeArchive(out, name string, index v1.ImageIndex) (err error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return err
	}
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return errors.New("the name has no tag")
	}
	folder, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	written, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	// A runtime knows an image by its complete name, as this parser completes it.
	annotations := map[string]string{
		"io.containerd.image.name":          named.String(),
		"org.opencontainers.image.ref.name": tagged.Tag(),
	}
	if err := written.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
		return err
	}
	files, err := read(folder)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := writeTar(&archive, withFolders(files)); err != nil {
		return err
	}
	return os.WriteFile(out, archive.Bytes(), readable)
}

// read returns all files below a folder, sorted by name.
func read(folder string) ([]file, error) {
	var files []file
	tree := os.DirFS(folder)
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		files = append(files, file{path, readable, content})
		return nil
	})
	return files, err
}
