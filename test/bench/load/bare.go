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

package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

// BareHTTPOrders configure bareHTTP.
type BareHTTPOrders struct {
	URL string
	// Requests is the number of requests, Size the length of each body in bytes, Connections the number of concurrent
	// requests.
	Requests, Size, Connections int
}

// exampleKey is the signing key. No endpoint verifies the signature.
const exampleKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// bareHTTP only signs and posts: it is the lower bound for the cost of a delivery.
func bareHTTP(ctx context.Context, o BareHTTPOrders) (LoopReport, error) {
	post, err := poster(o)
	if err != nil {
		return LoopReport{}, err
	}
	body := []byte(padding(o.Size))
	return loop(ctx, o.Requests, o.Connections, func(ctx context.Context, i int) error { return post(ctx, i, body) })
}

// poster returns a function that signs and posts a body.
func poster(o BareHTTPOrders) (func(ctx context.Context, i int, body []byte) error, error) {
	signer, err := sign.New(sign.DefaultDubHeader)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.Connections}}
	schemes := []v1alpha1.SignatureScheme{v1alpha1.SignatureStandardWebhooks, v1alpha1.SignatureDub}
	return func(ctx context.Context, i int, body []byte) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL, bytes.NewReader(body))
		if err != nil {
			return err
		}
		signed := sign.Request{ID: EventID("bare", i), Time: time.Now(), Body: body}
		if err := signer.Sign(request.Header, schemes, []string{exampleKey}, signed); err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the receiver answers %s", response.Status)
		}
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}, nil
}

// BareAPIOrders configure bareAPI.
type BareAPIOrders struct {
	Kubeconfig, Namespace string
	Postback              v1alpha1.PostbackReference
	// Prefix begins the ids of the events. Deliveries is the number of objects, Size the length of each body in
	// bytes, Connections the number of concurrent requests.
	Prefix                        string
	Deliveries, Size, Connections int
	// Write is the way in which the status is written. Delete deletes each object at the end.
	Write  Write
	Delete bool
}

// Write is a way to write a status.
type Write string

// These are the ways to write a status.
const (
	WriteNone       Write = "none"
	WriteUpdate     Write = "update"
	WriteMergePatch Write = "merge patch"
	WriteJSONPatch  Write = "JSON patch"
	WriteApply      Write = "apply"
)

// bareAPI only creates deliveries and writes the status of each after one attempt: it is the lower bound for the cost
// of recording deliveries as objects. Its client is that of a usual controller.
func bareAPI(ctx context.Context, o BareAPIOrders) (LoopReport, error) {
	c, err := newClient(o.Kubeconfig)
	if err != nil {
		return LoopReport{}, err
	}
	data := fmt.Appendf(nil, `{"filler":%q}`, padding(o.Size))
	to := &route.Route{Generation: 1}
	return loop(ctx, o.Deliveries, o.Connections, func(ctx context.Context, i int) error {
		posted := &event.Event{ID: EventID(o.Prefix, i), Type: "bench.bare", CreatedAt: time.Now(), Data: data}
		d, err := delivery.New(o.Namespace, o.Postback, "", posted)
		if err != nil {
			return err
		}
		if err := c.Create(ctx, d, client.FieldOwner(v1alpha1.DispatcherFieldOwner)); err != nil {
			return err
		}
		delivery.Apply(d, to, v1alpha1.Attempt{
			Time: metav1.NewMicroTime(time.Now().UTC().Truncate(time.Microsecond)), PostbackGeneration: to.Generation,
			Outcome: v1alpha1.OutcomeSucceeded, StatusCode: ptr.To[int32](http.StatusOK), RemoteIP: "127.0.0.1",
			Duration: metav1.Duration{Duration: time.Millisecond},
		}, delivery.Request{})
		if err := o.Write.write(ctx, c, d); err != nil || !o.Delete {
			return err
		}
		return c.Delete(ctx, d, client.Preconditions{UID: &d.UID, ResourceVersion: &d.ResourceVersion})
	})
}

// write writes the status of a delivery.
func (w Write) write(ctx context.Context, c client.Client, d *v1alpha1.PostbackDelivery) error {
	owner := client.FieldOwner(v1alpha1.DispatcherFieldOwner)
	content := map[string]any{"status": d.Status}
	kind := types.MergePatchType
	switch w {
	case WriteNone:
		return nil
	case WriteUpdate, "":
		return c.Status().Update(ctx, d, owner)
	case WriteMergePatch:
		content["metadata"] = map[string]string{"resourceVersion": d.ResourceVersion}
	case WriteApply:
		kind = types.ApplyPatchType
		content["apiVersion"], content["kind"] = v1alpha1.GroupVersion.String(), "PostbackDelivery"
	case WriteJSONPatch:
		encoded, err := json.Marshal([]any{map[string]any{"op": "add", "path": "/status", "value": d.Status}})
		if err != nil {
			return err
		}
		return c.Status().Patch(ctx, d, client.RawPatch(types.JSONPatchType, encoded), owner)
	default:
		return fmt.Errorf("no way to write a status: %q", w)
	}
	encoded, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return c.Status().Patch(ctx, d, client.RawPatch(kind, encoded), owner)
}

func newClient(kubeconfig string) (client.Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1 // Only the API server should limit the rate.
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("make the scheme: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return c, nil
}

// loop calls do n times, atATime concurrently, and ends at the first error.
func loop(ctx context.Context, n, atATime int, do func(ctx context.Context, i int) error) (LoopReport, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]time.Duration, n)
	var next atomic.Int64
	var workers sync.WaitGroup
	began := time.Now()
	for range atATime {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				start := time.Now()
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
				took[i] = time.Since(start)
			}
		})
	}
	workers.Wait()
	return LoopReport{Done: n, Elapsed: time.Since(began), Took: took}, context.Cause(ctx)
}
