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

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** How an endpoint verifies a request. Java 17 or newer, no libraries. Copy what you need. */
final class Verify {
    private static final Duration TOLERANCE = Duration.ofMinutes(5);

    private Verify() {}

    /** What is wrong with a request. */
    static final class NotVerified extends Exception {
        NotVerified(String why) {
            super(why);
        }
    }

    /**
     * Throws unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the whole secret string.
     *
     * @param rawBody the body's bytes, as they came in and before anything parses them
     * @param signatureHeader the value of Dub-Signature, or null
     * @param secret the secret as it is shown to you, with whsec_
     */
    static void dub(byte[] rawBody, String signatureHeader, String secret) throws NotVerified, GeneralSecurityException {
        if (signatureHeader == null || signatureHeader.isEmpty()) {
            throw new NotVerified("the header Dub-Signature is missing");
        }
        String expected = HexFormat.of().formatHex(hmac(secret.getBytes(StandardCharsets.UTF_8), rawBody));
        if (!equal(expected, signatureHeader)) {
            throw new NotVerified("the signature does not fit");
        }
    }

    /**
     * Throws unless the request is signed as Standard Webhooks 1.0 says, and was signed at most 5 minutes from now.
     *
     * @param id the value of webhook-id, or null; timestamp and signatures are those of webhook-timestamp and
     *     webhook-signature
     */
    static void standardWebhooks(byte[] rawBody, String id, String timestamp, String signatures, String secret, Instant now)
            throws NotVerified, GeneralSecurityException {
        if (id == null || timestamp == null || signatures == null || id.isEmpty() || timestamp.isEmpty() || signatures.isEmpty()) {
            throw new NotVerified("a webhook-* header is missing");
        }
        if (!timestamp.matches("[0-9]{1,12}")) {
            throw new NotVerified("the timestamp is not a number");
        }
        Instant signedAt = Instant.ofEpochSecond(Long.parseLong(timestamp));
        if (signedAt.isBefore(now.minus(TOLERANCE))) {
            throw new NotVerified("the timestamp is too old");
        }
        if (signedAt.isAfter(now.plus(TOLERANCE))) {
            throw new NotVerified("the timestamp is in the future");
        }

        byte[] key = Base64.getDecoder().decode(secret.startsWith("whsec_") ? secret.substring("whsec_".length()) : secret);
        byte[] before = (id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8);
        String expected = "v1," + Base64.getEncoder().encodeToString(hmac(key, before, rawBody));
        // While a secret is being replaced there is one signature for each that is valid.
        for (String signature : signatures.split(" ")) {
            if (equal(expected, signature)) {
                return;
            }
        }
        throw new NotVerified("no signature fits");
    }

    private static byte[] hmac(byte[] key, byte[]... parts) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        for (byte[] part : parts) {
            mac.update(part);
        }
        return mac.doFinal();
    }

    /** Compares in constant time. */
    private static boolean equal(String expected, String given) {
        return MessageDigest.isEqual(expected.getBytes(StandardCharsets.UTF_8), given.getBytes(StandardCharsets.UTF_8));
    }
}
