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

/// Fewer iterations make a password easy to guess for who overhears an exchange (RFC 7677, section 4); Kafka itself
/// stores none with fewer.
pub const ITERATIONS_MIN: u32 = 4_096;
/// More are a server's attempt to keep us busy: this many take a tenth of a second or two.
pub const ITERATIONS_MAX: u32 = 200_000;
/// No server's message is longer.
const MESSAGE_BYTES_MAX: usize = 4_096;
const SALT_BYTES_MAX: usize = 1_024;
/// The GS2 header: no channel binding, no authorization identity; and the same in base64.
const GS2: &str = "n,,";
const GS2_BASE64: &str = "biws";

/// Which hash.
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

/// The client's first message is out.
#[derive(Debug)]
pub struct First {
    hash: Hash,
    nonce: String,
    /// The message without its GS2 header.
    bare: String,
}

impl First {
    /// The first message. `nonce`: printable ASCII without commas, never used before.
    #[must_use]
    pub fn new(hash: Hash, user: &str, nonce: String) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let message = format!("{GS2}{bare}");
        (Self { hash, nonce, bare }, message)
    }

    /// Takes the server's first message, which says what to derive.
    ///
    /// # Errors
    /// What is wrong with it, in words.
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

/// The exchange after the server has sent salt and iterations.
#[derive(Debug)]
pub struct Challenge {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    auth_message: String,
    without_proof: String,
}

impl Challenge {
    /// The derivation that the proof needs.
    #[must_use]
    pub fn derivation(&self, password: &Secret) -> Derivation {
        Derivation::new(self.hash, password.clone(), self.salt.clone(), self.iterations)
    }

    /// The client's last message, and what the server has to answer.
    #[must_use]
    pub fn answer(self, keys: &Keys) -> (Expected, String) {
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac(), key), self.auth_message.as_bytes());
        let stored = keys.stored(self.hash);
        let proof: Vec<u8> = keys.client.iter().zip(sign(stored.as_ref()).as_ref()).map(|(a, b)| a ^ b).collect();
        let expected = Expected { signature: sign(&keys.server).as_ref().to_vec() };
        (expected, format!("{},p={}", self.without_proof, BASE64.encode(proof)))
    }
}

/// The client's last message is out.
#[derive(Debug)]
pub struct Expected {
    signature: Vec<u8>,
}

impl Expected {
    /// The server's last message.
    ///
    /// # Errors
    /// It refuses, or does not prove that it knows the password.
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

/// What makes a password into keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    hash: Hash,
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
}

impl Derivation {
    /// Of a password that is compared with a stored key.
    #[must_use]
    pub fn new(hash: Hash, password: Secret, salt: Vec<u8>, iterations: u32) -> Self {
        Self { hash, password, salt, iterations }
    }

    /// The keys. Takes 1 ms for 4,096 iterations, up to 100 ms for the most: not for a thread that serves devices.
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

/// What is derived from a password.
pub struct Keys {
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// What a server keeps of the client's key.
    #[must_use]
    pub fn stored(&self, hash: Hash) -> digest::Digest {
        digest::digest(hash.digest(), &self.client)
    }

    /// What a server keeps of those of SCRAM-SHA-256: of the client's key its hash, and its own.
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
