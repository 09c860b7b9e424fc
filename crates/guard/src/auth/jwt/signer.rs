//! An issuer for tests: keys, and tokens that are signed with them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use ring::{hmac, signature};
use serde_json::{Value, json};

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A signing key.
pub(crate) enum Signer {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Hs256(Vec<u8>),
}

impl Signer {
    pub(crate) fn es256() -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Es256(EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap())
    }

    pub(crate) fn eddsa() -> Self {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap())
    }

    fn public(&self) -> &[u8] {
        match self {
            Self::Es256(pair) => pair.public_key().as_ref(),
            Self::EdDsa(pair) => signature::KeyPair::public_key(pair).as_ref(),
            Self::Hs256(secret) => secret,
        }
    }

    /// The public key, as in a set.
    pub(crate) fn jwk(&self, kid: Option<&str>) -> Value {
        let public = self.public();
        let mut key = match self {
            Self::Es256(_) => {
                let (x, y) = (base64url(&public[1..33]), base64url(&public[33..]));
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            Self::EdDsa(_) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(public) }),
            Self::Hs256(_) => json!({ "kty": "oct", "k": base64url(public) }),
        };
        if let Some(kid) = kid {
            key["kid"] = kid.into();
        }
        key
    }

    /// A token with this header and these claims, whatever they say.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = match self {
            Self::Es256(pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Self::Hs256(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes()).as_ref().to_vec()
            }
        };
        format!("{message}.{}", base64url(signature))
    }
}

/// The key set of these keys.
pub(crate) fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}
