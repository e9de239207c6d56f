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

//! How an endpoint verifies a request, with the crates base64ct, hmac and sha2. Copy what you need.

use base64ct::{Base64, Encoding};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const TOLERANCE_SECONDS: i64 = 5 * 60;

/// Is an error unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the whole secret
/// string. `raw_body` is the body's bytes, as they came in and before anything parses them; `secret` is as it is shown to
/// you, with whsec_.
pub fn verify_dub(raw_body: &[u8], signature_header: &str, secret: &str) -> Result<(), &'static str> {
    if signature_header.is_empty() {
        return Err("the header Dub-Signature is missing");
    }
    let given = from_hex(signature_header).ok_or("the signature does not fit")?;
    // verify_slice compares in constant time.
    hmac(secret.as_bytes(), &[raw_body]).verify_slice(&given).map_err(|_| "the signature does not fit")
}

/// Is an error unless the request is signed as Standard Webhooks 1.0 says, and was signed at most 5 minutes from `now`, in
/// seconds since 1970. `id`, `timestamp` and `signatures` are the values of webhook-id, webhook-timestamp and
/// webhook-signature, empty if they are missing.
pub fn verify_standard_webhooks(
    raw_body: &[u8],
    id: &str,
    timestamp: &str,
    signatures: &str,
    secret: &str,
    now: i64,
) -> Result<(), &'static str> {
    if id.is_empty() || timestamp.is_empty() || signatures.is_empty() {
        return Err("a webhook-* header is missing");
    }
    if timestamp.len() > 12 || !timestamp.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the timestamp is not a number");
    }
    let signed_at: i64 = timestamp.parse().map_err(|_| "the timestamp is not a number")?;
    if signed_at < now - TOLERANCE_SECONDS {
        return Err("the timestamp is too old");
    }
    if signed_at > now + TOLERANCE_SECONDS {
        return Err("the timestamp is in the future");
    }

    let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
    let key = Base64::decode_vec(encoded).map_err(|_| "the secret is not base64 after whsec_")?;
    let before = format!("{id}.{timestamp}.");
    let mac = hmac(&key, &[before.as_bytes(), raw_body]);
    // While a secret is being replaced there is one signature for each that is valid.
    let fits = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(|encoded| {
        Base64::decode_vec(encoded).map_or(false, |given| mac.clone().verify_slice(&given).is_ok())
    });
    if fits {
        Ok(())
    } else {
        Err("no signature fits")
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// Takes lower-case digits only.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() % 2 != 0 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}
