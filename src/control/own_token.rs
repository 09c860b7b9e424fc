//! The token that a start makes for this machine: a user who can read its file may change the service.

use std::fmt;
use std::path::PathBuf;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

/// The name that events have for it.
pub(super) const NAME: &str = "control-token";

/// See the module. The token itself is not kept.
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
    /// A token, and the file that it was written to.
    #[must_use]
    pub fn new(token: &str, file: PathBuf) -> Self {
        Self { digest: sha256(token), file }
    }

    pub(super) fn admits(&self, presented: &str) -> bool {
        self.digest.ct_eq(&sha256(presented)).into()
    }

    /// Where it is, for messages.
    pub(super) const fn file(&self) -> &PathBuf {
        &self.file
    }
}

/// Of a token of random bytes a fast hash tells nothing.
pub(super) fn sha256(token: &str) -> [u8; 32] {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default()
}
