//! JSON Web Tokens (RFC 7519, RFC 8725): which ones are accepted, and who their bearers are.
//!
//! The key decides the algorithm of its signatures, never the token. Keys and URLs in the token's header (`jku`, `x5u`, `jwk`)
//! are not used, `exp` is required, and a token with `crit` is refused, as no extension is supported.

mod claims;
mod keys;
mod remote;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use forebay_base::limits::CLOCK_SET_AFTER_MS;

pub use self::claims::Bearer;
pub use self::keys::{Algorithm, Key, Keys};
pub use self::remote::Remote;
pub use self::token::Token;
pub use forebay_base::limits::TOKEN_BYTES_MAX;

/// The most keys that are tried for a token without a `kid`.
pub const KEYS_TRIED_MAX: usize = 4;

/// `[auth.NAME.jwt]`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The source of the keys.
    pub keys: Source,
    /// The required `iss`.
    pub issuer: Option<String>,
    /// Accepted values of `aud`, of which a token must have one; empty: `aud` is not checked.
    pub audience: Vec<String>,
    /// The accepted algorithms: keys of others are not used.
    pub algorithms: Vec<Algorithm>,
    /// The largest accepted difference between the clocks of the issuer and of this machine.
    pub leeway: Duration,
    /// The field of CONNECT that has the token.
    pub from: Field,
    /// The claim with the identity.
    pub identity_claim: String,
    /// The claim that must equal the client identifier.
    pub client_id_claim: Option<String>,
    /// The claim with the bearer's grants.
    pub acl_claim: String,
    /// The claim with the bearer's roles.
    pub roles_claim: Option<String>,
}

/// A source of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Public keys: a JSON Web Key Set.
    JwksFile(PathBuf),
    /// Public keys: a JSON Web Key Set at a URL.
    JwksUrl(Remote),
    /// One secret that the issuer and Forebay share.
    SecretFile(PathBuf),
}

impl Source {
    /// The file of the keys.
    #[must_use]
    pub fn file(&self) -> &std::path::Path {
        match self {
            Self::JwksFile(path) | Self::SecretFile(path) | Self::JwksUrl(Remote { file: path, .. }) => path,
        }
    }
}

/// A field of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The password.
    Password,
    /// The user name.
    Username,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The token is longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// The header has no algorithm, or a member of the wrong type.
    Header,
    /// The header has `crit`, `jku` or `x5u`.
    Extension,
    /// No key is of the header's algorithm.
    Algorithm,
    /// No key has the header's `kid`.
    UnknownKey,
    /// The header has no `kid`, and more than [`KEYS_TRIED_MAX`] keys match.
    ManyKeys,
    /// The signature is wrong.
    Signature,
    /// The payload is not a JSON object, or a claim has the wrong type.
    Claims,
    /// No `exp`.
    NoExpiry,
    /// The token has expired.
    Expired,
    /// `nbf` is in the future.
    NotYet,
    /// `iss` is another one, or missing.
    Issuer,
    /// `aud` has none of `audience`.
    Audience,
    /// The token has no identity, or not a valid one.
    Identity,
    /// The token does not name its client identifier.
    ClientId,
    /// The grants are not understood, or too many.
    Acl,
    /// The roles are neither a string nor a list of strings, or too many.
    Roles,
    /// The clock of this machine is not set.
    Clock,
    /// The keys were fetched longer than `stale_max` ago.
    StaleKeys,
}

impl Fault {
    /// The reason for the operator. The client learns only that its token has expired, or is not valid.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::TooLong => "token: longer than 8 KiB",
            Self::Header => "token: its header has no alg, or a kid that is not a string",
            Self::Extension => "token: crit, jku or x5u in its header",
            Self::Algorithm => "token: no key is for the algorithm in its header",
            Self::UnknownKey => "token: no key has its kid",
            Self::ManyKeys => "token: no kid in its header, and more than 4 keys could be meant",
            Self::Signature => "token: the signature is wrong",
            Self::Claims => "token: its claims are not a JSON object, or one has the wrong type",
            Self::NoExpiry => "token: no exp",
            Self::Expired => "token: it has expired",
            Self::NotYet => "token: it is not valid yet (nbf)",
            Self::Issuer => "token: another issuer",
            Self::Audience => "token: for another audience",
            Self::Identity => "token: the claim that says who the client is (identity_claim) is missing, or no name",
            Self::ClientId => "token: the claim of the client ID (client_id_claim) is missing, or no client ID",
            Self::Acl => "token: the claim of permissions (acl_claim) is not understood, or has more than 256 rules",
            Self::Roles => {
                "token: the claim of roles (roles_claim) is neither a string nor a list of strings, or has more than 256"
            }
            Self::Clock => "token: the clock of this machine is not set",
            Self::StaleKeys => "token: the key set could not be fetched for stale_max",
        }
    }
}

/// Settings with the keys.
pub struct Tokens {
    settings: Settings,
    keys: Keys,
    /// A token had a `kid` without a key.
    has_missed: AtomicBool,
    /// The time until which the keys may be used.
    term: Term,
}

/// The time until which fetched keys may be used. Each user of the keys checks it: keys that are too old are not used, even if
/// they have not been removed yet.
#[derive(Debug)]
struct Term {
    remote: Option<Remote>,
    /// The end of the keys' validity, unless the file has become newer. In ms since 1970 by the clock of this machine.
    until_ms: AtomicI64,
}

impl Term {
    fn of(settings: &Settings) -> Self {
        let remote = match &settings.keys {
            Source::JwksUrl(remote) => Some(remote.clone()),
            Source::JwksFile(_) | Source::SecretFile(_) => None,
        };
        Self { remote, until_ms: AtomicI64::new(i64::MIN) }
    }

    /// Whether the keys may still be used. The file's age is read again once the known time is over: a fetch that brings the same
    /// keys makes the file newer.
    fn holds(&self, wall_ms: i64) -> bool {
        let Some(remote) = &self.remote else { return true };
        if wall_ms < self.until_ms.load(Ordering::Relaxed) {
            return true;
        }
        let modified = std::fs::metadata(&remote.file).and_then(|file| file.modified()).ok();
        let fetched = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        // A time stamp in the future, from a clock that was ahead, counts as new: the fetching thread does the same.
        let until = fetched.map(|at| millis(at).min(wall_ms).saturating_add(millis(remote.stale_max)));
        let Some(until) = until.filter(|until| wall_ms < *until) else { return false };
        self.until_ms.store(until, Ordering::Relaxed);
        true
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the keys from the contents of a file.
    ///
    /// # Errors
    /// Why the file has no usable keys.
    pub fn new(settings: &Settings, file: &[u8]) -> Result<Self, String> {
        let keys = match settings.keys {
            Source::JwksFile(_) | Source::JwksUrl(_) => Keys::parse(file, &settings.algorithms)?,
            Source::SecretFile(_) => Keys::secret(file)?,
        };
        Ok(Self { settings: settings.clone(), keys, has_missed: AtomicBool::new(false), term: Term::of(settings) })
    }

    /// Tokens without keys, as they have not been fetched yet: every token is refused.
    #[must_use]
    pub fn without_keys(settings: &Settings) -> Self {
        let (keys, term) = (Keys::default(), Term::of(settings));
        Self { settings: settings.clone(), keys, has_missed: AtomicBool::new(false), term }
    }

    /// Whether a token has named a missing key since the last call.
    #[must_use]
    pub fn has_missed(&self) -> bool {
        self.has_missed.swap(false, Ordering::Relaxed)
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The token of a CONNECT; `None`: the field is missing or not a token.
    #[must_use]
    pub fn find<'a>(&self, username: Option<&'a str>, password: Option<&'a [u8]>) -> Option<Token<'a>> {
        let field = match self.settings.from {
            Field::Password => password,
            Field::Username => username.map(str::as_bytes),
        };
        field.and_then(Token::read)
    }

    /// Whether user names are tokens, which are shown nowhere.
    #[must_use]
    pub fn are_usernames(&self) -> bool {
        self.settings.from == Field::Username
    }

    /// The keys that a token may be signed with. No signature is computed for that.
    ///
    /// # Errors
    /// Why there are none.
    pub fn keys_for(&self, token: &Token<'_>) -> Result<Vec<Arc<Key>>, Fault> {
        let header = token.header()?;
        let keys = self.keys.of(&header).inspect_err(|fault| {
            if *fault == Fault::UnknownKey {
                self.has_missed.store(true, Ordering::Relaxed);
            }
        })?;
        if keys.len() > KEYS_TRIED_MAX { Err(Fault::ManyKeys) } else { Ok(keys) }
    }

    /// Checks a token. Returns its bearer. `keys`: the right one is among them; with `is_known` and one key only, the signature
    /// is known to be right.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn judge(
        &self,
        token: &Token<'_>,
        keys: &[Arc<Key>],
        is_known: bool,
        wall_ms: i64,
    ) -> Result<(Bearer, u64), Fault> {
        let key = match keys {
            [key] if is_known => key,
            keys => keys.iter().find(|key| key.verifies(token)).ok_or(Fault::Signature)?,
        };
        if wall_ms < CLOCK_SET_AFTER_MS {
            return Err(Fault::Clock);
        }
        if !self.term.holds(wall_ms) {
            return Err(Fault::StaleKeys);
        }
        let now_s = u64::try_from(wall_ms / 1_000).unwrap_or_default();
        claims::check(&token.claims()?, &self.settings, now_s).map(|bearer| (bearer, key.print()))
    }
}

#[cfg(test)]
pub(crate) mod signer;
#[cfg(test)]
mod tests;
