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

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;

/**
 * Checks requests that stand on standard input, one a line: body in base64, Dub-Signature, webhook-id, webhook-timestamp,
 * webhook-signature, and secrets with commas between them, all separated by tabs; empty is what is not there. It answers
 * each with a line "ok", or "refused: " and which scheme refused it and why. Every scheme that is there has to fit one of
 * the secrets.
 */
final class Check {
    private interface Verifier {
        void verify(String secret) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            System.out.println(check(line.split("\t", -1)));
        }
    }

    private static String check(String[] fields) throws Exception {
        byte[] rawBody = Base64.getDecoder().decode(fields[0]);
        String dub = fields[1];
        String standard = fields[4];
        String[] secrets = fields[5].isEmpty() ? new String[0] : fields[5].split(",");
        if (dub.isEmpty() && standard.isEmpty()) {
            return "refused: not signed";
        }
        String why = dub.isEmpty() ? null : whyNot(secrets, secret -> Verify.dub(rawBody, dub, secret));
        if (why != null) {
            return "refused: Dub: " + why;
        }
        why = standard.isEmpty()
                ? null
                : whyNot(secrets, secret -> Verify.standardWebhooks(rawBody, fields[2], fields[3], standard, secret, Instant.now()));
        return why == null ? "ok" : "refused: StandardWebhooks: " + why;
    }

    /** Returns why no secret fits, or null if one does. */
    private static String whyNot(String[] secrets, Verifier verifier) throws Exception {
        String why = "there is no secret";
        for (String secret : secrets) {
            try {
                verifier.verify(secret);
                return null;
            } catch (Verify.NotVerified notVerified) {
                why = notVerified.getMessage();
            }
        }
        return why;
    }
}
