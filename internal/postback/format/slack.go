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

package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// Limits of Slack, in characters, for the texts of a message: its fallback, a header, a section, a field of a
// section, and an element of a context. A section has at most 10 fields.
const (
	maxFallback = 3000
	maxHeader   = 150
	maxSection  = 3000
	maxField    = 2000
	maxElement  = 2000
	// maxLabelled bounds a shown value, in characters, to keep messages short.
	maxLabelled = 200
)

// slackMessage is the body of a request to a Slack incoming webhook, in Block Kit.
type slackMessage struct {
	// Text is shown in notifications, in place of the blocks.
	Text string `json:"text"`
	// Markdown is false, so that Slack reads no markup in Text. UnfurlLinks and UnfurlMedia are false, so that Slack
	// fetches no link of an event.
	Markdown    bool    `json:"mrkdwn"`
	UnfurlLinks bool    `json:"unfurl_links"`
	UnfurlMedia bool    `json:"unfurl_media"`
	Blocks      []block `json:"blocks"`
}

type block struct {
	Type     string   `json:"type"`
	Text     *plain   `json:"text,omitempty"`
	Fields   []*plain `json:"fields,omitempty"`
	Elements []*plain `json:"elements,omitempty"`
}

// plain is a text in which Slack reads no markup, mentions or links.
type plain struct {
	Type  string `json:"type"`
	Text  string `json:"text"`
	Emoji bool   `json:"emoji"`
}

func plainText(text string, limit int) *plain {
	return &plain{Type: "plain_text", Text: slackText(text, limit)}
}

// slack returns an event as a message for a Slack incoming webhook. For lead.created, sale.created and
// commission.created, the message shows the important fields of the data. For any other type, or without these
// fields, it shows the whole data.
func slack(e *event.Event) ([]byte, error) {
	summary := summarize(e)
	message := slackMessage{Text: slackText(summary.title, maxFallback)}
	message.Blocks = append(message.Blocks, block{Type: "header", Text: plainText(summary.title, maxHeader)})
	if len(summary.fields) == 0 {
		message.Blocks = append(message.Blocks, block{Type: "section", Text: plainText(string(e.Data), maxSection)})
	} else {
		fields := make([]*plain, len(summary.fields))
		for i, f := range summary.fields {
			fields[i] = plainText(f.label+"\n"+clip(f.value, maxLabelled), maxField)
		}
		message.Blocks = append(message.Blocks, block{Type: "section", Fields: fields})
	}
	origin := e.Type + " · " + e.ID + " · " + e.CreatedAt.UTC().Format(time.DateTime) + " UTC"
	message.Blocks = append(message.Blocks, block{Type: "context", Elements: []*plain{plainText(origin, maxElement)}})

	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(message); err != nil {
		return nil, fmt.Errorf("write a message for Slack: %w", err)
	}
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), nil
}
