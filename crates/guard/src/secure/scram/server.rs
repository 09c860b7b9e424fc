//! The server's part of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding, sans-I/O. The server derives no keys: the
//! stored ones are enough, and an exchange costs a core a few hashes.

use std::borrow::Cow;

use base64::Engine as _;
use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;

use super::BASE64;

/// The longest message of a client, in bytes: a name of 256 bytes twice, each byte written as three, and a nonce.
const MESSAGE_BYTES_MAX: usize = 2_048;
/// Bytes of each key.
pub const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// A server's record of a password.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The salt of the derivation.
    pub salt: &'a [u8],
    /// The iterations of the derivation.
    pub iterations: u32,
    /// The hash of the client's key.
    pub stored: &'a [u8; KEY_BYTES],
    /// The server's key.
    pub server: &'a [u8; KEY_BYTES],
}

/// Why an exchange ends without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A message is malformed: why, in words.
    Malformed(&'static str),
    /// The client does not know the password.
    WrongProof,
}

/// A client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening<'a> {
    user: Cow<'a, str>,
    nonce: &'a str,
    /// The GS2 header, which the last message repeats.
    gs2: &'a str,
    /// The message without the GS2 header.
    bare: &'a str,
}

impl<'a> Opening<'a> {
    /// Parses a client's first message.
    ///
    /// # Errors
    /// [`Failure::Malformed`].
    pub fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        const WRONG: Failure = Failure::Malformed("the first SCRAM message is not valid");
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (Some(binding), Some(authorized), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(WRONG);
        };
        match binding {
            "n" | "y" => {}
            _ if binding.starts_with("p=") => {
                return Err(Failure::Malformed("SCRAM with channel binding is not supported"));
            }
            _ => return Err(WRONG),
        }
        let mut fields = bare.split(',');
        let user = fields.next().unwrap_or_default();
        if user.starts_with("m=") {
            return Err(Failure::Malformed("a mandatory SCRAM extension is not supported"));
        }
        let user = user.strip_prefix("n=").and_then(name).ok_or(WRONG)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).filter(|nonce| is_nonce(nonce));
        let nonce = nonce.ok_or(WRONG)?;
        // A login on behalf of another user is not supported; naming oneself is allowed.
        if !authorized.is_empty() && authorized.strip_prefix("a=").and_then(name).as_ref() != Some(&user) {
            return Err(Failure::Malformed("SCRAM with an authorization identity is not supported"));
        }
        let gs2 = &message[..message.len() - bare.len()];
        Ok(Self { user, nonce, gs2, bare })
    }

    /// The user name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Makes the server's first message. `nonce`: printable ASCII without commas, never used before.
    #[must_use]
    pub fn challenge(&self, record: Record<'_>, nonce: &str) -> (Exchange, String) {
        let nonce = format!("{}{nonce}", self.nonce);
        let message = format!("r={nonce},s={},i={}", BASE64.encode(record.salt), record.iterations);
        let exchange = Exchange {
            binding: BASE64.encode(self.gs2),
            auth_message: format!("{},{message},", self.bare),
            nonce,
            stored: *record.stored,
            server: *record.server,
        };
        (exchange, message)
    }
}

/// The state after the server's first message.
pub struct Exchange {
    /// The channel binding that the client's last message must repeat.
    binding: String,
    nonce: String,
    /// Both first messages.
    auth_message: String,
    stored: [u8; KEY_BYTES],
    server: [u8; KEY_BYTES],
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

impl Exchange {
    /// Takes the client's last message. Returns the server's last message, which proves that the server has the record.
    ///
    /// # Errors
    /// The message does not belong to this exchange, or the proof is wrong.
    pub fn answer(self, message: &[u8]) -> Result<String, Failure> {
        const WRONG: Failure = Failure::Malformed("the last SCRAM message is not valid");
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(WRONG)?;
        let mut fields = without_proof.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(WRONG);
        let (binding, nonce) = (field("c=")?, field("r=")?);
        if binding != self.binding {
            return Err(Failure::Malformed("the last SCRAM message has another header than the first"));
        }
        if nonce != self.nonce {
            return Err(Failure::Malformed("the last SCRAM message has another nonce"));
        }
        let proof = BASE64.decode(proof).ok().filter(|proof| proof.len() == KEY_BYTES).ok_or(WRONG)?;
        let auth_message = self.auth_message + without_proof;
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), auth_message.as_bytes());
        let signature = sign(&self.stored);
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let is_right: bool = digest::digest(&digest::SHA256, &client_key).as_ref().ct_eq(&self.stored).into();
        if !is_right {
            return Err(Failure::WrongProof);
        }
        Ok(format!("v={}", BASE64.encode(sign(&self.server))))
    }
}

/// Decodes a name in a message: `,` and `=` are written as `=2C` and `=3D`, and no other `=` may be in it.
fn name(text: &str) -> Option<Cow<'_, str>> {
    if text.is_empty() || text.contains('\0') {
        return None;
    }
    if !text.contains('=') {
        return Some(text.into());
    }
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2)?;
        name.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    Some(name.into())
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    let text = std::str::from_utf8(message).ok().filter(|text| text.len() <= MESSAGE_BYTES_MAX);
    text.ok_or(Failure::Malformed("a SCRAM message cannot be read"))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
