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
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Store writes a value to etcd, as an API server of another cluster or an earlier time may have. The API server sees
// it at once. So a test can create an object with a given UID, generation and status.
func (c *ControlPlane) Store(ctx context.Context, key string, value []byte) error {
	// encoding/json encodes bytes in base64, as the gateway of etcd expects.
	body, err := json.Marshal(map[string][]byte{"key": []byte(key), "value": value})
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://etcd/v3/kv/put", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	etcd := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.path("etcd"))
		},
	}}
	response, err := etcd.Do(request)
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("store %s: etcd answers %s: %s", key, response.Status, answer), err)
	}
	return nil
}
