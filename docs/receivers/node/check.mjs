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

// Checks requests that stand on standard input, one JSON object a line:
//   {"body": "<base64>", "headers": {"webhook-id": "…"}, "secrets": ["whsec_…"]}
// It answers each with a line "ok", or "refused: " and which scheme refused it and why. Every scheme that the headers
// hold has to fit one of the secrets.

import { createInterface } from 'node:readline'
import { verifyDub, verifyStandardWebhooks } from './verify.mjs'

for await (const line of createInterface({ input: process.stdin })) {
  console.log(check(JSON.parse(line)))
}

function check({ body, headers: given, secrets }) {
  const rawBody = Buffer.from(body, 'base64')
  const headers = Object.fromEntries(Object.entries(given).map(([name, value]) => [name.toLowerCase(), value]))
  const schemes = []
  if ('dub-signature' in headers) {
    schemes.push(['Dub', (secret) => verifyDub(rawBody, headers['dub-signature'], secret)])
  }
  if ('webhook-signature' in headers) {
    schemes.push(['StandardWebhooks', (secret) => verifyStandardWebhooks(rawBody, headers, secret)])
  }
  if (schemes.length === 0) return 'refused: not signed'
  for (const [name, verify] of schemes) {
    const why = anyOf(secrets, verify)
    if (why) return `refused: ${name}: ${why}`
  }
  return 'ok'
}

/** Returns why no secret fits, or nothing if one does. */
function anyOf(secrets, verify) {
  let why = 'there is no secret'
  for (const secret of secrets) {
    try {
      verify(secret)
      return undefined
    } catch (error) {
      why = error.message
    }
  }
  return why
}
