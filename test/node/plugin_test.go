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

package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestPluginSendsThroughAPortForward posts an event with kubectl postback send, which reaches ingest through the API
// server and the kubelet.
func TestPluginSendsThroughAPortForward(t *testing.T) {
	const event = `{"id":"plugin-0","event":"sale.created","data":{"sale":{"amount":4900}}}`
	out := mustKubectl(t, event, "postback", "send", "-f", "-", "--namespace", partner, "--service-account", "orders")
	if !strings.Contains(out, "plugin-0") || !strings.Contains(out, "shop") {
		t.Errorf("kubectl postback send prints %q", out)
	}
	await(t, patience, func(ctx context.Context) error {
		got, err := received(ctx)
		if err == nil && got.Events["plugin-0"] == 0 {
			err = fmt.Errorf("plugin-0 is not among the %d events that have arrived", len(got.Events))
		}
		return err
	})
}
