//! The id of a data directory.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The id of a data directory, which never changes; written as a UUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataDirId(Uuid);

impl DataDirId {
    /// A new id.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid())
    }

    /// The id with this number ([`DataDirId::number`]).
    #[must_use]
    pub const fn from_number(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }

    /// The id as a number, as the spool notes it.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for DataDirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DataDirId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}
