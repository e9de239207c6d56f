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

"""The backend of a platform that sends a partner's browser to the portal. Copy request_link.

PORTAL_URL=https://postbacks.example.com TOKEN_FILE=/var/run/secrets/kubernetes.io/serviceaccount/token PORT=3000 python3 server.py
"""

import http.server
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *_):
        return None


opener = urllib.request.build_opener(NoRedirect)


def request_link(namespace, role):
    """Returns an address that signs a partner in, once, within five minutes. Do not log it."""
    # The kubelet replaces the token before it expires: read it for each request.
    with open(os.environ["TOKEN_FILE"], encoding="utf-8") as file:
        token = file.read().strip()
    request = urllib.request.Request(
        f"{os.environ['PORTAL_URL']}/v1/namespaces/{urllib.parse.quote(namespace, safe='')}/portal-links",
        data=json.dumps({"role": role, "ttl": "8h"}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with opener.open(request, timeout=10) as response:
            return json.load(response)["url"]
    except urllib.error.HTTPError as error:
        raise OSError(f"the portal answers {error.code}: {json.load(error).get('detail')}") from None


def partner_of(_request):
    """Returns the namespace and the role of the user of a request. Yours come from the session of your product."""
    return os.environ.get("PARTNER"), os.environ.get("ROLE", "editor")


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends the browser on. A POST of your own page keeps other sites from requesting links."""

    def do_POST(self):
        if self.path != "/postbacks":
            self.send_error(404)
            return
        namespace, role = partner_of(self)
        if not namespace:
            self.send_error(401, "nobody is signed in")
            return
        try:
            link = request_link(namespace, role)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            self.send_error(502, "The Postbacks page is not available. Try again later.")
            return
        self.send_response(303)
        self.send_header("Location", link)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Handler).serve_forever()
