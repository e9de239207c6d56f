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

package filter

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// Input is an event as filters see it. All filters share one decoding of its data, when the first needs it. It is
// safe for concurrent use.
type Input struct {
	event   *event.Event
	once    sync.Once
	decoded cel.Activation
	err     error
}

// NewInput returns the input for an event, which must not change afterwards.
func NewInput(e *event.Event) *Input {
	return &Input{event: e}
}

func (in *Input) variables() (cel.Activation, error) {
	in.once.Do(func() {
		data, err := decode(in.event.Data)
		if err != nil {
			in.err = err
			return
		}
		in.decoded, in.err = cel.NewActivation(map[string]any{eventVariable: newObject(map[string]any{
			"id":        types.String(in.event.ID),
			"event":     types.String(in.event.Type),
			"createdAt": types.String(in.event.CreatedAt.UTC().Format(event.TimeFormat)),
			"data":      data,
		})})
	})
	return in.decoded, in.err
}

// errData replaces every error about the data, because such an error may quote it. An accepted event causes none.
var errData = errors.New("the event's data is not a JSON object")

func decode(data []byte) (ref.Val, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(data))
	if d.PeekKind() != jsontext.KindBeginObject {
		return nil, errData
	}
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, errData
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errData
	}
	return value, nil
}

func decodeValue(d *jsontext.Decoder, depth int) (ref.Val, error) {
	if depth > event.MaxDepth {
		return nil, errData
	}
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindNull:
		return types.NullValue, nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return types.Bool(token.Bool()), nil
	case jsontext.KindString:
		return types.String(token.String()), nil
	case jsontext.KindNumber:
		return number(token.String())
	case jsontext.KindBeginArray:
		return decodeArray(d, depth)
	case jsontext.KindBeginObject:
		return decodeObject(d, depth)
	default:
		return nil, errData
	}
}

// number returns an integer that fits into 64 bits exactly, and every other number as a double, as in JavaScript.
func number(text string) (ref.Val, error) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return types.Int(i), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, errData
	}
	return types.Double(f), nil
}

func decodeArray(d *jsontext.Decoder, depth int) (ref.Val, error) {
	var elements []ref.Val
	for d.PeekKind() != jsontext.KindEndArray {
		element, err := decodeValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	return types.NewRefValList(types.DefaultTypeAdapter, elements), nil
}

func decodeObject(d *jsontext.Decoder, depth int) (ref.Val, error) {
	members := map[string]any{}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		if members[key], err = decodeValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	return newObject(members), nil
}

// object is a map that iterates in the order of its keys. With a Go map's random order, a filter such as
// event.data.map(k, k)[0] == "a" would match only sometimes.
type object struct {
	traits.Mapper
	keys traits.Iterable
}

func newObject(members map[string]any) ref.Val {
	keys := slices.Sorted(maps.Keys(members))
	return object{types.NewStringInterfaceMap(types.DefaultTypeAdapter, members), types.NewStringList(types.DefaultTypeAdapter, keys)}
}

// Iterator iterates over the keys in order.
func (o object) Iterator() traits.Iterator { return o.keys.Iterator() }
