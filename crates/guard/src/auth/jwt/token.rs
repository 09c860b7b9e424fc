//! The three parts of a token (JWS compact serialization, RFC 7515).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Fault, TOKEN_BYTES_MAX};

/// A password in the form of a token, valid or not.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    bytes: &'a [u8],
    /// The offsets of the claims and of the signature.
    parts: (usize, usize),
}

/// The header's statements about the signature. Nothing has proven them yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
}

impl<'a> Token<'a> {
    /// Parses a token. `None`: the bytes are not three parts in base64url with a JSON object first, so they are an ordinary password.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let mut parts = bytes.split(|byte| *byte == b'.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || ![header, claims, signature].into_iter().flatten().all(is_part) {
            return None;
        }
        let token = Self { bytes, parts: (header.len() + 1, header.len() + claims.len() + 2) };
        // A header that is too long by itself is not decoded: it is not worth the memory.
        (header.len() > TOKEN_BYTES_MAX || object(header).is_some()).then_some(token)
    }

    /// The whole token.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn header(&self) -> Result<Header, Fault> {
        if self.bytes.len() > TOKEN_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let members = object(&self.bytes[..self.parts.0 - 1]).ok_or(Fault::Header)?;
        if ["crit", "jku", "x5u"].iter().any(|name| members.contains_key(*name)) {
            return Err(Fault::Extension);
        }
        let text = |name: &str| members.get(name).map(|value| value.as_str().map(str::to_owned).ok_or(Fault::Header));
        let algorithm = text("alg").ok_or(Fault::Header)??;
        Ok(Header { algorithm, key_id: text("kid").transpose()? })
    }

    /// The signed bytes.
    pub(super) fn message(&self) -> &'a [u8] {
        &self.bytes[..self.parts.1 - 1]
    }

    pub(super) fn signature(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(&self.bytes[self.parts.1..]).ok()
    }

    pub(super) fn claims(&self) -> Result<Map<String, Value>, Fault> {
        object(&self.bytes[self.parts.0..self.parts.1 - 1]).ok_or(Fault::Claims)
    }
}

fn object(part: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
