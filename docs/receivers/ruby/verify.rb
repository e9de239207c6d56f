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

# How an endpoint verifies a request. Ruby 2.7 or newer, standard library only. Copy what you need.

require 'openssl'

module Postback
  TOLERANCE_SECONDS = 5 * 60

  class NotVerified < StandardError; end

  # Raises NotVerified unless Dub-Signature is the lower-case hexadecimal HMAC-SHA256 of the body.
  #
  # raw_body is the body's bytes, as they came in and before anything parses them. The key is the whole secret string as
  # it is shown to you, with whsec_.
  def self.verify_dub(raw_body, signature_header, secret)
    raise NotVerified, 'the header Dub-Signature is missing' if signature_header.to_s.empty?

    expected = OpenSSL::HMAC.hexdigest('SHA256', secret, raw_body)
    raise NotVerified, 'the signature does not fit' unless OpenSSL.secure_compare(expected, signature_header)
  end

  # Raises NotVerified unless the request is signed as Standard Webhooks 1.0 says, at most 5 minutes from now.
  #
  # headers are a Hash with lower-case names. now is the time in seconds since 1970.
  def self.verify_standard_webhooks(raw_body, headers, secret, now = Time.now.to_i)
    id, timestamp, signatures = headers.values_at('webhook-id', 'webhook-timestamp', 'webhook-signature').map(&:to_s)
    raise NotVerified, 'a webhook-* header is missing' if id.empty? || timestamp.empty? || signatures.empty?
    raise NotVerified, 'the timestamp is not a number' unless timestamp.match?(/\A[0-9]{1,12}\z/)
    raise NotVerified, 'the timestamp is too old' if timestamp.to_i < now - TOLERANCE_SECONDS
    raise NotVerified, 'the timestamp is in the future' if timestamp.to_i > now + TOLERANCE_SECONDS

    key = secret.delete_prefix('whsec_').unpack1('m0')
    digest = OpenSSL::HMAC.digest('SHA256', key, "#{id}.#{timestamp}.".b + raw_body.b)
    expected = "v1,#{[digest].pack('m0')}"
    # While a secret is being replaced there is one signature for each that is valid.
    fits = signatures.split(' ').any? { |signature| OpenSSL.secure_compare(expected, signature) }
    raise NotVerified, 'no signature fits' unless fits
  end
end
