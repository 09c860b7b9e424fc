//! Tokens of `control.tokens_file`: names, roles and hashes, and the check of a request's token.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use axum::http::{HeaderMap, StatusCode};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::auth::{Holder, bearer, may};
use super::guesses::Guesses;
use super::own_token::sha256;
use super::problem::Problem;
use forebay_base::address::Address;

/// Role of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// GET.
    Read,
    /// Everything.
    Write,
}

/// Stored form of a token.
enum Stored {
    /// SHA-256. The tokens that `forebay token` makes are random: no slower hash would make them harder to guess.
    Fast([u8; 32]),
    /// argon2id, which earlier versions wrote.
    Slow(Box<PasswordHash>),
}

struct Token {
    name: String,
    role: Role,
    stored: Stored,
    /// Digest of the stored form: a different digest is a different token, whatever its name.
    print: [u8; 32],
}

/// A file's path and metadata, which change when the file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            modified: metadata.as_ref().and_then(|file| file.modified().ok()),
            bytes: metadata.as_ref().map_or(0, MetadataExt::size),
            inode: metadata.as_ref().map_or(0, MetadataExt::ino),
        }
    }

    /// Whether the file was written so recently that more writes may follow.
    fn is_fresh(&self) -> bool {
        self.modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age < SETTLED_AFTER)
    }
}

/// The tokens of a file.
pub struct Tokens {
    /// State of the file when it was last checked; `None`: the tokens are not from a file.
    seen: Mutex<Option<Stamp>>,
    tokens: Vec<Token>,
    /// Digests of verified tokens with slow hashes, each with the token's index.
    verified: Mutex<Vec<([u8; 32], usize)>>,
    /// Admits one slow verification at a time: guessing costs one core at most.
    busy: Arc<Semaphore>,
    /// Addresses of the requests that wait for a slow verification or run it.
    waiting: Arc<Mutex<Vec<Address>>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tokens.iter().map(|token| (&token.name, token.role))).finish()
    }
}

/// Time since the last write to a file before the file is read again.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Limit of the tokens in a file.
const TOKENS_MAX: usize = 64;
/// Prefix of a SHA-256 digest in hexadecimal.
const SHA256: &str = "sha256:";
/// Limits of requests that wait for slow verifications: of all, and of one address.
const WAITING_MAX: usize = 16;
const WAITING_OF_ADDRESS_MAX: usize = 4;

/// Requests refused since the process began because too many waited for slow verifications.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// See [`REFUSED`].
pub(super) fn checks_refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// A place among the waiting requests, freed when dropped.
struct Waits {
    waiting: Arc<Mutex<Vec<Address>>>,
    address: Address,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = waiting.iter().position(|address| *address == self.address) {
            waiting.swap_remove(place);
        }
    }
}

impl Tokens {
    /// Reads `control.tokens_file`.
    ///
    /// # Errors
    /// The file cannot be read, or a line is wrong: the line and the reason.
    pub fn read(path: &Path) -> Result<Self, String> {
        let stamp = Stamp::of(path);
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let tokens = text.and_then(|text| Self::parse(&text));
        let tokens = tokens.map_err(|why| format!("control.tokens_file {}: {why}", path.display()))?;
        Ok(Self { seen: Mutex::new(Some(stamp)), ..tokens })
    }

    /// The tokens of the same file, if it has changed since the last check; a mistake is reported once.
    pub fn renewed(&self) -> Option<Result<Self, String>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.as_ref()?;
        let now = Stamp::of(&known.path);
        if now == *known || now.is_fresh() {
            return None;
        }
        let renewed = Self::read(&now.path);
        *seen = Some(now);
        Some(renewed)
    }

    /// The line of a new token, `NAME ROLE HASH`.
    #[must_use]
    pub fn line(name: &str, role: &str, token: &str) -> String {
        let digits: String = sha256(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {role} {SHA256}{digits}")
    }

    /// Parses lines `NAME ROLE HASH`; skips empty lines and lines that begin with `#`.
    ///
    /// # Errors
    /// The wrong line, and the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let [name, role, hash] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(format!("line {number}: a line is `NAME ROLE HASH`; `forebay token NAME` prints one"));
            };
            let role = match role {
                "read" => Role::Read,
                "write" => Role::Write,
                _ => return Err(format!("line {number}: the role must be one of read, write, not {role:?}")),
            };
            let stored = stored(hash).ok_or(format!(
                "line {number}: neither sha256: with 64 hexadecimal digits nor an argon2id hash; `forebay token {name}` prints one"
            ))?;
            if tokens.iter().any(|token| token.name == name) {
                return Err(format!("line {number}: there is another token {name:?}"));
            }
            tokens.push(Token { name: name.to_owned(), role, stored, print: sha256(hash) });
        }
        match tokens.len() {
            0 => Err("there is no token in it; `forebay token NAME` prints a line for it".to_owned()),
            1..=TOKENS_MAX => Ok(Self {
                seen: Mutex::default(),
                tokens,
                verified: Mutex::default(),
                busy: Arc::new(Semaphore::new(1)),
                waiting: Arc::default(),
            }),
            count => Err(format!("{count} tokens; at most {TOKENS_MAX}")),
        }
    }

    /// Number of tokens, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a file without tokens is refused")]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Names of the tokens with a slow hash: requests with them may have to wait while others are verified.
    pub fn slow(&self) -> impl Iterator<Item = &str> {
        let slow = self.tokens.iter().filter(|token| matches!(token.stored, Stored::Slow(_)));
        slow.map(|token| token.name.as_str())
    }

    /// The role of a token that was verified before, if the token is unchanged.
    pub(super) fn role(&self, name: &str, print: &[u8; 32]) -> Option<Role> {
        self.tokens.iter().find(|token| token.name == name && token.print == *print).map(|token| token.role)
    }

    /// The index of a token that needs no slow verification. Compares with all, so that the time reveals nothing.
    fn known(&self, digest: &[u8; 32]) -> Option<usize> {
        let fast = self.tokens.iter().enumerate().filter_map(|(place, token)| match &token.stored {
            Stored::Fast(stored) => Some((stored, place)),
            Stored::Slow(_) => None,
        });
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let all = fast.chain(verified.iter().map(|(stored, place)| (stored, *place)));
        all.fold(None, |found, (stored, place)| if stored.ct_eq(digest).into() { Some(place) } else { found })
    }

    /// Takes a place among the requests that wait for a slow verification; `None`: too many wait.
    fn wait(&self, address: Address) -> Option<Waits> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = waiting.iter().filter(|other| **other == address).count();
        if waiting.len() >= WAITING_MAX || of_address >= WAITING_OF_ADDRESS_MAX {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        waiting.push(address);
        Some(Waits { waiting: Arc::clone(&self.waiting), address })
    }

    /// The index of a token with a slow hash. Takes tens of milliseconds for each such token of the file.
    fn verify(&self, presented: &str) -> Option<usize> {
        let fits = |token: &Token| match &token.stored {
            Stored::Slow(hash) => Argon2::default().verify_password(presented.as_bytes(), &**hash).is_ok(),
            Stored::Fast(_) => false,
        };
        let place = self.tokens.iter().position(fits)?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256(presented);
        if !verified.iter().any(|(other, _)| *other == digest) {
            verified.push((digest, place));
        }
        Some(place)
    }
}

fn stored(hash: &str) -> Option<Stored> {
    if let Some(digits) = hash.strip_prefix(SHA256) {
        let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
        let is_hex = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
        return bytes.filter(|_| is_hex)?.try_into().ok().map(Stored::Fast);
    }
    PasswordHash::new(hash).ok().filter(|hash| hash.algorithm == argon2::ARGON2ID_IDENT).map(Box::new).map(Stored::Slow)
}

/// Authorizes a request by its token, and returns the token's holder.
pub(super) async fn token(
    (tokens, guesses): (&Arc<Tokens>, &Arc<Guesses>),
    headers: &HeaderMap,
    changes: bool,
    address: Address,
) -> Result<Holder, Problem> {
    const WANTED: &str = "send a token of control.tokens_file: `Authorization: Bearer TOKEN`";
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let presented = bearer(headers).ok_or_else(|| unauthorized(WANTED))?.to_owned();
    let place = match tokens.known(&sha256(&presented)) {
        None if tokens.slow().next().is_some() => {
            guesses.look(address, Instant::now())?;
            let waits = tokens.wait(address).ok_or_else(|| {
                let detail = "too many tokens are being verified; try again. A line of `forebay token` need not wait";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            })?;
            let permit = Arc::clone(&tokens.busy).acquire_owned().await;
            // Another token from the address may have been found wrong since.
            guesses.look(address, Instant::now())?;
            let (tokens, guesses) = (Arc::clone(tokens), Arc::clone(guesses));
            let verified = tokio::task::spawn_blocking(move || {
                let place = tokens.verify(&presented);
                if place.is_none() {
                    guesses.wrong(address, Instant::now());
                }
                drop((permit, waits));
                place
            });
            verified.await.ok().flatten()
        }
        None => {
            guesses.look(address, Instant::now())?;
            guesses.wrong(address, Instant::now());
            None
        }
        place => place,
    };
    let token = place.map(|place| &tokens.tokens[place]);
    let token = token.ok_or_else(|| unauthorized("this token is not in control.tokens_file"))?;
    may(changes, token.role, &token.name)?;
    Ok(Holder::Token { name: token.name.clone(), print: token.print })
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::PasswordHasher as _;
    use axum::http::header;
    use axum::response::IntoResponse as _;

    fn line(name: &str, role: &str, token: &str) -> String {
        let cheap = argon2::Params::new(8, 1, 1, None).expect("parameters");
        let hasher = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, cheap);
        let hash: PasswordHash = hasher.hash_password_with_salt(token.as_bytes(), b"0123456789abcdef").expect("a hash");
        format!("{name} {role} {hash}\n")
    }

    /// X68: names, roles and hashes.
    #[test]
    fn a_file_of_tokens_is_read_and_its_faults_are_named() {
        let good = format!("# who\n\n{}{}", line("ops", "write", "one"), line("grafana", "read", "two"));
        let tokens = Tokens::parse(&good).expect("tokens");
        assert_eq!((tokens.verify("one"), tokens.verify("two"), tokens.verify("three")), (Some(0), Some(1), None));
        assert_eq!((tokens.known(&sha256("one")), tokens.known(&sha256("three"))), (Some(0), None));
        for (text, said) in [
            ("", "there is no token in it"),
            ("ops write", "line 1: a line is"),
            ("ops admin x", "must be one of read, write"),
            ("ops write secret", "nor an argon2id hash"),
            (&format!("{}{}", line("a", "read", "x"), line("a", "read", "y")), "line 2: there is another"),
        ] {
            let error = Tokens::parse(text).err().unwrap_or_default();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    fn asks(token: &str) -> HeaderMap {
        let value = format!("Bearer {token}").parse().expect("a value");
        [(header::AUTHORIZATION, value)].into_iter().collect()
    }

    /// The status that a request with this token gets.
    async fn asked(of: (&Arc<Tokens>, &Arc<Guesses>), presented: &str, last: u8) -> u16 {
        let address = Address::of([192, 0, 2, last].into());
        match token(of, &asks(presented), true, address).await {
            Ok(_) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        }
    }

    /// A token of `forebay token` never waits, however many guesses are pending.
    #[tokio::test]
    async fn finding_s6_a_right_token_gets_in_beside_wrong_ones() {
        let lines = format!("{}\n{}", Tokens::line("ops", "write", "right"), line("old", "write", "slow"));
        let tokens = Arc::new(Tokens::parse(&lines).expect("tokens"));
        assert_eq!(tokens.slow().collect::<Vec<_>>(), ["old"]);
        // The only verification is under way as long as this permit is held.
        let busy = Arc::clone(&tokens.busy).acquire_owned().await.expect("a permit");
        let guesses = Arc::<Guesses>::default();
        let guess = |n: u8| {
            let (tokens, guesses) = (Arc::clone(&tokens), Arc::clone(&guesses));
            tokio::spawn(async move { asked((&tokens, &guesses), &format!("wrong {n}"), n % 5).await })
        };
        let of = (&tokens, &guesses);
        let all: Vec<_> = (0..20).map(guess).collect();
        while tokens.waiting.lock().expect("a lock").len() < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(of, "right", 1).await, 200);
        // Tokens with slow hashes wait in turn, up to the limit; one address cannot use all of it.
        assert_eq!(asked(of, "wrong", 9).await, 429);
        drop(busy);
        let mut counted = [0, 0];
        for guess in all {
            let status = guess.await.expect("a status");
            counted[usize::from(status == 429)] += 1;
        }
        // One token of each address was verified; the others came too soon after it, or found no room.
        assert_eq!(counted, [5, 15]);
        assert_eq!((asked(of, "right", 1).await, asked(of, "slow", 1).await), (200, 429));
        assert_eq!((asked(of, "slow", 7).await, tokens.waiting.lock().expect("a lock").len()), (200, 0));
        assert_eq!(asked(of, "slow", 1).await, 200, "it is known now");
        let of_one: Vec<_> = (0..).map_while(|_| tokens.wait(Address::of([192, 0, 2, 1].into()))).collect();
        assert_eq!(of_one.len(), WAITING_OF_ADDRESS_MAX);
        assert!(tokens.wait(Address::of([192, 0, 2, 2].into())).is_some());
    }

    /// Without slow hashes no request waits for a verification.
    #[tokio::test]
    async fn finding_s6_random_tokens_have_no_queue() {
        let tokens = Arc::new(Tokens::parse(&Tokens::line("ops", "write", "right")).expect("tokens"));
        let _busy = Arc::clone(&tokens.busy).acquire_owned().await.expect("a permit");
        let of = (&tokens, &Arc::default());
        assert_eq!((asked(of, "wrong", 1).await, asked(of, "right", 1).await), (401, 200));
        assert_eq!(
            (asked(of, "wrong", 1).await, asked(of, "right", 1).await, asked(of, "wrong", 2).await),
            (429, 200, 401)
        );
        for bad in
            ["sha256:", "sha256:00", &format!("sha256:{}", "g".repeat(64)), &format!("sha256:{}", "é".repeat(32))]
        {
            assert!(Tokens::parse(&format!("ops write {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_has_changed_is_read_again_once_it_has_settled() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tokens");
        let write = |text: &str, age: u64| {
            std::fs::write(&path, text).expect("written");
            let file = std::fs::File::options().write(true).open(&path).expect("opened");
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("a time");
        };
        let line = |name: &str| Tokens::line(name, "write", name);
        write(&line("ops"), 100);
        let tokens = Tokens::read(&path).expect("tokens");
        assert!(tokens.renewed().is_none());
        write(&line("other"), 0);
        assert!(tokens.renewed().is_none(), "it may be half written");
        write(&line("other"), 50);
        let other = tokens.renewed().expect("it has changed").expect("tokens");
        assert!(other.known(&sha256("other")).is_some() && other.known(&sha256("ops")).is_none());
        assert!(tokens.renewed().is_none() && other.renewed().is_none());
        write("no token", 40);
        assert!(other.renewed().expect("it has changed").is_err_and(|why| why.contains("line 1")));
        assert!(other.renewed().is_none(), "what is wrong is said once");
        std::fs::remove_file(&path).expect("removed");
        assert!(other.renewed().expect("it has gone").is_err());
        write(&line("ops"), 30);
        assert!(other.renewed().expect("it is there").is_ok());
    }
}
