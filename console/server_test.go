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

package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

func TestRequestsEnd(t *testing.T) {
	read := make(chan error, 1)
	server := httptest.NewServer(readWithin(50*time.Millisecond, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	})))
	t.Cleanup(server.Close)
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if _, err := io.WriteString(connection, "POST /new HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nname="); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-read:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a body that does not come ends with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a body that does not come holds the connection")
	}
}

func TestMissingEvent(t *testing.T) {
	for name, get := range map[string]func(object client.Object) error{
		"none": func(client.Object) error {
			return apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "postbackdeliveries"}, "x")
		},
		"that of another Postback": func(object client.Object) error {
			if d, ok := object.(*v1alpha1.PostbackDelivery); ok {
				d.Spec.PostbackRef.Name = "other"
			}
			return nil
		},
	} {
		c := &Console{feed: feed.New(nil, "acme", nil), deliveries: &deliveries.Reader{API: interceptor.NewClient(nil, interceptor.Funcs{
			Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
				return get(object)
			},
		})}}
		for file, handler := range map[string]http.HandlerFunc{"body": c.body, "curl": c.curl} {
			t.Run(file+" of "+name, func(t *testing.T) {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/p/acme/crm/d/x/"+file, nil)
				r.SetPathValue("namespace", "acme")
				r.SetPathValue("name", "crm")
				r.SetPathValue("delivery", "x")
				w := httptest.NewRecorder()
				if handler(w, r); w.Code != http.StatusNotFound {
					t.Errorf("%s of %s comes with %d", file, name, w.Code)
				}
			})
		}
	}
}
