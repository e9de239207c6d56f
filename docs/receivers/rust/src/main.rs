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

//! Checks requests that stand on standard input, one a line: body in base64, Dub-Signature, webhook-id, webhook-timestamp,
//! webhook-signature, and secrets with commas between them, all separated by tabs; empty is what is not there. It answers
//! each with a line "ok", or "refused: " and which scheme refused it and why. Every scheme that is there has to fit one of
//! the secrets.

mod verify;

use std::io::{self, BufRead, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let fields: Vec<&str> = line.split('\t').collect();
        writeln!(out, "{}", check(&fields))?;
        out.flush()?;
    }
    Ok(())
}

fn check(fields: &[&str]) -> String {
    let raw_body = Base64::decode_vec(fields[0]).expect("the body is base64");
    let (dub, standard) = (fields[1], fields[4]);
    let secrets: Vec<&str> = fields[5].split(',').filter(|secret| !secret.is_empty()).collect();
    if dub.is_empty() && standard.is_empty() {
        return "refused: not signed".to_string();
    }
    if !dub.is_empty() {
        if let Err(why) = any_of(&secrets, |secret| verify::verify_dub(&raw_body, dub, secret)) {
            return format!("refused: Dub: {why}");
        }
    }
    if !standard.is_empty() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs() as i64;
        let verify = |secret: &str| verify::verify_standard_webhooks(&raw_body, fields[2], fields[3], standard, secret, now);
        if let Err(why) = any_of(&secrets, verify) {
            return format!("refused: StandardWebhooks: {why}");
        }
    }
    "ok".to_string()
}

/// Is an error, why the last secret does not fit, if none does.
fn any_of(secrets: &[&str], verify: impl Fn(&str) -> Result<(), &'static str>) -> Result<(), &'static str> {
    let mut result = Err("there is no secret");
    for secret in secrets {
        result = verify(secret);
        if result.is_ok() {
            break;
        }
    }
    result
}
