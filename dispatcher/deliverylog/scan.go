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

package deliverylog

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

const (
	// windowMessages and windowBytes bound the messages of one window.
	windowMessages = 256
	windowBytes    = 4 << 20
	// firstWindow is the number of sequences in the first window, growth the factor between the widths of two
	// windows.
	firstWindow = 128
	growth      = 4
	// sparse is the window width from which ask estimates the number of messages first: for each window, the server
	// walks through all newer messages.
	sparse = 8192
)

// scan reads the messages of a subject from the newest to the oldest, within the bounds of a page.
type scan struct {
	js             jetstream.JetStream
	stream, filter string
	// most and mostBytes bound the messages that it reads.
	most, mostBytes int
	// first is the first sequence of the stream, or of the subject once ask has found it.
	first uint64
	until time.Time
	// ended is true once the caller wants nothing older, asked once ask was called.
	ended, asked bool

	seen, bytes int
}

// backwards passes the messages before a sequence to show, newest first, until show returns false. It returns the
// sequence to continue before, or 0 if no message is left.
func (s *scan) backwards(ctx context.Context, before uint64, show func(*jetstream.RawStreamMsg) (more bool)) (uint64, error) {
	width := uint64(firstWindow)
	for before > s.first {
		if width >= sparse && !s.asked {
			few, err := s.ask(ctx, before)
			if err != nil {
				return 0, err
			}
			if few {
				width = before - s.first
			}
			continue
		}
		from := s.first
		if before-s.first > width {
			from = before - width
		}
		messages, whole, err := s.window(ctx, from, before)
		if err != nil {
			return 0, err
		}
		if !whole && before-from > 1 {
			// The window holds more than one read returns, and the newest messages are missing: try a narrower one.
			width = max((before-from)/growth, 1)
			continue
		}
		for i := len(messages) - 1; i >= 0; i-- {
			if !show(messages[i]) {
				return messages[i].Sequence, nil
			}
		}
		before = from
		if s.exhausted() {
			break
		}
		if len(messages) < windowMessages/growth {
			width *= growth
		}
	}
	if before <= s.first {
		return 0, nil
	}
	return before, nil
}

// ask raises first to the oldest message of the subject, and reports whether one window can hold all messages before
// a sequence. Above about a thousand messages the server answers 413, and ask returns false.
func (s *scan) ask(ctx context.Context, before uint64) (few bool, err error) {
	s.asked = true
	oldest, err := jetstreamext.GetLastMsgsFor(ctx, s.js, s.stream, []string{s.filter},
		jetstreamext.GetLastMsgsUpToSeq(before-1), jetstreamext.GetLastMsgsBatchSize(1))
	if err != nil {
		return false, unavailable(err)
	}
	for m, err := range oldest {
		switch {
		case errors.Is(err, jetstreamext.ErrNoMessages):
			s.first = before
			return true, nil
		case errors.Is(err, jetstreamext.ErrBatchUnsupported): // The client's error for "413 Too Many Results".
			return false, nil
		case err != nil:
			return false, unavailable(err)
		}
		s.first = m.Sequence
		others, err := strconv.Atoi(m.Header.Get(message.PendingHeader))
		return err == nil && others < windowMessages, nil
	}
	return false, nil
}

func (s *scan) exhausted() bool {
	return s.seen >= s.most || s.bytes >= s.mostBytes || time.Now().After(s.until)
}

// window returns the messages with sequences in [from, before), oldest first. whole is false if one read does not
// hold all of them.
func (s *scan) window(ctx context.Context, from, before uint64) (messages []*jetstream.RawStreamMsg, whole bool, err error) {
	// A request for one more message than fits shows whether the end was reached.
	most := int(min(before-from, windowMessages)) + 1
	batch, err := jetstreamext.GetBatch(ctx, s.js, s.stream, most,
		jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchSubject(s.filter), jetstreamext.GetBatchMaxBytes(windowBytes))
	if err != nil {
		return nil, false, unavailable(err)
	}
	for m, err := range batch {
		switch {
		case errors.Is(err, jetstreamext.ErrNoMessages):
			return messages, true, nil
		case err != nil:
			return nil, false, unavailable(err)
		case m.Sequence >= before:
			return messages, true, nil
		}
		s.seen++
		s.bytes += len(m.Data)
		messages = append(messages, m)
		if pending, err := strconv.Atoi(m.Header.Get(message.PendingHeader)); err == nil && pending == 0 {
			return messages, true, nil
		}
	}
	return messages, false, nil
}
