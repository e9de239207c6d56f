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
	// windowMessages is how many messages of a window are read at most, and windowBytes how many bytes.
	windowMessages = 256
	windowBytes    = 4 << 20
	// firstWindow is how many numbers the first window spans, growth by how much the next one is wider or narrower.
	firstWindow = 128
	growth      = 4
	// sparse is the width of a window from which on it is asked how much there is at all: each window costs the server a walk
	// through all of the log that is newer.
	sparse = 8192
)

// scan reads the messages of a subject backwards, within the bounds of a page.
type scan struct {
	reader *Reader
	filter string
	// first is the number of the stream's first message.
	first uint64
	until time.Time
	// ended is set once nothing older is wanted, asked once ask was called.
	ended, asked bool

	seen, bytes int
}

// backwards shows the messages before a sequence, the newest first, until show wants no more. It returns the sequence before which
// to continue, or 0 if there are no more messages.
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
			// There is more than is read at a time, and the newest are missing.
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

// ask finds the oldest message of the subject, where the log begins then, and reports whether one window can hold all messages
// before a sequence. The server does not answer for more than a thousand.
func (s *scan) ask(ctx context.Context, before uint64) (few bool, err error) {
	s.asked = true
	oldest, err := jetstreamext.GetLastMsgsFor(ctx, s.reader.JetStream, s.reader.Names.LogStream(), []string{s.filter},
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
	return s.seen >= maxScanned || s.bytes >= maxScannedBytes || time.Now().After(s.until)
}

// window returns the messages from one number up to another, the oldest first. whole is false if there are more than are
// read at a time.
func (s *scan) window(ctx context.Context, from, before uint64) (messages []*jetstream.RawStreamMsg, whole bool, err error) {
	// One more than there can be shows that the end was reached.
	most := int(min(before-from, windowMessages)) + 1
	batch, err := jetstreamext.GetBatch(ctx, s.reader.JetStream, s.reader.Names.LogStream(), most,
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
