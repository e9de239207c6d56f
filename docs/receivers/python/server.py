# Copyright 2026 The Postback Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""An endpoint: POSTBACK_SECRETS='whsec_…' PORT=3000 python3 server.py

While you change from one secret to the next, give both, with a comma between them.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from verify import verify_standard_webhooks

MAX_BODY = 2 * 1024 * 1024
SECRETS = [secret for secret in os.environ.get("POSTBACK_SECRETS", "").split(",") if secret]

# Here: memory. In production: a table with a unique key on the id, from which a worker takes the events.
inbox = {}


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        # The bytes, before anything parses them: the signature holds for exactly these.
        length = int(self.headers.get("content-length", 0))
        if not 0 <= length <= MAX_BODY:
            return self.answer(413, "too large")
        raw_body = self.rfile.read(length)
        if not verified(raw_body, self.headers):
            return self.answer(401, "not verified")
        # The same event may come again: it has the same webhook-id.
        event_id = self.headers["webhook-id"]
        if event_id not in inbox:
            event = inbox[event_id] = json.loads(raw_body)
            # The type is "event" in the format JSON, "type" in CloudEvents. A Slack message has none.
            print("event", event_id, event.get("event", event.get("type", "untyped")), flush=True)
        # Answer as soon as the event is stored. The work comes afterwards.
        return self.answer(200, "stored")

    def answer(self, status, text):
        body = (text + "\n").encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def verified(raw_body, headers):
    for secret in SECRETS:
        try:
            verify_standard_webhooks(raw_body, headers, secret)
            return True
        except ValueError:
            pass
    return False


if __name__ == "__main__":
    server = ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "3000"))), Endpoint)
    print("listening on port", server.server_port, flush=True)
    server.serve_forever()
