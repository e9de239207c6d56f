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
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// entry is a file in an archive.
type entry struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// pack writes the archive of a platform and returns its SHA-256.
func (r release) pack(p platform, program []byte) (string, error) {
	license, err := os.ReadFile("LICENSE")
	if err != nil {
		return "", fmt.Errorf("pack the plugin: %w", err)
	}
	entries := []entry{{p.program(), 0o755, program}, {"LICENSE", 0o644, license}}
	write := r.writeTar
	if strings.HasSuffix(p.archive(), ".zip") {
		write = r.writeZip
	}
	var archive bytes.Buffer
	if err := write(&archive, entries); err != nil {
		return "", fmt.Errorf("pack %s: %w", p.archive(), err)
	}
	if err := publish(filepath.Join(r.dir, p.archive()), archive.Bytes()); err != nil {
		return "", fmt.Errorf("pack the plugin: %w", err)
	}
	sum := sha256.Sum256(archive.Bytes())
	return hex.EncodeToString(sum[:]), nil
}

func (r release) writeTar(w io.Writer, entries []entry) error {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: int64(e.mode), Size: int64(len(e.content)), ModTime: r.time, Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(e.content); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

func (r release) writeZip(w io.Writer, entries []entry) error {
	archive := zip.NewWriter(w)
	for _, e := range entries {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: r.time}
		header.SetMode(e.mode)
		file, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := file.Write(e.content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// publish writes a file that everybody may read.
func publish(path string, content []byte) error {
	return os.WriteFile(path, content, 0o644) //nolint:gosec // A release has no secrets.
}

const checksumsFile = "checksums.txt"

// writeChecksums writes the SHA-256 of each file in the folder, in the format of sha256sum.
func writeChecksums(dir string) error {
	var lines strings.Builder
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(path string, file fs.DirEntry, err error) error {
		if err != nil || file.IsDir() || file.Name() == checksumsFile {
			return err
		}
		content, err := files.Open(path)
		if err != nil {
			return err
		}
		defer content.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, content); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(&lines, "%x  %s\n", sum.Sum(nil), path)
		return nil
	})
	if err == nil {
		err = publish(filepath.Join(dir, checksumsFile), []byte(lines.String()))
	}
	if err != nil {
		return fmt.Errorf("write the checksums: %w", err)
	}
	return nil
}
