<?php
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

// How an endpoint verifies a request. PHP 8.0 or newer, no packages. Copy what you need.

declare(strict_types=1);

const TOLERANCE_SECONDS = 5 * 60;

final class NotVerified extends RuntimeException
{
}

/**
 * Throws unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the whole secret string.
 *
 * @param string $rawBody the body's bytes, as they came in and before anything parses them: file_get_contents('php://input')
 * @param string $signatureHeader the value of Dub-Signature, $_SERVER['HTTP_DUB_SIGNATURE'] ?? ''
 * @param string $secret the secret as it is shown to you, with whsec_
 */
function verifyDub(string $rawBody, string $signatureHeader, string $secret): void
{
    if ($signatureHeader === '') {
        throw new NotVerified('the header Dub-Signature is missing');
    }
    if (!hash_equals(hash_hmac('sha256', $rawBody, $secret), $signatureHeader)) {
        throw new NotVerified('the signature does not fit');
    }
}

/**
 * Throws unless the request is signed as Standard Webhooks 1.0 says, and was signed at most 5 minutes from now.
 *
 * @param array<string, string> $headers by lower-case name
 * @param int|null $now the time in seconds since 1970
 */
function verifyStandardWebhooks(string $rawBody, array $headers, string $secret, ?int $now = null): void
{
    $now ??= time();
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    $signatures = $headers['webhook-signature'] ?? '';
    if ($id === '' || $timestamp === '' || $signatures === '') {
        throw new NotVerified('a webhook-* header is missing');
    }
    if (preg_match('/\A[0-9]{1,12}\z/', $timestamp) !== 1) {
        throw new NotVerified('the timestamp is not a number');
    }
    if ((int) $timestamp < $now - TOLERANCE_SECONDS) {
        throw new NotVerified('the timestamp is too old');
    }
    if ((int) $timestamp > $now + TOLERANCE_SECONDS) {
        throw new NotVerified('the timestamp is in the future');
    }

    $key = base64_decode(preg_replace('/\Awhsec_/', '', $secret), true);
    if ($key === false) {
        throw new NotVerified('the secret is not base64 after whsec_');
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$rawBody", $key, true));
    // While a secret is being replaced there is one signature for each that is valid.
    foreach (explode(' ', $signatures) as $signature) {
        if (hash_equals($expected, $signature)) {
            return;
        }
    }
    throw new NotVerified('no signature fits');
}
