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

// The backend of a platform that sends a partner's browser to the portal. Copy requestLink.
//
//   PORTAL_URL=https://postbacks.example.com TOKEN_FILE=/var/run/secrets/kubernetes.io/serviceaccount/token PORT=3000 node server.mjs

import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'

// requestLink returns an address that signs a partner in, once, within five minutes. Do not log it.
async function requestLink(namespace, role) {
  // The kubelet replaces the token before it expires: read it for each request.
  const token = (await readFile(process.env.TOKEN_FILE, 'utf8')).trim()
  const response = await fetch(`${process.env.PORTAL_URL}/v1/namespaces/${encodeURIComponent(namespace)}/portal-links`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ role, ttl: '8h' }),
    // A redirect would carry the token elsewhere.
    redirect: 'error',
    signal: AbortSignal.timeout(10_000),
  })
  const answer = await response.json()
  if (response.status !== 201) throw new Error(`the portal answers ${response.status}: ${answer.detail}`)
  return answer.url
}

// partnerOf returns the namespace and the role of the user of a request. Yours come from the session of your product.
function partnerOf(request) {
  return { namespace: process.env.PARTNER, role: process.env.ROLE || 'editor' }
}

// A POST of your own page keeps other sites from requesting links.
createServer(async (request, response) => {
  if (request.method !== 'POST' || request.url !== '/postbacks') return response.writeHead(404).end()
  const { namespace, role } = partnerOf(request)
  if (!namespace) return response.writeHead(401).end('nobody is signed in\n')
  try {
    response.writeHead(303, { location: await requestLink(namespace, role), 'cache-control': 'no-store' }).end()
  } catch (error) {
    console.error(error.message)
    response.writeHead(502).end('The Postbacks page is not available. Try again later.\n')
  }
}).listen(process.env.PORT || 3000, '127.0.0.1')
