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

# Checks requests that stand on standard input, one a line: body in base64, Dub-Signature, webhook-id, webhook-timestamp,
# webhook-signature, and secrets with commas between them, all separated by tabs; empty is what is not there. It answers
# each with a line "ok", or "refused: " and which scheme refused it and why. Every scheme that is there has to fit one of
# the secrets.

require_relative 'verify'

def why_not(secrets)
  why = 'there is no secret'
  secrets.each do |secret|
    yield secret
    return nil
  rescue Postback::NotVerified => e
    why = e.message
  end
  why
end

def check(line)
  body, dub, id, timestamp, standard, secrets = line.chomp.split("\t", -1)
  raw_body = body.unpack1('m0')
  headers = { 'webhook-id' => id, 'webhook-timestamp' => timestamp, 'webhook-signature' => standard }
  return 'refused: not signed' if dub.empty? && standard.empty?

  why = why_not(secrets.split(',')) { |secret| Postback.verify_dub(raw_body, dub, secret) } unless dub.empty?
  return "refused: Dub: #{why}" if why

  why = why_not(secrets.split(',')) { |secret| Postback.verify_standard_webhooks(raw_body, headers, secret) } unless standard.empty?
  why ? "refused: StandardWebhooks: #{why}" : 'ok'
end

$stdout.sync = true
$stdin.each_line { |line| puts check(line) }
