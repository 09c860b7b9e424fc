//! The token that the process makes for this machine: a user who can read its file may change the service.

use std::fmt;
use std::path::PathBuf;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

/// Name of the token in events.
pub(super) const NAME: &str = "control-token";

/// Digest of the token, and its file. The token itself is not kept.
pub struct OwnToken {
    digest: [u8; 32],
    file: PathBuf,
}

impl fmt::Debug for OwnToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnToken").field(&self.file).finish()
    }
}

impl OwnToken {
    /// Creates it from a token and the file that the token was written to.
    #[must_use]
    pub fn new(token: &str, file: PathBuf) -> Self {
        Self { digest: sha256(token), file }
    }

    pub(super) fn admits(&self, presented: &str) -> bool {
        self.digest.ct_eq(&sha256(presented)).into()
    }

    /// Path of the token's file, for messages.
    pub(super) const fn file(&self) -> &PathBuf {
        &self.file
    }
}

/// SHA-256 of a token. The token is random, so a fast hash reveals nothing.
pub(super) fn sha256(token: &str) -> [u8; 32] {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default()
}
