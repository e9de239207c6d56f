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

using System;

/// <summary>
/// Checks requests that stand on standard input, one a line: body in base64, Dub-Signature, webhook-id, webhook-timestamp,
/// webhook-signature, and secrets with commas between them, all separated by tabs; empty is what is not there. It answers
/// each with a line "ok", or "refused: " and which scheme refused it and why. Every scheme that is there has to fit one of
/// the secrets.
/// </summary>
public static class Check
{
    public static void Main()
    {
        for (var line = Console.ReadLine(); line != null; line = Console.ReadLine())
        {
            Console.WriteLine(CheckLine(line.Split('\t')));
        }
    }

    private static string CheckLine(string[] fields)
    {
        var rawBody = Convert.FromBase64String(fields[0]);
        string dub = fields[1], standard = fields[4];
        var secrets = fields[5].Split(new[] { ',' }, StringSplitOptions.RemoveEmptyEntries);
        if (dub == "" && standard == "") return "refused: not signed";
        var why = dub == "" ? null : WhyNot(secrets, secret => Verify.Dub(rawBody, dub, secret));
        if (why != null) return "refused: Dub: " + why;
        why = standard == "" ? null : WhyNot(secrets, secret =>
            Verify.StandardWebhooks(rawBody, fields[2], fields[3], standard, secret, DateTimeOffset.UtcNow));
        return why == null ? "ok" : "refused: StandardWebhooks: " + why;
    }

    /// <summary>Returns why no secret fits, or null if one does.</summary>
    private static string WhyNot(string[] secrets, Action<string> verify)
    {
        var why = "there is no secret";
        foreach (var secret in secrets)
        {
            try
            {
                verify(secret);
                return null;
            }
            catch (NotVerifiedException notVerified)
            {
                why = notVerified.Message;
            }
        }
        return why;
    }
}
