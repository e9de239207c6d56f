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

// Checks requests that stand on standard input, one a line: body in base64, Dub-Signature, webhook-id, webhook-timestamp,
// webhook-signature, and secrets with commas between them, all separated by tabs; empty is what is not there. It answers
// each with a line "ok", or "refused: " and which scheme refused it and why. Every scheme that is there has to fit one of
// the secrets.

declare(strict_types=1);

require __DIR__ . '/verify.php';

/** Returns why no secret fits, or null if one does. */
function whyNot(array $secrets, callable $verify): ?string
{
    $why = 'there is no secret';
    foreach ($secrets as $secret) {
        try {
            $verify($secret);
            return null;
        } catch (NotVerified $notVerified) {
            $why = $notVerified->getMessage();
        }
    }
    return $why;
}

function check(string $line): string
{
    [$body, $dub, $id, $timestamp, $standard, $secretList] = explode("\t", rtrim($line, "\n"));
    $rawBody = base64_decode($body, true);
    $headers = ['webhook-id' => $id, 'webhook-timestamp' => $timestamp, 'webhook-signature' => $standard];
    $secrets = array_filter(explode(',', $secretList));
    $schemes = [];
    if ($dub !== '') {
        $schemes['Dub'] = fn (string $secret) => verifyDub($rawBody, $dub, $secret);
    }
    if ($standard !== '') {
        $schemes['StandardWebhooks'] = fn (string $secret) => verifyStandardWebhooks($rawBody, $headers, $secret);
    }
    if ($schemes === []) {
        return 'refused: not signed';
    }
    foreach ($schemes as $name => $verify) {
        $why = whyNot($secrets, $verify);
        if ($why !== null) {
            return "refused: $name: $why";
        }
    }
    return 'ok';
}

while (($line = fgets(STDIN)) !== false) {
    fwrite(STDOUT, check($line) . "\n");
}
