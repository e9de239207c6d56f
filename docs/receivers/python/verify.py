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

"""How an endpoint verifies a request. Python 3.9 or newer, standard library only. Copy what you need."""

import base64
import hashlib
import hmac
import re
import time

TOLERANCE_SECONDS = 5 * 60


def verify_dub(raw_body, signature_header, secret):
    """Raises ValueError unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body.

    raw_body is the body's bytes, as they came in and before anything parses them. The key is the whole secret string
    as it is shown to you, with whsec_.
    """
    if not signature_header:
        raise ValueError("the header Dub-Signature is missing")
    expected = hmac.new(secret.encode(), raw_body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature_header.encode()):
        raise ValueError("the signature does not fit")


def verify_standard_webhooks(raw_body, headers, secret, now=None):
    """Raises ValueError unless the request is signed as Standard Webhooks 1.0 says, at most 5 minutes from now.

    raw_body is the body's bytes, as they came in and before anything parses them. headers are a mapping of names to
    values that finds lower-case names, such as that of http.server. now is the time in seconds since 1970.
    """
    now = time.time() if now is None else now
    event_id = headers.get("webhook-id")
    timestamp = headers.get("webhook-timestamp")
    signatures = headers.get("webhook-signature")
    if not event_id or not timestamp or not signatures:
        raise ValueError("a webhook-* header is missing")
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        raise ValueError("the timestamp is not a number")
    if int(timestamp) < now - TOLERANCE_SECONDS:
        raise ValueError("the timestamp is too old")
    if int(timestamp) > now + TOLERANCE_SECONDS:
        raise ValueError("the timestamp is in the future")

    encoded_key = secret[len("whsec_"):] if secret.startswith("whsec_") else secret
    key = base64.b64decode(encoded_key)
    signed = f"{event_id}.{timestamp}.".encode() + raw_body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    # While a secret is being replaced there is one signature for each that is valid.
    if not any(hmac.compare_digest(expected, given.encode()) for given in signatures.split(" ")):
        raise ValueError("no signature fits")
