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
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxEvents bounds the number of events in one request.
	MaxEvents = 100
	// MaxDepth bounds the nesting of objects and arrays in an event; the event itself counts as one.
	MaxDepth = 64
)

// Posted is an event as a producer posted it.
type Posted struct {
	Event
	// CreatedAtGiven says that the producer set createdAt. Otherwise it is the time of the request.
	CreatedAtGiven bool
}

// Decode reads the body of a request: one event object, or an array of 1 to MaxEvents events. The default of an id is
// newID of the event's index; the default of createdAt is now, to the millisecond. Data is a copy of the posted
// bytes. One invalid event fails the whole request; the error is an *InvalidError.
func Decode(body []byte, now time.Time, newID func(index int) string) ([]Posted, error) {
	d := newDecoder(body, now)
	d.newID = newID
	var events []Posted
	var err error
	switch d.json.PeekKind() {
	case jsontext.KindBeginObject:
		events = make([]Posted, 1)
		events[0], err = d.event(0)
	case jsontext.KindBeginArray:
		events, err = d.array(d.event)
	default:
		if _, err := d.json.ReadToken(); err != nil {
			return nil, d.syntaxError(err)
		}
		return nil, invalid("", "must be an event, which is an object, or an array of 1 to %d events", MaxEvents)
	}
	return d.finish(events, err)
}

// DecodeData reads the data of one event, an object, by the rules of Decode. The error is an *InvalidError.
func DecodeData(data []byte) (json.RawMessage, error) {
	d := newDecoder(data, time.Time{})
	// In an event, the data is nested one level deeper.
	d.maxDepth--
	if d.json.PeekKind() == 0 {
		_, err := d.json.ReadToken()
		return nil, d.syntaxError(err)
	}
	object, err := d.object()
	if err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return object, nil
}

type decoder struct {
	json  *jsontext.Decoder
	body  []byte
	now   time.Time
	newID func(index int) string
	// maxDepth bounds the nesting, counted from the whole document.
	maxDepth int
}

func newDecoder(body []byte, now time.Time) *decoder {
	return &decoder{
		// The decoder reads a bytes.Buffer in place, without writing to it, so that its offsets are positions in
		// body.
		json:     jsontext.NewDecoder(bytes.NewBuffer(body)),
		body:     body,
		now:      now.UTC().Truncate(time.Millisecond),
		maxDepth: MaxDepth,
	}
}

// finish checks that nothing follows the events, and that no id stands for two different events.
func (d *decoder) finish(events []Posted, err error) ([]Posted, error) {
	if err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	if err := checkIDs(events); err != nil {
		return nil, err
	}
	return events, nil
}

// array reads an array of 1 to MaxEvents events, each by a call of one.
func (d *decoder) array(one func(index int) (Posted, error)) ([]Posted, error) {
	d.maxDepth++
	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.syntaxError(err)
	}
	var events []Posted
	for d.json.PeekKind() != jsontext.KindEndArray {
		index := len(events)
		if index == MaxEvents {
			return nil, invalid(fmt.Sprintf("/%d", index), "more than %d events: send them in several requests", MaxEvents)
		}
		e, err := one(index)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.syntaxError(err)
	}
	if len(events) == 0 {
		return nil, invalid("", "the array is empty: send 1 to %d events", MaxEvents)
	}
	return events, nil
}

// end checks that nothing follows the JSON document.
func (d *decoder) end() error {
	_, err := d.json.ReadToken()
	switch {
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err != nil:
		return d.syntaxError(err)
	}
	return invalid("", "something follows the JSON document: send one event, or several in an array")
}

func (d *decoder) event(index int) (Posted, error) {
	var e Posted
	pointer, err := d.members(func(name string) error { return d.field(&e, name) })
	switch {
	case err != nil:
		return e, err
	case e.Type == "":
		return e, invalid(pointer+"/event", "is missing: name the type of the event, such as lead.created")
	case e.Data == nil:
		return e, invalid(pointer+"/data", "is missing: send an object, {} if there is no data")
	}
	if e.ID == "" {
		e.ID = d.newID(index)
	}
	if !e.CreatedAtGiven {
		e.CreatedAt = d.now
	}
	return e, nil
}

// members reads an event object, each member by a call of one. It returns the JSON pointer of the object. The decoder
// refuses repeated members.
func (d *decoder) members(one func(name string) error) (pointer string, err error) {
	if kind := d.json.PeekKind(); kind != jsontext.KindBeginObject {
		if _, err := d.json.ReadToken(); err != nil {
			return "", d.syntaxError(err)
		}
		return "", invalid(string(d.json.StackPointer()), "must be an event, which is an object")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return "", d.syntaxError(err)
	}
	pointer = string(d.json.StackPointer())
	for d.json.PeekKind() != jsontext.KindEndObject {
		name, err := d.json.ReadToken()
		if err != nil {
			return "", d.syntaxError(err)
		}
		if err := one(name.String()); err != nil {
			return "", err
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return "", d.syntaxError(err)
	}
	return pointer, nil
}

// field reads the value of a member of an event.
func (d *decoder) field(e *Posted, name string) error {
	var err error
	switch name {
	case "id":
		e.ID, err = d.text(ValidID, "must be a string of 1 to 128 letters, digits and _ : / + = @ ~ -; or omit it to have one made")
	case "event":
		e.Type, err = d.text(ValidType, "must be an event type such as lead.created: a string of at most 63 letters, digits, _ and -, in segments joined by full stops")
	case "createdAt":
		e.CreatedAtGiven = true
		e.CreatedAt, err = d.time()
	case "data":
		e.Data, err = d.object()
	default:
		err = invalid(string(d.json.StackPointer()), `is not a field of an event (id, event, createdAt, data): put your own fields under "data"`)
	}
	return err
}

// text reads a string that satisfies valid.
func (d *decoder) text(valid func(string) bool, detail string) (string, error) {
	pointer := string(d.json.StackPointer())
	kind := d.json.PeekKind()
	token, err := d.json.ReadToken()
	if err != nil {
		return "", d.syntaxError(err)
	}
	if kind != jsontext.KindString || !valid(token.String()) {
		return "", invalid(pointer, "%s", detail)
	}
	return token.String(), nil
}

const timeDetail = "must be a time of the years 1970 to 9999 in RFC 3339, such as 2026-01-31T12:00:00.000Z; or omit it for the present time"

// timePattern is RFC 3339. Package time also accepts a comma, a one-digit hour and an offset of 24 hours.
var timePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func (d *decoder) time() (time.Time, error) {
	var at time.Time
	_, err := d.text(func(s string) bool {
		var ok bool
		at, ok = parseTime(s)
		return ok
	}, timeDetail)
	return at, err
}

// parseTime reads a time in RFC 3339, of the years 1970 to 9999, and truncates it to milliseconds.
func parseTime(s string) (at time.Time, ok bool) {
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil || !timePattern.MatchString(s) {
		return at, false
	}
	at = parsed.UTC().Truncate(time.Millisecond)
	return at, at.Year() >= 1970 && at.Year() <= 9999
}

// object reads an object and returns a copy of its bytes.
func (d *decoder) object() (json.RawMessage, error) {
	pointer := string(d.json.StackPointer())
	kind := d.json.PeekKind()
	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.syntaxError(err)
	}
	if kind != jsontext.KindBeginObject {
		return nil, invalid(pointer, "must be an object: put the value into one")
	}
	start := d.json.InputOffset() - 1
	for depth := d.json.StackDepth(); d.json.StackDepth() >= depth; {
		token, err := d.json.ReadToken()
		if err != nil {
			return nil, d.syntaxError(err)
		}
		if d.json.StackDepth() > d.maxDepth {
			return nil, invalid(string(d.json.StackPointer()), "is nested more than %d deep: flatten it", MaxDepth)
		}
		if token.Kind() == jsontext.KindNumber && !inRange(token.String()) {
			return nil, invalid(string(d.json.StackPointer()), "is a number beyond the range of a 64-bit float, which receivers could not read: send it as a string")
		}
	}
	return bytes.Clone(d.body[start:d.json.InputOffset()]), nil
}

// inRange reports whether a JSON number is finite as a float64. Its precision does not matter.
func inRange(number string) bool {
	_, err := strconv.ParseFloat(number, 64)
	return err == nil
}

// checkIDs refuses two events with the same id and different content. The same event twice is valid.
func checkIDs(events []Posted) error {
	first := make(map[string]int, len(events))
	for i := range events {
		j, ok := first[events[i].ID]
		if !ok {
			first[events[i].ID] = i
			continue
		}
		if !events[i].sameContent(&events[j]) {
			return invalid(fmt.Sprintf("/%d/id", i), "is also the id of /%d, whose content differs: give each event an id of its own", j)
		}
	}
	return nil
}

func (e *Posted) sameContent(other *Posted) bool {
	return e.Type == other.Type && bytes.Equal(e.Data, other.Data) &&
		e.CreatedAtGiven == other.CreatedAtGiven && e.CreatedAt.Equal(other.CreatedAt) &&
		reflect.DeepEqual(e.CloudEvent, other.CloudEvent)
}

// StoredAt returns the event with createdAt as its createdAt, unless the producer set one. A repeated event then
// equals the stored one.
func (e *Posted) StoredAt(createdAt time.Time) *Event {
	stored := e.Event
	if !e.CreatedAtGiven {
		stored.CreatedAt = createdAt
	}
	return &stored
}
