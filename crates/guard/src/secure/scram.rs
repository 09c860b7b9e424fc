//! The client's part of SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677) without channel binding, sans-I/O. The
//! derivation of the keys is separate: it takes from one to hundreds of milliseconds and belongs on another thread
//! (docs/decisions/0117). The server's part is in [`server`].

pub mod server;

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Secret;

/// The fewest accepted iterations: with fewer, a password is easy to guess from an overheard exchange (RFC 7677, section 4);
/// Kafka itself stores none with fewer.
pub const ITERATIONS_MIN: u32 = 4_096;
/// The most accepted iterations: more are a server's attempt to keep us busy. This many take a tenth of a second or two.
pub const ITERATIONS_MAX: u32 = 200_000;
/// The longest message of a server, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;
const SALT_BYTES_MAX: usize = 1_024;
/// The GS2 header: no channel binding, no authorization identity; and its base64.
const GS2: &str = "n,,";
const GS2_BASE64: &str = "biws";

/// The hash of the mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// The state after the client's first message.
#[derive(Debug)]
pub struct First {
    hash: Hash,
    nonce: String,
    /// The message without its GS2 header.
    bare: String,
}

impl First {
    /// Makes the first message. `nonce`: printable ASCII without commas, never used before.
    #[must_use]
    pub fn new(hash: Hash, user: &str, nonce: String) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let message = format!("{GS2}{bare}");
        (Self { hash, nonce, bare }, message)
    }

    /// Takes the server's first message, which has salt and iterations.
    ///
    /// # Errors
    /// What is wrong with the message, in words.
    pub fn server_first(self, message: &[u8]) -> Result<Challenge, String> {
        let server_first = text(message)?;
        let mut fields = server_first.split(',');
        let mut field = |name: &str| {
            let value = fields.next().and_then(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.ok_or_else(|| format!("the server's first SCRAM message has no `{name}` in its place"))
        };
        let (nonce, salt, iterations) = (field("r")?, field("s")?, field("i")?);
        match nonce.strip_prefix(&self.nonce) {
            Some(own) if !own.is_empty() => {}
            _ => return Err("the server's SCRAM nonce does not extend ours: somebody else's answer".to_owned()),
        }
        let salt = BASE64.decode(salt).ok().filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
        let salt = salt.ok_or("the server's SCRAM salt is not valid")?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(count))
            .ok_or_else(|| {
                let count: String = iterations.chars().take(20).collect();
                format!(
                    "the server asks for {count:?} SCRAM iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are accepted"
                )
            })?;
        let without_proof = format!("c={GS2_BASE64},r={nonce}");
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        Ok(Challenge { hash: self.hash, salt, iterations, auth_message, without_proof })
    }
}

/// The state after the server's first message.
#[derive(Debug)]
pub struct Challenge {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    auth_message: String,
    without_proof: String,
}

impl Challenge {
    /// The derivation of the keys for the proof.
    #[must_use]
    pub fn derivation(&self, password: &Secret) -> Derivation {
        Derivation::new(self.hash, password.clone(), self.salt.clone(), self.iterations)
    }

    /// Makes the client's last message, and the answer that the server must give.
    #[must_use]
    pub fn answer(self, keys: &Keys) -> (Expected, String) {
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac(), key), self.auth_message.as_bytes());
        let stored = keys.stored(self.hash);
        let proof: Vec<u8> = keys.client.iter().zip(sign(stored.as_ref()).as_ref()).map(|(a, b)| a ^ b).collect();
        let expected = Expected { signature: sign(&keys.server).as_ref().to_vec() };
        (expected, format!("{},p={}", self.without_proof, BASE64.encode(proof)))
    }
}

/// The state after the client's last message.
#[derive(Debug)]
pub struct Expected {
    signature: Vec<u8>,
}

impl Expected {
    /// Takes the server's last message.
    ///
    /// # Errors
    /// The server refuses, or does not prove that it knows the password.
    pub fn server_final(&self, message: &[u8]) -> Result<(), String> {
        let message = text(message)?;
        let first = message.split(',').next().unwrap_or_default();
        if let Some(why) = first.strip_prefix("e=") {
            return Err(format!("SCRAM error {:?}", why.chars().take(100).collect::<String>()));
        }
        let signature = first.strip_prefix("v=").and_then(|signature| BASE64.decode(signature).ok());
        let signature = signature.ok_or("the server's last SCRAM message has no signature")?;
        if !bool::from(self.signature.ct_eq(&signature)) {
            return Err("the server does not prove that it knows the password: its SCRAM signature is wrong".to_owned());
        }
        Ok(())
    }
}

/// The derivation of keys from a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    hash: Hash,
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
}

impl Derivation {
    /// A derivation for a password that is compared with a stored key.
    #[must_use]
    pub fn new(hash: Hash, password: Secret, salt: Vec<u8>, iterations: u32) -> Self {
        Self { hash, password, salt, iterations }
    }

    /// Derives the keys. Takes 1 ms for 4,096 iterations, up to 100 ms for the most: not for a thread that serves devices.
    #[must_use]
    pub fn keys(&self) -> Keys {
        let mut salted = Zeroizing::new(vec![0; self.hash.digest().output_len()]);
        let iterations = NonZeroU32::new(self.iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(self.hash.pbkdf2(), iterations, &self.salt, self.password.expose(), &mut salted);
        let key = hmac::Key::new(self.hash.hmac(), &salted);
        let named = |name: &str| Zeroizing::new(hmac::sign(&key, name.as_bytes()).as_ref().to_vec());
        Keys { client: named("Client Key"), server: named("Server Key") }
    }
}

/// The keys that are derived from a password.
pub struct Keys {
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// The form of the client's key that a server stores.
    #[must_use]
    pub fn stored(&self, hash: Hash) -> digest::Digest {
        digest::digest(hash.digest(), &self.client)
    }

    /// The keys that a server stores for SCRAM-SHA-256: the client's key, hashed, and its own.
    #[must_use]
    pub fn kept(&self) -> ([u8; server::KEY_BYTES], [u8; server::KEY_BYTES]) {
        let mut kept = ([0; server::KEY_BYTES], [0; server::KEY_BYTES]);
        kept.0.copy_from_slice(self.stored(Hash::Sha256).as_ref());
        kept.1.copy_from_slice(&self.server);
        kept
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

fn text(message: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(message).ok().filter(|text| text.len() <= MESSAGE_BYTES_MAX);
    text.ok_or_else(|| "a SCRAM message of the server cannot be read".to_owned())
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;
