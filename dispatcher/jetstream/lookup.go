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

package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// lookTimeout bounds one read of a stream.
const lookTimeout = 2 * time.Second

// find returns the stored delivery of a name from the streams or the API server, or nil.
func (i *Intake) find(ctx context.Context, d *v1alpha1.PostbackDelivery) (*v1alpha1.PostbackDelivery, error) {
	if existing, err := i.Connection.stored(ctx, d); err != nil || existing != nil {
		return existing, err
	}
	existing := &v1alpha1.PostbackDelivery{}
	err := i.Kubernetes.API.Get(ctx, client.ObjectKeyFromObject(d), existing)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read PostbackDelivery %s/%s: %w", d.Namespace, d.Name, err)
	}
	return existing, nil
}

// stored returns a delivery from the deliveries stream or the delivery log, or nil. A delivery enters the log before
// it leaves the deliveries stream, so in this order none is missed.
func (c *Connection) stored(ctx context.Context, d *v1alpha1.PostbackDelivery) (*v1alpha1.PostbackDelivery, error) {
	if existing, err := c.inDeliveries(ctx, d); err != nil || existing != nil {
		return existing, err
	}
	return c.logged(ctx, d)
}

// inDeliveries returns a delivery from the deliveries stream, or nil.
func (c *Connection) inDeliveries(ctx context.Context, d *v1alpha1.PostbackDelivery) (*v1alpha1.PostbackDelivery, error) {
	return c.last(ctx, c.names.DeliveriesStream(), c.names.DeliverySubject(d.Namespace, d.Spec.PostbackRef.UID, d.Name), c.names.ParseDelivery)
}

// logged returns a delivery from the delivery log, or nil.
func (c *Connection) logged(ctx context.Context, d *v1alpha1.PostbackDelivery) (*v1alpha1.PostbackDelivery, error) {
	return c.last(ctx, c.names.LogStream(), c.names.LogSubject(d.Namespace, d.Spec.PostbackRef.UID, d.Name), c.names.ParseLog)
}

// last returns the delivery in the last message of a subject, or nil.
func (c *Connection) last(ctx context.Context, stream, subject string,
	parse func(subject string, header nats.Header, data []byte) (*v1alpha1.PostbackDelivery, error),
) (*v1alpha1.PostbackDelivery, error) {
	m, err := c.ask(ctx, stream, whichMessage{LastOf: subject})
	if err != nil || m == nil {
		return nil, err
	}
	existing, err := parse(m.Subject, m.Header, m.Data)
	if err != nil {
		return nil, fmt.Errorf("read message %s of stream %s: %w", subject, stream, err)
	}
	return existing, nil
}

// whichMessage selects a message: the last one of the subject LastOf, or the first one of NextOf from the sequence
// From on.
type whichMessage struct {
	LastOf string `json:"last_by_subj,omitempty"`
	From   uint64 `json:"seq,omitempty"`
	NextOf string `json:"next_by_subj,omitempty"`
}

// ask returns a message from the leader of a stream, or nil. Another server may lag, and nats.go asks any server if
// the stream allows direct reads.
func (c *Connection) ask(ctx context.Context, stream string, which whichMessage) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	request, err := json.Marshal(which)
	if err != nil {
		return nil, fmt.Errorf("ask stream %s for %s: %w", stream, request, err)
	}
	answer, err := c.nats.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, fmt.Errorf("ask stream %s for %s: %w", stream, request, err)
	}
	m, err := content(answer.Data)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask stream %s for %s: %w", stream, request, err)
	}
	return m, nil
}

// content decodes the message in a response of the JetStream API.
func content(answer []byte) (*jetstream.RawStreamMsg, error) {
	var a struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, err
	}
	if a.Error != nil && a.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return nil, jetstream.ErrMsgNotFound
	}
	if a.Error != nil {
		return nil, a.Error
	}
	m := &a.Message
	raw := &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Data: m.Data, Time: m.Time}
	if len(m.Header) == 0 {
		return raw, nil // Somebody else published it.
	}
	var err error
	raw.Header, err = nats.DecodeHeadersMsg(m.Header)
	return raw, err
}
