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
	"encoding/json"
	"strconv"
	"strings"

	"golang.org/x/text/currency"

	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// summary is the part of an event that messages show.
type summary struct {
	title  string
	fields []field
}

type field struct{ label, value string }

// known are the shown fields of lead.created, sale.created and commission.created. A missing field, or one of another
// type, is "".
type known struct {
	EventName   scalar `json:"eventName"`
	Type        scalar `json:"type"`
	Amount      scalar `json:"amount"`
	Earnings    scalar `json:"earnings"`
	Currency    scalar `json:"currency"`
	Status      scalar `json:"status"`
	Description scalar `json:"description"`
	Customer    struct {
		ID      scalar `json:"id"`
		Country scalar `json:"country"`
	} `json:"customer"`
	Link struct {
		ShortLink scalar `json:"shortLink"`
	} `json:"link"`
	Sale struct {
		Amount   scalar `json:"amount"`
		Currency scalar `json:"currency"`
	} `json:"sale"`
}

func summarize(e *event.Event) summary {
	var k known
	// Fields of an unexpected type are skipped; the others are read.
	_ = json.Unmarshal(e.Data, &k)
	s := summary{title: e.Type}
	switch e.Type {
	case "lead.created":
		s.fields = shown(k.customer(), k.country(), k.link())
		s.title = titled("New lead", k.EventName)
	case "sale.created":
		s.fields = shown(field{"Amount", money(k.Sale.Amount, k.Sale.Currency)}, k.customer(), k.country(), k.link())
		s.title = titled("New sale", k.EventName)
	case "commission.created":
		s.fields = shown(
			field{"Earnings", money(k.Earnings, k.Currency)}, field{"Amount", money(k.Amount, k.Currency)},
			field{"Status", string(k.Status)}, field{"Description", string(k.Description)}, k.customer(), k.country(), k.link())
		s.title = titled("New commission", k.Type)
	}
	return s
}

func (k *known) customer() field { return field{"Customer", string(k.Customer.ID)} }
func (k *known) country() field  { return field{"Country", string(k.Customer.Country)} }
func (k *known) link() field     { return field{"Link", string(k.Link.ShortLink)} }

func titled(title string, name scalar) string {
	if name == "" {
		return title
	}
	return title + ": " + string(name)
}

// shown returns the fields that have a value.
func shown(fields ...field) []field {
	var with []field
	for _, f := range fields {
		if f.value != "" {
			with = append(with, f)
		}
	}
	return with
}

// money formats an amount in the smallest unit of a currency: 4900 and usd give USD 49.00. It leaves a value that is
// not an integer, or has an unknown currency, as it is.
func money(amount, code scalar) string {
	if amount == "" {
		return ""
	}
	plain := strings.TrimSpace(string(amount) + " " + string(code))
	n, err := strconv.ParseInt(string(amount), 10, 64)
	if err != nil {
		return plain
	}
	unit, err := currency.ParseISO(string(code))
	if err != nil {
		return plain
	}
	digits, _ := currency.Standard.Rounding(unit)
	text := strings.TrimPrefix(strconv.FormatInt(n, 10), "-")
	if missing := digits + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	if digits > 0 {
		text = text[:len(text)-digits] + "." + text[len(text)-digits:]
	}
	if n < 0 {
		text = "-" + text
	}
	return unit.String() + " " + text
}

// scalar is a JSON string, number or boolean as text. Any other value, also null, is "".
type scalar string

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (s *scalar) UnmarshalJSON(text []byte) error {
	var value string
	switch {
	case len(text) == 0 || text[0] == '{' || text[0] == '[' || string(text) == "null":
		*s = ""
	case json.Unmarshal(text, &value) == nil:
		*s = scalar(value)
	default:
		*s = scalar(text)
	}
	return nil
}
