//! The answer, and its delay, for a user name without a line in the password file: both must look the same as for a wrong
//! password. A name always gets the same form of password, and each form is as frequent among unknown names as among the lines of
//! the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ring::{digest, hmac};

use super::password::{self, SALT_BYTES, SCRAM_ITERATIONS, Stored};

/// The file of the key in `data_dir`.
pub const KEY_FILE: &str = "decoy-key";
/// Bytes of a key's file that are read.
const KEY_BYTES_MAX: u64 = 4 << 10;

/// The secret from which decoys are derived, with the name. With it one could tell which names are unknown.
pub(super) struct Key(hmac::Key);

impl Key {
    /// The key in a file, whatever its contents; a random one without a file, as for a command.
    pub(super) fn of(file: Option<&Path>) -> Self {
        let read = file.and_then(|file| {
            let len = std::fs::metadata(file).ok()?.len();
            (1..=KEY_BYTES_MAX).contains(&len).then(|| std::fs::read(file).ok())?
        });
        let random = || password::random::<32>().map(Vec::from).unwrap_or_default();
        let bytes = read.unwrap_or_else(random);
        Self(hmac::Key::new(hmac::HMAC_SHA512, digest::digest(&digest::SHA256, &bytes).as_ref()))
    }

    fn of_name(&self, what: &str, name: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(what.as_bytes());
        context.update(&[0]);
        context.update(name.as_bytes());
        context.sign()
    }
}

/// Values with their frequencies.
#[derive(Debug)]
struct Shares<T>(Vec<(T, u64)>);

impl<T: Ord> Shares<T> {
    fn of(all: impl IntoIterator<Item = T>) -> Self {
        let mut counts = BTreeMap::new();
        all.into_iter().for_each(|one| *counts.entry(one).or_insert(0) += 1);
        Self(counts.into_iter().collect())
    }
}

impl<T> Shares<T> {
    /// The value that a number selects. Lines that are added or removed change the value of few numbers.
    fn of_number(&self, number: u64) -> Option<&T> {
        let total: u64 = self.0.iter().map(|(_, count)| count).sum();
        let place = (u128::from(number) * u128::from(total)) >> u64::BITS;
        let mut end = 0;
        self.0.iter().find_map(|(one, count)| {
            end += u128::from(*count);
            (place < end).then_some(one)
        })
    }
}

/// The stored passwords for names without a line.
pub(super) struct Decoys {
    key: Key,
    /// The passwords that are compared.
    passwords: Shares<Arc<Stored>>,
    /// Iterations and bytes of salt that SCRAM tells.
    scram: Shares<(u32, usize)>,
}

impl std::fmt::Debug for Decoys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoys").field("passwords", &self.passwords).finish_non_exhaustive()
    }
}

impl Decoys {
    /// Makes decoys for the lines of a file.
    pub(super) fn new<'a>(key: Key, lines: impl IntoIterator<Item = &'a Stored> + Clone) -> Self {
        let passwords = Shares::of(lines.clone().into_iter().map(|stored| Arc::new(stored.decoy())));
        let scram = lines.into_iter().filter_map(Stored::scram);
        Self { key, passwords, scram: Shares::of(scram.map(|record| (record.iterations, record.salt.len()))) }
    }

    /// The password that an unknown name's password is compared with; `None`: the file has no lines.
    pub(super) fn password(&self, name: &str) -> Option<&Arc<Stored>> {
        self.passwords.of_number(number(&self.key.of_name("password", name)))
    }

    /// The salt and iterations that are sent for an unknown name.
    pub(super) fn scram(&self, name: &str) -> (Vec<u8>, u32) {
        let made = self.key.of_name("salt", name);
        let terms = self.scram.of_number(number(&self.key.of_name("scram", name)));
        let (iterations, salt_bytes) = *terms.unwrap_or(&(SCRAM_ITERATIONS, SALT_BYTES));
        (made.as_ref().iter().copied().cycle().take(salt_bytes).collect(), iterations)
    }
}

fn number(tag: &hmac::Tag) -> u64 {
    tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Stored {
        Stored::parse(text).unwrap()
    }

    fn scram(iterations: u32, salt: &[u8]) -> Stored {
        use base64::Engine as _;
        let standard = base64::engine::general_purpose::STANDARD;
        let (key, salt) = (standard.encode([7; 32]), standard.encode(salt));
        line(&format!("SCRAM-SHA-256${iterations}:{salt}${key}:{key}"))
    }

    fn key(dir: &Path) -> Key {
        let file = dir.join("key");
        std::fs::write(&file, "a key").unwrap();
        Key::of(Some(&file))
    }

    /// With a file of two forms, as many unknown names take long as known ones do, and always the same ones.
    #[test]
    fn finding_s13_unknown_names_have_the_forms_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let quick = line(&password::sha512_of(b"one").unwrap());
        let slow = line(&password::argon2id_of(b"one").unwrap());
        let lines = [&quick, &slow, &slow, &slow];
        let decoys = Decoys::new(key(dir.path()), lines);
        let is_quick = |decoys: &Decoys, n: u32| decoys.password(&format!("user-{n}")).unwrap().is_quick();
        let all: Vec<bool> = (0..4_000).map(|n| is_quick(&decoys, n)).collect();
        let quick_ones = all.iter().filter(|quick| **quick).count();
        assert!((800..1_200).contains(&quick_ones), "{quick_ones} of 4000, not a quarter");
        assert!(!decoys.password("user").unwrap().matches(b"one"));
        // The decoys are the same after a restart, and for nearly all names when a user is added.
        let again = Decoys::new(key(dir.path()), lines);
        assert!(all.iter().zip(0..).all(|(known, n)| *known == is_quick(&again, n)));
        let more = Decoys::new(key(dir.path()), lines.into_iter().chain([&slow]));
        let moved = all.iter().zip(0..).filter(|(known, n)| **known != is_quick(&more, *n)).count();
        assert!(moved < 400, "{moved}");
        assert!(Decoys::new(key(dir.path()), []).password("user").is_none());
    }

    /// SCRAM: rare iterations are not a sign of a known user.
    #[test]
    fn finding_s13_unknown_names_are_told_the_terms_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (common, rare) = (scram(10_000, &[1; 64]), scram(4_096, &[1; 16]));
        let decoys = Decoys::new(key(dir.path()), [&common, &rare, &common]);
        let told: Vec<_> = (0..3_000).map(|n| decoys.scram(&format!("user-{n}"))).collect();
        let rare = told.iter().filter(|(salt, iterations)| (salt.len(), *iterations) == (16, 4_096)).count();
        assert!((800..1_200).contains(&rare), "{rare} of 3000, not a third");
        let common = told.iter().filter(|(salt, iterations)| (salt.len(), *iterations) == (64, 10_000)).count();
        assert_eq!(rare + common, told.len());
        assert_eq!(Decoys::new(key(dir.path()), []).scram("dave").1, SCRAM_ITERATIONS);
    }

    /// The key does not follow from the lines of the file.
    #[test]
    fn finding_s13_the_key_is_that_of_its_file_and_not_of_the_lines() {
        let dir = tempfile::tempdir().unwrap();
        let line = scram(4_096, &[1; 16]);
        let told = |key: Key| Decoys::new(key, [&line]).scram("dave");
        assert_eq!(told(key(dir.path())), told(key(dir.path())));
        std::fs::write(dir.path().join("other"), "another").unwrap();
        assert_ne!(told(key(dir.path())), told(Key::of(Some(&dir.path().join("other")))));
        assert_ne!(told(Key::of(None)), told(Key::of(None)));
    }
}
