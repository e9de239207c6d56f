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

// Package verify checks a received request against a signing key, offline, and names the part that is wrong. It helps
// developers of receivers whose verification fails.
package verify

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

// Tolerance is the allowed difference between a request's timestamp and now, as Standard Webhooks recommends.
const Tolerance = 5 * time.Minute

// Request is a received request.
type Request struct {
	Header http.Header
	// Body is the raw body, byte for byte.
	Body []byte
}

// Result is the result of verifying a request by one scheme.
type Result struct {
	// Scheme is Dub or StandardWebhooks.
	Scheme string
	// Present says that the request has a signature of the scheme.
	Present bool
	// Valid says that the secret made the signature, and that the timestamp is within the tolerance.
	Valid bool
	// Reason is the fault and Remedy its remedy; both are empty if the signature is valid.
	Reason, Remedy string
}

const (
	dub      = "Dub"
	standard = "StandardWebhooks"
)

// Check verifies a request by both schemes. tolerance is the allowed difference between the timestamp and now; 0
// accepts any time. An error means that no scheme can use the secret.
func Check(r Request, secret string, now time.Time, tolerance time.Duration) ([]Result, error) {
	if strings.TrimSpace(secret) == "" {
		return nil, errors.New("the secret is empty")
	}
	return []Result{checkStandard(r, secret, now, tolerance), checkDub(r, secret)}, nil
}

// mistake is a common mistake with a key or body, and its remedy.
type mistake struct{ reason, remedy string }

// whiteSpace is a mistake that breaks both schemes.
var whiteSpace = mistake{"the secret has white space around it", "remove the white space, often a line break at the end of a file or variable"}

// key is a candidate for the HMAC key. mistake is nil for the right key, and otherwise the mistake that makes it fit.
type key struct {
	bytes   []byte
	mistake *mistake
}

// standardKeys returns the right key for Standard Webhooks, and those that result from common mistakes.
func standardKeys(secret string) []key {
	trimmed := strings.TrimSpace(secret)
	encoded, prefixed := strings.CutPrefix(trimmed, "whsec_")
	var keys []key
	if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
		k := key{bytes: decoded}
		switch {
		case trimmed != secret:
			k.mistake = &whiteSpace
		case !prefixed:
			k.mistake = &mistake{"the secret has lost its prefix whsec_", "pass the secret whole, with whsec_: it belongs to it, though some libraries do without it"}
		}
		keys = append(keys, k)
	}
	raw := &mistake{"the key is the text of the secret, not what its base64 stands for", "remove whsec_ and decode the rest as base64; the bytes are the key"}
	return append(keys, key{[]byte(trimmed), raw}, key{[]byte(encoded), raw})
}

// dubKeys returns the right key for the scheme Dub, and those that result from common mistakes.
func dubKeys(secret string) []key {
	trimmed := strings.TrimSpace(secret)
	keys := []key{{bytes: []byte(secret)}}
	if trimmed != secret {
		keys = append(keys, key{[]byte(trimmed), &whiteSpace})
	}
	encoded, prefixed := strings.CutPrefix(trimmed, "whsec_")
	if !prefixed {
		keys = append(keys, key{[]byte("whsec_" + trimmed), &mistake{"the secret has lost its prefix whsec_", "key the HMAC with the whole secret, whsec_ included"}})
	}
	keys = append(keys, key{[]byte(encoded), &mistake{"the key is the secret without whsec_", "key the HMAC with the whole secret, whsec_ included"}})
	if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
		keys = append(keys, key{decoded, &mistake{"the key is what the base64 of the secret stands for, not its text", "key the HMAC with the text of the whole secret; only Standard Webhooks decodes it"}})
	}
	return keys
}

// body is a candidate for the signed body. mistake is nil for the received body, and otherwise the mistake that
// changed it.
type body struct {
	bytes   []byte
	mistake *mistake
}

// bodies returns the received body, and those from which common mistakes would have made it.
func bodies(raw []byte) []body {
	found := []body{{bytes: raw}}
	add := func(changed []byte, reason, remedy string) {
		if !bytes.Equal(changed, raw) {
			found = append(found, body{changed, &mistake{reason, remedy}})
		}
	}
	add(bytes.TrimRight(raw, "\r\n"), "the body has a line break at its end that was not sent", "verify the bytes as they came: editors, and echo, add a line break")
	add(append(bytes.Clone(raw), '\n'), "the body has lost the line break at its end", "verify the bytes as they came, before anything trims them")
	add(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), "line breaks in the body were changed to CR LF", "verify the bytes as they came, before anything changes line breaks")
	const parsed, before = "the body was parsed and written again", "verify the raw bytes, before a framework parses them"
	var compact bytes.Buffer
	if json.Compact(&compact, raw) == nil {
		add(compact.Bytes(), parsed, before)
	}
	add(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")), "the body has a byte order mark that was not sent", "save the body without a byte order mark")
	return found
}

func sum(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}

// search tries each key with each body until a digest equals one of the request. It tries the pair without mistakes
// first.
func search(keys []key, bodies []body, message func(body []byte) []byte, fits func(digest []byte) bool) (found bool, mistakes []mistake) {
	for _, b := range bodies {
		for _, k := range keys {
			if !fits(sum(k.bytes, message(b.bytes))) {
				continue
			}
			for _, m := range []*mistake{k.mistake, b.mistake} {
				if m != nil {
					mistakes = append(mistakes, *m)
				}
			}
			return true, mistakes
		}
	}
	return false, nil
}

// judge returns r with the validity, reason and remedy that follow from search.
func (r Result) judge(found bool, mistakes []mistake) Result {
	if !found {
		r.Reason = "no signature fits: the secret is another one, or the body is not what was sent"
		r.Remedy = "compare the secret with \"kubectl postback secret\", and the body with \"kubectl postback event\"; after a rotation the previous secret ends"
		return r
	}
	var reasons, remedies []string
	for _, m := range mistakes {
		reasons, remedies = append(reasons, m.reason), append(remedies, m.remedy)
	}
	r.Reason, r.Remedy = strings.Join(reasons, "; and "), strings.Join(remedies, "; and ")
	r.Valid = len(mistakes) == 0
	return r
}

func (r Result) wrong(reason, remedy string) Result {
	r.Reason, r.Remedy = reason, remedy
	return r
}

func checkDub(r Request, secret string) Result {
	result := Result{Scheme: dub}
	signature := r.Header.Get(sign.DefaultDubHeader)
	if signature == "" {
		return result.wrong("there is no header "+sign.DefaultDubHeader, "look whether spec.signatures of the postback names Dub, and whether a proxy takes the header away")
	}
	result.Present = true
	given, err := hex.DecodeString(signature)
	if err != nil || len(given) != sha256.Size {
		if _, err := base64.StdEncoding.DecodeString(signature); err == nil {
			return result.wrong("the header "+sign.DefaultDubHeader+" is base64, not hexadecimal", "write the digest as 64 lower-case hexadecimal digits")
		}
		return result.wrong("the header "+sign.DefaultDubHeader+" is not 64 hexadecimal digits", "pass the header as it came; it has no prefix such as sha256=")
	}
	found, mistakes := search(dubKeys(secret), bodies(r.Body), func(body []byte) []byte { return body },
		func(digest []byte) bool { return hmac.Equal(digest, given) })
	if found && signature != strings.ToLower(signature) {
		mistakes = append(mistakes, mistake{"the signature is in upper case", "compare lower-case hexadecimal digits"})
	}
	return result.judge(found, mistakes)
}

func checkStandard(r Request, secret string, now time.Time, tolerance time.Duration) Result {
	result := Result{Scheme: standard}
	id, timestamp, signatures := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature")
	var missing []string
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		if r.Header.Get(name) == "" {
			missing = append(missing, name)
		}
	}
	switch {
	case len(missing) == 3:
		return result.wrong("there are no headers webhook-*", "look whether spec.signatures of the postback names StandardWebhooks, and whether a proxy takes the headers away")
	case len(missing) > 0:
		return result.wrong("a header is missing: "+strings.Join(missing, ", "), "pass all three: webhook-id, webhook-timestamp and webhook-signature")
	}
	result.Present = true
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return result.wrong("webhook-timestamp is not a number", "pass the header as it came: seconds since 1970")
	}
	given, problem := digests(signatures)
	if problem != nil {
		return result.wrong(problem.reason, problem.remedy)
	}
	found, mistakes := search(standardKeys(secret), bodies(r.Body),
		func(body []byte) []byte { return append([]byte(id+"."+timestamp+"."), body...) },
		func(digest []byte) bool {
			for _, one := range given {
				if hmac.Equal(digest, one) {
					return true
				}
			}
			return false
		})
	if late := timeMistake(seconds, now, tolerance); found && late != nil {
		mistakes = append(mistakes, *late)
	}
	return result.judge(found, mistakes)
}

// digests returns the v1 digests in the header webhook-signature.
func digests(signatures string) ([][]byte, *mistake) {
	var found [][]byte
	for _, one := range strings.Fields(signatures) {
		version, encoded, ok := strings.Cut(one, ",")
		switch {
		case !ok:
			return nil, &mistake{"a signature in webhook-signature has lost its prefix v1,", "pass the header as it came: signatures of the form v1,<base64>, with spaces between them"}
		case version != "v1":
			continue
		}
		digest, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(digest) != sha256.Size {
			return nil, &mistake{"a signature in webhook-signature is not the base64 of 32 bytes", "write the digest in base64, not in hexadecimal, after v1,"}
		}
		found = append(found, digest)
	}
	if len(found) == 0 {
		return nil, &mistake{"webhook-signature has no signature of version v1", "pass the header as it came"}
	}
	return found, nil
}

// timeMistake returns the reason why a timestamp is not accepted, or nil.
func timeMistake(seconds int64, now time.Time, tolerance time.Duration) *mistake {
	if tolerance == 0 {
		return nil
	}
	at := time.Unix(seconds, 0)
	const year5000 = 95617584000
	switch {
	case seconds > year5000:
		return &mistake{"webhook-timestamp counts milliseconds", "it is in seconds since 1970: pass the header as it came"}
	case at.Before(now.Add(-tolerance)):
		return &mistake{
			fmt.Sprintf("the timestamp is %s old, and %s are allowed", now.Sub(at).Round(time.Second), tolerance),
			"verify requests as they arrive, and set the receiver's clock; --tolerance 0 leaves out this check for a request that was kept",
		}
	case at.After(now.Add(tolerance)):
		return &mistake{
			fmt.Sprintf("the timestamp is %s in the future, and %s are allowed", at.Sub(now).Round(time.Second), tolerance), "set the clock of the receiver",
		}
	}
	return nil
}
