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

"""Checks requests that stand on standard input, one JSON object a line:

    {"body": "<base64>", "headers": {"webhook-id": "…"}, "secrets": ["whsec_…"]}

It answers each with a line "ok", or "refused: " and which scheme refused it and why. Every scheme that the headers hold
has to fit one of the secrets.
"""

import base64
import json
import sys

from verify import verify_dub, verify_standard_webhooks


def check(request):
    raw_body = base64.b64decode(request["body"])
    headers = {name.lower(): value for name, value in request["headers"].items()}
    schemes = []
    if "dub-signature" in headers:
        schemes.append(("Dub", lambda secret: verify_dub(raw_body, headers["dub-signature"], secret)))
    if "webhook-signature" in headers:
        schemes.append(("StandardWebhooks", lambda secret: verify_standard_webhooks(raw_body, headers, secret)))
    if not schemes:
        return "refused: not signed"
    for name, verify in schemes:
        why = any_of(request["secrets"], verify)
        if why:
            return f"refused: {name}: {why}"
    return "ok"


def any_of(secrets, verify):
    """Returns why no secret fits, or None if one does."""
    why = "there is no secret"
    for secret in secrets:
        try:
            verify(secret)
            return None
        except ValueError as error:
            why = str(error)
    return why


if __name__ == "__main__":
    for line in sys.stdin:
        print(check(json.loads(line)), flush=True)
