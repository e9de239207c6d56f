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

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Snapshot copies the data of etcd to a folder that must not exist. etcd is stopped meanwhile.
func (c *ControlPlane) Snapshot(dir string) error {
	if err := c.StopEtcd(); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(c.path("data"))); err != nil {
		return errors.Join(fmt.Errorf("copy the data of etcd: %w", err), c.StartEtcd())
	}
	return c.StartEtcd()
}

// Restore restores etcd from a snapshot, as the documentation of Kubernetes demands: it stops the API server,
// restores etcd, and starts the API server. It restarts the controller manager, too, because that has caches.
func (c *ControlPlane) Restore(snapshot string) error {
	ctx := context.Background()
	if err := errors.Join(c.controllerManager.stop(), c.apiServer.stop(), c.StopEtcd()); err != nil {
		return err
	}
	data := c.path("data")
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("remove the data of etcd: %w", err)
	}
	if err := os.CopyFS(data, os.DirFS(snapshot)); err != nil {
		return fmt.Errorf("copy the snapshot of etcd: %w", err)
	}
	if err := c.etcd.start(ctx); err != nil {
		return err
	}
	return c.StartAPIServer()
}
