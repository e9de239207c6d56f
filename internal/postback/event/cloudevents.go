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

package event

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// noData is the data of an event whose CloudEvent has none.
const noData = `{}`

// This package reads CloudEvents without their SDK. The SDK's JSON reader accepts invalid JSON and repeated names,
// gives no position of a mistake, and does not decode encoded HTTP headers. The tests compare the two.

// DecodeCloudEvents reads CloudEvents 1.0 in their JSON format: one event in structured mode or, with batch, an array
// of 1 to MaxEvents events. It derives each event's id from the CloudEvent's source and id. Data is a copy of the
// posted bytes, or {} if absent. The default of time is now, to the millisecond. One invalid event fails the whole
// request; the error is an *InvalidError.
func DecodeCloudEvents(body []byte, batch bool, now time.Time) ([]Posted, error) {
	d := newDecoder(body, now)
	want, form := jsontext.KindBeginObject, "must be a CloudEvent, which is an object: an array is application/cloudevents-batch+json"
	if batch {
		want, form = jsontext.KindBeginArray, "must be an array of CloudEvents: a single one is application/cloudevents+json"
	}
	if kind := d.json.PeekKind(); kind != want {
		if _, err := d.json.ReadToken(); err != nil {
			return nil, d.syntaxError(err)
		}
		return nil, invalid("", "%s", form)
	}
	if batch {
		events, err := d.array(d.cloudEvent)
		return d.finish(events, err)
	}
	e, err := d.cloudEvent(0)
	return d.finish([]Posted{e}, err)
}

// DecodeBinaryCloudEvent reads a CloudEvent 1.0 in binary mode. attributes has lower-case names; data may be empty.
// The result is like that of DecodeCloudEvents.
func DecodeBinaryCloudEvent(attributes map[string]string, data []byte, now time.Time) ([]Posted, error) {
	d := newDecoder(data, now)
	d.maxDepth-- // There is no object around the data.
	var c cloudEvent
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if problem := c.setHeader(name, attributes[name]); problem != "" {
			return nil, invalid("", "%s %s", headerOf(name), problem)
		}
	}
	if name, remedy := c.missing(); name != "" {
		return nil, invalid("", "%s %s", headerOf(name), remedy)
	}
	if len(data) == 0 {
		return []Posted{c.posted(d.now)}, nil
	}
	var err error
	if c.Data, err = d.object(); err != nil {
		return nil, err
	}
	return d.finish([]Posted{c.posted(d.now)}, nil)
}

// headerOf describes the HTTP header of an attribute in binary mode, for a message.
func headerOf(attribute string) string {
	if attribute == "datacontenttype" {
		return "the header Content-Type"
	}
	if len(attribute) > maxPointer {
		attribute = strings.ToValidUTF8(attribute[:maxPointer], "") + "…"
	}
	return "the header ce-" + attribute
}

func (c *cloudEvent) setHeader(name, value string) (problem string) {
	if slices.Contains(contextAttributes, name) {
		return c.set(name, value)
	}
	return c.extendText(name, value)
}

// posted returns the event after all attributes have been read.
func (c *cloudEvent) posted(now time.Time) Posted {
	if c.Data == nil {
		c.Data = json.RawMessage(noData)
	}
	if !c.CreatedAtGiven {
		c.CreatedAt = now
	}
	slices.SortFunc(c.more.Extensions, func(a, b Extension) int { return strings.Compare(a.Name, b.Name) })
	c.ID = DerivedID("cloudevents", c.more.Source, c.more.ID)
	c.CloudEvent = &c.more
	return c.Posted
}

// cloudEvent reads a CloudEvent in its JSON format.
func (d *decoder) cloudEvent(int) (Posted, error) {
	c := &cloudEvent{}
	pointer, err := d.members(func(name string) error { return d.attribute(c, name) })
	if err != nil {
		return Posted{}, err
	}
	if name, remedy := c.missing(); name != "" {
		return Posted{}, invalid(pointer+"/"+name, "%s", remedy)
	}
	return c.posted(d.now), nil
}

// attribute reads the value of a member of a CloudEvent. null counts as absent.
func (d *decoder) attribute(c *cloudEvent, name string) error {
	pointer := string(d.json.StackPointer())
	if d.json.PeekKind() == jsontext.KindNull {
		if _, err := d.json.ReadToken(); err != nil {
			return d.syntaxError(err)
		}
		return nil
	}
	var err error
	problem := ""
	switch {
	case name == "data":
		c.Data, err = d.object()
	case name == "data_base64":
		problem = `is binary data, which endpoints could not read: send a JSON object as "data"`
	case slices.Contains(contextAttributes, name):
		var value string
		if value, err = d.text(func(string) bool { return true }, "must be a string"); err == nil {
			problem = c.set(name, value)
		}
	default:
		problem, err = d.extension(c, name)
	}
	if err == nil && problem != "" {
		err = invalid(pointer, "%s", problem)
	}
	return err
}

// extension reads the value of an extension attribute: a string, a boolean or a 32-bit integer.
func (d *decoder) extension(c *cloudEvent, name string) (problem string, err error) {
	const form = "must be a string, a boolean or an integer of 32 bits, as every extension attribute: put your own fields into the data"
	value, err := d.json.ReadToken()
	if err != nil {
		return "", d.syntaxError(err)
	}
	switch value.Kind() {
	case jsontext.KindString:
		return c.extendText(name, value.String()), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return c.extend(name, value.String()), nil
	case jsontext.KindNumber:
		var number int32
		if json.Unmarshal([]byte(value.String()), &number) != nil {
			return form, nil
		}
		return c.extend(name, value.String()), nil
	default:
		return form, nil
	}
}
