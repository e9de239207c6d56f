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

// An endpoint: POSTBACK_SECRETS='whsec_…' PORT=3000 node server.mjs
// While you change from one secret to the next, give both, with a comma between them.

import { createServer } from 'node:http'
import { verifyStandardWebhooks } from './verify.mjs'

const MAX_BODY = 2 * 1024 * 1024
const secrets = (process.env.POSTBACK_SECRETS ?? '').split(',').filter(Boolean)

// Here: memory. In production: a table with a unique key on the id, from which a worker takes the events.
const inbox = new Map()

const server = createServer(async (request, response) => {
  try {
    const rawBody = await readBody(request)
    if (!verified(rawBody, request.headers)) return answer(response, 401, 'not verified')
    // The same event may come again: it has the same webhook-id.
    const id = request.headers['webhook-id']
    if (!inbox.has(id)) {
      const event = JSON.parse(rawBody.toString('utf8'))
      inbox.set(id, event)
      // The type is "event" in the format JSON, "type" in CloudEvents. A Slack message has none.
      console.log(`event ${id} ${event.event ?? event.type ?? 'untyped'}`)
    }
    // Answer as soon as the event is stored. The work comes afterwards.
    return answer(response, 200, 'stored')
  } catch {
    return answer(response, 400, 'not understood')
  }
})

/** Reads the bytes before anything parses them: the signature holds for exactly these. */
async function readBody(request) {
  const chunks = []
  let length = 0
  for await (const chunk of request) {
    length += chunk.length
    if (length > MAX_BODY) throw new Error('the body is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function verified(rawBody, headers) {
  return secrets.some((secret) => {
    try {
      verifyStandardWebhooks(rawBody, headers, secret)
      return true
    } catch {
      return false
    }
  })
}

function answer(response, status, text) {
  response.writeHead(status, { 'content-type': 'text/plain' }).end(text + '\n')
}

server.listen(Number(process.env.PORT ?? 3000), process.env.HOST ?? '127.0.0.1', () => {
  console.log(`listening on port ${server.address().port}`)
})
