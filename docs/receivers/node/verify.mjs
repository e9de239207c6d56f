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

// How an endpoint verifies a request. Plain Node.js 18 or newer, no packages. Copy what you need.

import { createHmac, timingSafeEqual } from 'node:crypto'

const TOLERANCE_SECONDS = 5 * 60

/**
 * Throws unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the whole secret string.
 *
 * @param {Buffer} rawBody the body's bytes, as they came in and before anything parses them
 * @param {string | undefined} signatureHeader the value of Dub-Signature
 * @param {string} secret the secret as it is shown to you, with whsec_
 */
export function verifyDub(rawBody, signatureHeader, secret) {
  if (!signatureHeader) throw new Error('the header Dub-Signature is missing')
  const expected = createHmac('sha256', secret).update(rawBody).digest('hex')
  if (!equal(expected, signatureHeader)) throw new Error('the signature does not fit')
}

/**
 * Throws unless the request is signed as Standard Webhooks 1.0 says, and was signed at most 5 minutes from now.
 *
 * @param {Buffer} rawBody the body's bytes, as they came in and before anything parses them
 * @param {Record<string, string | undefined>} headers by lower-case name, as node:http has them
 * @param {string} secret the secret as it is shown to you, with whsec_
 * @param {number} now the time in seconds since 1970
 */
export function verifyStandardWebhooks(rawBody, headers, secret, now = Date.now() / 1000) {
  const id = headers['webhook-id']
  const timestamp = headers['webhook-timestamp']
  const signatures = headers['webhook-signature']
  if (!id || !timestamp || !signatures) throw new Error('a webhook-* header is missing')
  if (!/^[0-9]{1,12}$/.test(timestamp)) throw new Error('the timestamp is not a number')
  if (Number(timestamp) < now - TOLERANCE_SECONDS) throw new Error('the timestamp is too old')
  if (Number(timestamp) > now + TOLERANCE_SECONDS) throw new Error('the timestamp is in the future')

  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(rawBody).digest('base64')
  // While a secret is being replaced there is one signature for each that is valid.
  const fits = signatures.split(' ').some((signature) => equal(`v1,${expected}`, signature))
  if (!fits) throw new Error('no signature fits')
}

/** Compares in constant time. */
function equal(expected, given) {
  const a = Buffer.from(expected)
  const b = Buffer.from(given)
  return a.length === b.length && timingSafeEqual(a, b)
}
