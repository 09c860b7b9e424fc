//! The keys of signed tokens: a JSON Web Key Set (RFC 7517), or a secret.

use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::Fault;
use super::token::{Header, Token};

/// The most keys in one set.
const KEYS_MAX: usize = 256;
/// RFC 7518, 3.2: as long as the hash.
const SECRET_BYTES_MIN: usize = 32;
/// Bits of an RSA modulus, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
}

impl Algorithm {
    /// All algorithms of public keys.
    pub const PUBLIC: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// The algorithm's name in `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}

enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point, or 32 bytes of Ed25519.
    Point(Vec<u8>),
    Secret(hmac::Key),
}

/// A key.
pub struct Key {
    /// `kid`; `None`: the key may be the one of any token.
    id: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
    print: u64,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A hash of a key, the same in every version and on every machine, as instances compare them.
fn print(algorithm: Algorithm, of: impl Hash) -> u64 {
    Xxh3DefaultBuilder.hash_one((algorithm.name(), of))
}

impl Key {
    fn public(id: Option<&str>, algorithm: Algorithm, material: Material) -> Self {
        let print = match &material {
            Material::Rsa { n, e } => print(algorithm, (n, e)),
            Material::Point(point) => print(algorithm, point),
            Material::Secret(_) => unreachable!("a secret is not public"),
        };
        Self { id: id.map(Into::into), algorithm, material, print }
    }

    /// The key's print: different keys have different prints.
    #[must_use]
    pub fn print(&self) -> u64 {
        self.print
    }

    /// Whether a check with this key takes about a microsecond.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.algorithm == Algorithm::Hs256
    }

    /// Whether the key has signed this token.
    #[must_use]
    pub fn verifies(&self, token: &Token<'_>) -> bool {
        let Some(signature) = token.signature() else { return false };
        let message = token.message();
        let verified = match (&self.material, self.algorithm) {
            (Material::Rsa { n, e }, _) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature)
            }
            (Material::Point(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
            }
            (Material::Point(point), _) => UnparsedPublicKey::new(&ED25519, point).verify(message, &signature),
            (Material::Secret(secret), _) => hmac::verify(secret, message, &signature),
        };
        verified.is_ok()
    }
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct Keys {
    all: Vec<Arc<Key>>,
}

impl Keys {
    /// Reads a JSON Web Key Set. Keys for encryption, and those of other kinds, are skipped.
    ///
    /// # Errors
    /// The JSON is not a key set, has no usable key, too many keys, or one that is not public.
    pub fn parse(json: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let set: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| format!("is no JSON object: {error}"))?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err("is no JSON Web Key Set: it has no list `keys`".to_owned());
        };
        if list.len() > KEYS_MAX {
            return Err(format!("has {} keys, and may have {KEYS_MAX}", list.len()));
        }
        let mut all = Vec::new();
        for (place, key) in list.iter().enumerate() {
            let key = key.as_object().ok_or_else(|| format!("keys[{place}] is not an object"))?;
            let key = one(key).map_err(|why| format!("keys[{place}] {why}"))?;
            all.extend(key.filter(|key| algorithms.contains(&key.algorithm)).map(Arc::new));
        }
        if all.is_empty() {
            let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return Err(format!("has no key for {}", names.join(", ")));
        }
        Ok(Self { all })
    }

    /// The secret in a file, its line end left out.
    ///
    /// # Errors
    /// The secret is too short.
    pub fn secret(file: &[u8]) -> Result<Self, String> {
        let secret = file.strip_suffix(b"\n").unwrap_or(file);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!("the secret has {} bytes, and must have {SECRET_BYTES_MIN}", secret.len()));
        }
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret));
        let key = Key { id: None, algorithm: Algorithm::Hs256, material, print: print(Algorithm::Hs256, secret) };
        Ok(Self { all: vec![Arc::new(key)] })
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a key has this print.
    #[must_use]
    pub fn has(&self, print: u64) -> bool {
        self.all.iter().any(|key| key.print == print)
    }

    #[cfg(test)]
    pub(super) fn all_prints(&self) -> Vec<u64> {
        self.all.iter().map(|key| key.print).collect()
    }

    /// The keys that a header may refer to: by its algorithm and its `kid`, if it has one.
    pub(super) fn of(&self, header: &Header) -> Result<Vec<Arc<Key>>, Fault> {
        let is_meant = |key: &&Arc<Key>| match (&header.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted.as_str() == &**id,
            (None, _) | (_, None) => true,
        };
        let mut meant = self.all.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            return Err(Fault::UnknownKey);
        }
        let fitting: Vec<_> = meant.filter(|key| key.algorithm.name() == header.algorithm).cloned().collect();
        if fitting.is_empty() { Err(Fault::Algorithm) } else { Ok(fitting) }
    }
}

/// Reads one key of a set; `None`: it is not for tokens, or not of a supported kind.
fn one(key: &Map<String, Value>) -> Result<Option<Key>, String> {
    if let Some(secret) = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().find(|name| key.contains_key(**name)) {
        return Err(format!("is a private key or a secret (`{secret}`); a key set must have public keys only"));
    }
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        let decoded = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
        decoded.ok_or_else(|| format!("has no `{name}`, or one that is not in base64url"))
    };
    let algorithm = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => Algorithm::Rs256,
        (Some("EC"), Some("P-256")) => Algorithm::Es256,
        (Some("OKP"), Some("Ed25519")) => Algorithm::EdDsa,
        _ => return Ok(None),
    };
    let is_for_signatures = text("use").is_none_or(|of| of == "sig");
    let operations = key.get("key_ops").and_then(Value::as_array);
    let verifies = operations.is_none_or(|all| all.iter().any(|of| of.as_str() == Some("verify")));
    // RFC 9864 has a second name for Ed25519.
    let is_named = |name| name == algorithm.name() || algorithm == Algorithm::EdDsa && name == "Ed25519";
    if !is_for_signatures || !verifies || !text("alg").is_none_or(is_named) {
        return Ok(None);
    }
    let coordinate = |name| {
        let bytes = bytes(name)?;
        if bytes.len() == 32 { Ok(bytes) } else { Err(format!("has {} bytes in `{name}`, not 32", bytes.len())) }
    };
    let material = match algorithm {
        Algorithm::Rs256 => {
            let whole =
                |name| bytes(name).map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>());
            let (n, e) = (whole("n")?, whole("e")?);
            if !RSA_BYTES.contains(&n.len()) || e.is_empty() || e.len() > 4 {
                return Err(format!("is an RSA key of {} bits; 2048 to 8192 are accepted", n.len() * 8));
            }
            Material::Rsa { n, e }
        }
        Algorithm::Es256 => Material::Point([vec![4], coordinate("x")?, coordinate("y")?].concat()),
        Algorithm::EdDsa | Algorithm::Hs256 => Material::Point(coordinate("x")?),
    };
    Ok(Some(Key::public(text("kid"), algorithm, material)))
}
