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

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// form is the layout of a store, for a single server or a cluster. A server of one form deletes a store of the other.
type form string

const (
	solo    form = "solo"
	cluster form = "cluster"
)

func (o *Options) form() form {
	if len(o.Cluster.Peers) > 0 {
		return cluster
	}
	return solo
}

// openStore returns the directory of a form and locks it against other processes until unlock.
func openStore(dir string, wanted form) (path string, unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("make the directory of --nats-store-dir: %w", err)
	}
	if err := refuseOther(dir, wanted); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("open the lock of --nats-store-dir: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return "", nil, fmt.Errorf("another process uses --nats-store-dir=%s: give each replica a directory of its own (%w)", dir, err)
	}
	path = filepath.Join(dir, string(wanted))
	if err := os.MkdirAll(path, 0o700); err != nil {
		_ = lock.Close()
		return "", nil, fmt.Errorf("make the store: %w", err)
	}
	return path, func() { _ = lock.Close() }, nil
}

// refuseOther returns an error if the store has the other form.
func refuseOther(dir string, wanted form) error {
	other, have, remedy := solo, "one server alone", "Start without --nats-cluster-peers, or give each of the three servers an empty directory"
	if wanted == solo {
		other, have, remedy = cluster, "one server of three", "Set --nats-cluster-peers, or use an empty directory"
	}
	switch _, err := os.Stat(filepath.Join(dir, string(other))); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look into --nats-store-dir: %w", err)
	}
	return fmt.Errorf("--nats-store-dir=%s holds the messages of %s, which a server of the other form would delete. %s", dir, have, remedy)
}

// storeLimit returns the bound of the store in bytes: nine tenths of its files and the free space together. The rest
// is needed because NATS writes a new file before it removes the old one, and a full volume stops it.
func storeLimit(dir string) (int64, error) {
	var volume syscall.Statfs_t
	if err := syscall.Statfs(dir, &volume); err != nil {
		return 0, fmt.Errorf("ask for the free space of --nats-store-dir: %w", err)
	}
	stored := int64(0)
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stored += info.Size()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure the store: %w", err)
	}
	return (stored + int64(volume.Bavail)*int64(volume.Bsize)) / 10 * 9, nil //nolint:unconvert // Other systems have another type.
}
