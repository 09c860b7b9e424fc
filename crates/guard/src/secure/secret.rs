//! A password or a token: never shown, zeroed when the last holder drops it.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A secret (see the module). Clones share the bytes, so that there is one place to zero.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The secret in a file's bytes: without the line end that editors and `echo` add.
    #[must_use]
    pub fn of_file(bytes: Vec<u8>) -> Self {
        let bytes = Zeroizing::new(bytes);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Self::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }

    /// The bytes, for computing or sending.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    /// X69: a secret shows as `***`.
    #[test]
    fn is_not_shown() {
        let shown = format!("{:?} {:#?}", Secret::new(b"hunter2".to_vec()), Some(Secret::new(b"hunter2".to_vec())));
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
    }

    #[test]
    fn a_file_ends_with_a_line_end_or_not() {
        for (file, secret) in [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n", "pw"), (" pw \n", " pw "), ("pw\n\n", "pw\n")] {
            assert_eq!(Secret::of_file(file.into()), Secret::new(secret.into()));
        }
        assert_ne!(Secret::new(b"a".to_vec()), Secret::new(b"b".to_vec()));
        assert_ne!(Secret::new(b"a".to_vec()), Secret::new(b"aa".to_vec()));
    }
}
