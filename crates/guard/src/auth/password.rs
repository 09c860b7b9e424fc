//! A stored password, in the forms of a password file: mosquitto's, argon2id, and SCRAM's.
//!
//! | form | costs a core |
//! |---|---|
//! | `$6$salt$hash`: one SHA-512 over password and salt | less than a microsecond |
//! | `$7$iterations$salt$hash`: PBKDF2-HMAC-SHA-512 | 0.5 µs an iteration |
//! | `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$salt$hash` | 18 ms for 19 MiB and two passes |
//! | `SCRAM-SHA-256$iterations:salt$stored:server`, as PostgreSQL writes it | 0.2 µs an iteration |

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::secure::Secret;
use crate::secure::scram::server::{KEY_BYTES, Record};
use crate::secure::scram::{Derivation, Hash};

/// The bounds of one check: about half a second of a core, and 64 MiB.
const ITERATIONS_MAX: u32 = 1_000_000;
const MEMORY_KIB_MAX: u32 = 64 << 10;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 16;
const SALT_BYTES_MAX: usize = 1_024;
/// The length of mosquitto's SHA-512 in both of its forms.
const SHA512_BYTES: usize = 64;
const SHA256_BYTES: usize = 32;
/// The cost of `forebay passwd`: OWASP's first choice for argon2id.
const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 2;
pub(super) const SALT_BYTES: usize = 16;
/// The standard's minimum (RFC 7677, section 4): small devices derive the key themselves.
pub(super) const SCRAM_ITERATIONS: u32 = 4_096;
/// The cost of a new `$7$` where no other line sets it: 50 ms of a core.
const PBKDF2_ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
/// The length of the salt: mosquitto before 2.1 takes no other.
const SHA512_SALT_BYTES: usize = 12;

/// A password as its file stores it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    form: Form,
    salt: Vec<u8>,
    hash: Vec<u8>,
    /// The keys of SCRAM: the client's key, hashed, and the server's key.
    keys: Option<Box<[[u8; KEY_BYTES]; 2]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Sha512,
    Pbkdf2 { iterations: NonZeroU32 },
    Argon2id { memory_kib: u32, passes: u32, lanes: u32 },
    Scram { iterations: NonZeroU32 },
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.form)
    }
}

impl Stored {
    /// Reads a stored password.
    ///
    /// # Errors
    /// Why it is not a stored password, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
            return scram(rest);
        }
        let Some(rest) = text.strip_prefix('$') else {
            return Err("is no hash of a password: `forebay passwd` or `mosquitto_passwd` writes one".to_owned());
        };
        let fields: Vec<&str> = rest.split('$').collect();
        match fields[..] {
            ["6", salt, hash] => {
                Self { form: Form::Sha512, salt: bytes(salt)?, hash: bytes(hash)?, keys: None }.checked()
            }
            ["7", iterations, salt, hash] => {
                let form = Form::Pbkdf2 { iterations: iterated(iterations)? };
                Self { form, salt: bytes(salt)?, hash: bytes(hash)?, keys: None }.checked()
            }
            ["argon2id", "v=19", params, salt, hash] => {
                Self { form: argon2id(params)?, salt: bytes(salt)?, hash: bytes(hash)?, keys: None }.checked()
            }
            _ => Err("has a form that is not known: $6$, $7$, $argon2id$v=19$ and SCRAM-SHA-256$ are".to_owned()),
        }
    }

    fn checked(self) -> Result<Self, String> {
        let len = match self.form {
            Form::Sha512 | Form::Pbkdf2 { .. } => SHA512_BYTES..=SHA512_BYTES,
            Form::Argon2id { .. } => 16..=SHA512_BYTES,
            Form::Scram { .. } => SHA256_BYTES..=SHA256_BYTES,
        };
        if !len.contains(&self.hash.len()) {
            return Err(format!("its hash has {} bytes, which is not the length of its form", self.hash.len()));
        }
        // Argon2's own bound.
        let salt_min = if matches!(self.form, Form::Argon2id { .. }) { 8 } else { 1 };
        if !(salt_min..=SALT_BYTES_MAX).contains(&self.salt.len()) {
            return Err(format!("its salt has {} bytes: {salt_min} to {SALT_BYTES_MAX} are accepted", self.salt.len()));
        }
        Ok(self)
    }

    /// Whether this is the hash of `password`. Takes up to half a second: not for a thread that serves devices.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        let computed = match self.form {
            Form::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                Zeroizing::new(context.finish().as_ref().to_vec())
            }
            Form::Pbkdf2 { iterations } => {
                let mut out = Zeroizing::new(vec![0; SHA512_BYTES]);
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &self.salt, password, &mut out);
                out
            }
            Form::Argon2id { memory_kib, passes, lanes } => {
                let mut out = Zeroizing::new(vec![0; self.hash.len()]);
                let params = Params::new(memory_kib, passes, lanes, Some(out.len()));
                let done = params.and_then(|params| {
                    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                        .hash_password_into(password, &self.salt, &mut out)
                });
                if done.is_err() {
                    return false;
                }
                out
            }
            Form::Scram { iterations } => {
                let password = Secret::new(password.to_vec());
                let keys = Derivation::new(Hash::Sha256, password, self.salt.clone(), iterations.get()).keys();
                Zeroizing::new(keys.stored(Hash::Sha256).as_ref().to_vec())
            }
        };
        computed.ct_eq(&self.hash).into()
    }

    /// Whether a check is quick enough for a core that serves devices: that of a random password of 160 bits.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.form == Form::Sha512
    }

    /// The kind of hash.
    #[must_use]
    pub const fn hashing(&self) -> Hashing {
        match self.form {
            Form::Sha512 => Hashing::Sha512,
            Form::Pbkdf2 { iterations } => Hashing::Pbkdf2 { iterations },
            Form::Argon2id { .. } => Hashing::Argon2id,
            Form::Scram { .. } => Hashing::Scram,
        }
    }

    /// The data for an exchange by SCRAM, if the password has that form.
    #[must_use]
    pub fn scram(&self) -> Option<Record<'_>> {
        let (Form::Scram { iterations }, Some(keys)) = (self.form, &self.keys) else { return None };
        let [stored, server] = &**keys;
        Some(Record { salt: &self.salt, iterations: iterations.get(), stored, server })
    }

    /// A stored password with the same cost that matches no password: unknown users are answered as late as known ones. Decoys of
    /// the same cost are equal.
    #[must_use]
    pub fn decoy(&self) -> Self {
        Self { form: self.form, salt: vec![0; self.salt.len()], hash: vec![0; self.hash.len()], keys: None }
    }

    /// Gives all bytes of the stored password to `with`: a proof of a password depends on them.
    pub(super) fn identify(&self, mut with: impl FnMut(&[u8])) {
        with(format!("{:?}", self.form).as_bytes());
        with(&self.salt);
        with(&self.hash);
    }
}

/// A kind of hash for new passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    /// `$argon2id$`, for passwords that a person has chosen.
    Argon2id,
    /// `$6$`, for random ones.
    Sha512,
    /// `$7$`, as every mosquitto reads it.
    Pbkdf2 {
        /// Iterations.
        iterations: NonZeroU32,
    },
    /// `SCRAM-SHA-256$`, with the keys of SCRAM.
    Scram,
}

impl Hashing {
    /// The kind's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Argon2id => "argon2id",
            Self::Sha512 => "sha512",
            Self::Pbkdf2 { .. } => "pbkdf2",
            Self::Scram => "scram",
        }
    }

    /// The kind with this name, at its usual cost.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Argon2id, Self::Sha512, Self::Pbkdf2 { iterations: PBKDF2_ITERATIONS }, Self::Scram];
        all.into_iter().find(|one| one.word() == word)
    }
}

/// Hashes a password, as a field of a password file.
///
/// # Errors
/// As [`argon2id_of`] and [`scram_of`].
pub fn hashed(how: Hashing, password: &[u8]) -> Result<String, String> {
    match how {
        Hashing::Argon2id => argon2id_of(password),
        Hashing::Sha512 => sha512_of(password),
        Hashing::Pbkdf2 { iterations } => pbkdf2_of(password, iterations),
        Hashing::Scram => scram_of(password),
    }
}

/// Hashes a password that a person has chosen, as a field of a password file.
///
/// # Errors
/// The system gives no random numbers.
pub fn argon2id_of(password: &[u8]) -> Result<String, String> {
    let salt: [u8; SALT_BYTES] = random()?;
    let mut hash = [0; SHA256_BYTES];
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(hash.len())).map_err(|error| error.to_string())?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, &salt, &mut hash)
        .map_err(|error| error.to_string())?;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${salt}${hash}"))
}

/// Hashes a password of 160 random bits, which cannot be guessed however quick a guess is.
///
/// # Errors
/// The system gives no random numbers.
pub fn sha512_of(password: &[u8]) -> Result<String, String> {
    let salt: [u8; SHA512_SALT_BYTES] = random()?;
    let mut context = digest::Context::new(&digest::SHA512);
    context.update(password);
    context.update(&salt);
    Ok(format!("$6${}${}", STANDARD.encode(salt), STANDARD.encode(context.finish())))
}

/// Hashes a password so that mosquitto before 2.1 reads it, too.
fn pbkdf2_of(password: &[u8], iterations: NonZeroU32) -> Result<String, String> {
    let salt: [u8; SHA512_SALT_BYTES] = random()?;
    let mut hash = [0; SHA512_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, password, &mut hash);
    Ok(format!("$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash)))
}

/// Hashes a password for logins by SCRAM, in PostgreSQL's form.
///
/// # Errors
/// The system gives no random numbers; or the password is not ASCII: clients normalize others before they derive keys from
/// them (SASLprep), and do not agree on how.
pub fn scram_of(password: &[u8]) -> Result<String, String> {
    if !password.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Err("a password for SCRAM must be printable ASCII: clients do not agree on how others are normalized"
            .to_owned());
    }
    let salt: [u8; SALT_BYTES] = random()?;
    let derivation = Derivation::new(Hash::Sha256, Secret::new(password.to_vec()), salt.to_vec(), SCRAM_ITERATIONS);
    let (stored, server) = derivation.keys().kept();
    let [salt, stored, server] = [&salt[..], &stored, &server].map(|bytes| STANDARD.encode(bytes));
    Ok(format!("SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt}${stored}:{server}"))
}

/// A random password of 160 bits, in hexadecimal digits: it cannot be guessed, however quick a guess is.
///
/// # Errors
/// The system gives no random numbers.
pub fn generated() -> Result<String, String> {
    let bytes: [u8; 20] = random()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Random bytes.
///
/// # Errors
/// The system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(bytes)
}

/// Base64, padded or not.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| "has a part that is not base64".to_owned())
}

fn iterated(text: &str) -> Result<NonZeroU32, String> {
    let iterations = text.parse().ok().and_then(NonZeroU32::new).filter(|count| count.get() <= ITERATIONS_MAX);
    iterations.ok_or_else(|| format!("has {text:?} iterations: 1 to {ITERATIONS_MAX} are accepted"))
}

fn argon2id(params: &str) -> Result<Form, String> {
    let mut fields = params.split(',');
    let mut field = |name: &str, max: u32| {
        let text = fields.next().and_then(|field| field.strip_prefix(name)?.strip_prefix('='));
        let number = text.and_then(|text| text.parse::<u32>().ok()).filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| format!("has an argon2id parameter `{name}` outside of 1 to {max}, or none in its place"))
    };
    let form = Form::Argon2id {
        memory_kib: field("m", MEMORY_KIB_MAX)?,
        passes: field("t", PASSES_MAX)?,
        lanes: field("p", LANES_MAX)?,
    };
    let Form::Argon2id { memory_kib, lanes, .. } = form else { unreachable!("made above") };
    if memory_kib < 8 * lanes || fields.next().is_some() {
        return Err("has argon2id parameters that do not go together".to_owned());
    }
    Ok(form)
}

fn scram(rest: &str) -> Result<Stored, String> {
    let wrong = || "is no SCRAM record: SCRAM-SHA-256$iterations:salt$stored:server".to_owned();
    let (cost, keys) = rest.split_once('$').ok_or_else(wrong)?;
    let (iterations, salt) = cost.split_once(':').ok_or_else(wrong)?;
    let (stored, server) = keys.split_once(':').ok_or_else(wrong)?;
    let (hash, server) = (bytes(stored)?, bytes(server)?);
    let (Ok(client), Ok(server)) = (hash.as_slice().try_into(), server.try_into()) else { return Err(wrong()) };
    let form = Form::Scram { iterations: iterated(iterations)? };
    Stored { form, salt: bytes(salt)?, keys: Some(Box::new([client, server])), hash }.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of the password `secret`. Written by mosquitto_passwd 2.0.11 (`-H sha512`, and its default) and by argon2-cffi 25
    /// (the second with a salt and a hash as long as mosquitto's); the last by Python's hashlib, after RFC 5803.
    const KNOWN: &[&str] = include!("password_vectors.rs");

    /// X28: lines of mosquitto_passwd, argon2 and PostgreSQL.
    #[test]
    fn what_other_programs_wrote_is_understood() {
        for text in KNOWN {
            let stored = Stored::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert!(stored.matches(b"secret"), "{text}");
            assert!(!stored.matches(b"Secret") && !stored.matches(b""), "{text}");
            assert!(!stored.decoy().matches(b"secret"), "{text}");
        }
    }

    /// X29: argon2id, and the quick hash of generated passwords.
    #[test]
    fn what_we_write_is_understood() {
        let (slow, quick) = (argon2id_of(b"pass word").unwrap(), sha512_of(b"pass word").unwrap());
        let scram = scram_of(b"pass word").unwrap();
        assert!(scram_of("pässword".as_bytes()).is_err());
        for text in [&slow, &quick, &scram] {
            let stored = Stored::parse(text).unwrap();
            assert!(stored.matches(b"pass word") && !stored.matches(b"pass"), "{text}");
        }
        assert_ne!(slow, argon2id_of(b"pass word").unwrap(), "salted");
        assert!(Stored::parse(&quick).unwrap().is_quick() && !Stored::parse(&slow).unwrap().is_quick());
    }

    #[test]
    fn each_way_of_hashing_is_understood_and_known_again() {
        for word in ["argon2id", "sha512", "pbkdf2", "scram"] {
            let how = Hashing::of_word(word).expect(word);
            let stored = Stored::parse(&hashed(how, b"pass word").unwrap()).unwrap();
            assert!(stored.matches(b"pass word") && !stored.matches(b"pass"), "{word}");
            assert_eq!((stored.hashing(), how.word()), (how, word));
        }
        assert_eq!(Hashing::of_word("md5"), None);
    }

    /// X25, X28: hashes that cost more than is allowed.
    #[test]
    fn what_is_none_or_too_dear_is_refused() {
        let (salt, hash) = (STANDARD.encode([1; 12]), STANDARD.encode([2; 64]));
        for (text, why) in [
            ("secret".to_owned(), "is no hash"),
            (format!("$5${salt}${hash}"), "a form that is not known"),
            (format!("$6${salt}"), "a form that is not known"),
            (format!("$6$${hash}"), "salt has 0 bytes"),
            (format!("$6${salt}${}", STANDARD.encode([2; 32])), "hash has 32 bytes"),
            (format!("$6$!!${hash}"), "not base64"),
            (format!("$7$0${salt}${hash}"), "iterations"),
            (format!("$7$1000001${salt}${hash}"), "iterations"),
            (format!("$argon2id$v=16$m=8,t=1,p=1${salt}${hash}"), "a form that is not known"),
            (format!("$argon2id$v=19$m=65537,t=1,p=1${salt}${hash}"), "`m`"),
            (format!("$argon2id$v=19$m=8,t=1,p=2${salt}${hash}"), "do not go together"),
            (format!("$argon2id$v=19$m=64,t=1,p=1${}${hash}", STANDARD.encode([1; 4])), "salt has 4 bytes"),
            ("SCRAM-SHA-256$4096:AAAA$AAAA".to_owned(), "is no SCRAM record"),
        ] {
            let refused = Stored::parse(&text).expect_err(&text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn a_hash_is_not_shown() {
        let shown = format!("{:?}", Stored::parse(KNOWN[0]).unwrap());
        assert_eq!(shown, "Sha512");
    }
}
