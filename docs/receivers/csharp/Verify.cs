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
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

/// <summary>What is wrong with a request.</summary>
public sealed class NotVerifiedException : Exception
{
    public NotVerifiedException(string why) : base(why) { }
}

/// <summary>How an endpoint verifies a request. .NET 6 or newer, no packages. Copy what you need.</summary>
public static class Verify
{
    private const long ToleranceSeconds = 5 * 60;

    /// <summary>
    /// Throws unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the whole secret string.
    /// </summary>
    /// <param name="rawBody">the body's bytes, as they came in and before anything parses them</param>
    /// <param name="signatureHeader">the value of Dub-Signature, or null</param>
    /// <param name="secret">the secret as it is shown to you, with whsec_</param>
    public static void Dub(byte[] rawBody, string signatureHeader, string secret)
    {
        if (string.IsNullOrEmpty(signatureHeader)) throw new NotVerifiedException("the header Dub-Signature is missing");
        var digest = Hmac(Encoding.UTF8.GetBytes(secret), rawBody);
        var expected = BitConverter.ToString(digest).Replace("-", "").ToLowerInvariant();
        if (!Equal(expected, signatureHeader)) throw new NotVerifiedException("the signature does not fit");
    }

    /// <summary>
    /// Throws unless the request is signed as Standard Webhooks 1.0 says, and was signed at most 5 minutes from now.
    /// </summary>
    /// <param name="id">the value of webhook-id, or null; timestamp and signatures are those of the other headers</param>
    public static void StandardWebhooks(
        byte[] rawBody, string id, string timestamp, string signatures, string secret, DateTimeOffset now)
    {
        if (string.IsNullOrEmpty(id) || string.IsNullOrEmpty(timestamp) || string.IsNullOrEmpty(signatures))
            throw new NotVerifiedException("a webhook-* header is missing");
        if (!Regex.IsMatch(timestamp, @"\A[0-9]{1,12}\z")) throw new NotVerifiedException("the timestamp is not a number");
        var signedAt = long.Parse(timestamp);
        if (signedAt < now.ToUnixTimeSeconds() - ToleranceSeconds) throw new NotVerifiedException("the timestamp is too old");
        if (signedAt > now.ToUnixTimeSeconds() + ToleranceSeconds) throw new NotVerifiedException("the timestamp is in the future");

        var key = Convert.FromBase64String(secret.StartsWith("whsec_", StringComparison.Ordinal) ? secret.Substring(6) : secret);
        var before = Encoding.UTF8.GetBytes(id + "." + timestamp + ".");
        var signed = new byte[before.Length + rawBody.Length];
        before.CopyTo(signed, 0);
        rawBody.CopyTo(signed, before.Length);
        var expected = "v1," + Convert.ToBase64String(Hmac(key, signed));
        // While a secret is being replaced there is one signature for each that is valid.
        foreach (var signature in signatures.Split(' '))
        {
            if (Equal(expected, signature)) return;
        }
        throw new NotVerifiedException("no signature fits");
    }

    private static byte[] Hmac(byte[] key, byte[] content)
    {
        using (var hmac = new HMACSHA256(key)) return hmac.ComputeHash(content);
    }

    /// <summary>Compares in constant time.</summary>
    private static bool Equal(string expected, string given)
    {
        return CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(expected), Encoding.UTF8.GetBytes(given));
    }
}
