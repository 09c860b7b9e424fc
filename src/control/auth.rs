//! Who may use `/api/v1`: tokens with a role, their hashes in a file. Without such a file this machine alone: reading
//! is free there, messages excepted, and the service's own token may do everything.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::own_token::sha256;
use super::problem::Problem;
use super::{View, own_token};
use crate::address::Address;
use crate::metrics::event::{Event, Field, Kind as EventKind};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// GET.
    Read,
    /// Everything.
    Write,
}

/// How a token is stored.
enum Stored {
    /// SHA-256. The tokens that `forebay token` makes are random: no slower hash would make them harder to guess.
    Fast([u8; 32]),
    /// argon2id, as earlier versions wrote it.
    Slow(Box<PasswordHash>),
}

struct Token {
    name: String,
    role: Role,
    stored: Stored,
}

/// The tokens of a file.
pub struct Tokens {
    tokens: Vec<Token>,
    /// Digests of tokens of slow hashes that have been verified, with their place.
    verified: Mutex<Vec<([u8; 32], usize)>>,
    /// One slow verification at a time: guessing costs one core at most.
    busy: Arc<Semaphore>,
    /// From where the requests come that wait for it or have it.
    waiting: Arc<Mutex<Vec<Address>>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tokens.iter().map(|token| (&token.name, token.role))).finish()
    }
}

/// Tokens that a file may hold.
const TOKENS_MAX: usize = 64;
/// How a line says SHA-256, in front of the digest in hexadecimal.
const SHA256: &str = "sha256:";
/// Requests that may wait for slow verifications, and those of one address.
const WAITING_MAX: usize = 16;
const WAITING_OF_ADDRESS_MAX: usize = 4;

/// Requests that were refused as too many waited for slow verifications, since the start.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// See [`REFUSED`].
pub(super) fn checks_refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// Requests that were refused, since the start: without a token, with a wrong one, with one that may not do it, and of another machine or
/// site.
static REQUESTS_REFUSED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// See [`REQUESTS_REFUSED`].
pub(super) fn requests_refused() -> [u64; 4] {
    std::array::from_fn(|index| REQUESTS_REFUSED[index].load(Ordering::Relaxed))
}

/// A request that is not answered for who asks: counted, and an event but where no token came.
fn refused(view: &View, peer: SocketAddr, request: &Request, problem: &Problem) {
    let reason = match bearer(request.headers()) {
        _ if problem.is(StatusCode::TOO_MANY_REQUESTS) => return,
        None if problem.is(StatusCode::UNAUTHORIZED) => 0,
        Some(_) if problem.is(StatusCode::UNAUTHORIZED) => 1,
        _ if view.tokens.is_some() => 2,
        _ => 3,
    };
    REQUESTS_REFUSED[reason].fetch_add(1, Ordering::Relaxed);
    if reason == 0 {
        return;
    }
    // What is asked for may be as long as a request's head.
    let path = request.uri().path();
    let path = &path[..path.floor_char_boundary(ACTION_BYTES_MAX)];
    let event = Event::now(EventKind::RequestRefused).shown(Field::Peer, Some(peer));
    let event = event.with(Field::Action, format!("{} {path}", request.method())).with(Field::Reason, problem.detail());
    view.journal.say_of(event, Address::of(peer.ip()));
}

/// Bytes of a path that an event has.
const ACTION_BYTES_MAX: usize = 256;

/// A place among the requests that wait.
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
    /// From `control.tokens_file`.
    ///
    /// # Errors
    /// It cannot be read, or which line is wrong and why.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let tokens = text.and_then(|text| Self::parse(&text));
        tokens.map_err(|why| format!("control.tokens_file {}: {why}", path.display()))
    }

    /// The line of a new token, `NAME ROLE HASH`.
    #[must_use]
    pub fn line(name: &str, role: &str, token: &str) -> String {
        let digits: String = sha256(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {role} {SHA256}{digits}")
    }

    /// From lines `NAME ROLE HASH`; empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// Which line is wrong and why.
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
            tokens.push(Token { name: name.to_owned(), role, stored });
        }
        match tokens.len() {
            0 => Err("there is no token in it; `forebay token NAME` prints a line for it".to_owned()),
            1..=TOKENS_MAX => Ok(Self {
                tokens,
                verified: Mutex::default(),
                busy: Arc::new(Semaphore::new(1)),
                waiting: Arc::default(),
            }),
            count => Err(format!("{count} tokens; at most {TOKENS_MAX}")),
        }
    }

    /// How many there are; never none.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a file without tokens is refused")]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Names of the tokens with a slow hash: requests with them may have to wait while others guess.
    pub fn slow(&self) -> impl Iterator<Item = &str> {
        let slow = self.tokens.iter().filter(|token| matches!(token.stored, Stored::Slow(_)));
        slow.map(|token| token.name.as_str())
    }

    /// The place of a token, as far as that is known at once. All are compared, whichever it is.
    fn known(&self, digest: &[u8; 32]) -> Option<usize> {
        let fast = self.tokens.iter().enumerate().filter_map(|(place, token)| match &token.stored {
            Stored::Fast(stored) => Some((stored, place)),
            Stored::Slow(_) => None,
        });
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let all = fast.chain(verified.iter().map(|(stored, place)| (stored, *place)));
        all.fold(None, |found, (stored, place)| if stored.ct_eq(digest).into() { Some(place) } else { found })
    }

    /// A place among those that wait for a slow verification; `None`: too many do.
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

    /// The place of a token with a slow hash: tens of milliseconds for each of the file.
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

/// Who asks, for events; `None`: somebody on this machine, without a token.
#[derive(Clone, Debug)]
pub(super) struct Who(pub(super) Option<String>);

/// Lets through who may.
pub(super) async fn guard(
    State(view): State<Arc<View>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_near = peer.ip().to_canonical().is_loopback();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let headers = request.headers();
    let is_own = is_near && view.own_token.as_ref().is_some_and(|own| bearer(headers).is_some_and(|it| own.admits(it)));
    let who = match &view.tokens {
        _ if is_own && view.tokens.is_some() => Ok(own()),
        Some(tokens) => token(tokens, headers, changes, Address::of(peer.ip())).await,
        None => near(is_near, headers, changes).and_then(|()| match (is_own, changes) {
            (true, _) => Ok(own()),
            (false, false) => Ok(Who(None)),
            (false, true) => Err(token_needed(&view)),
        }),
    };
    match who {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(problem) => {
            refused(&view, peer, &request, &problem);
            problem.into_response()
        }
    }
}

fn own() -> Who {
    Who(Some(own_token::NAME.to_owned()))
}

/// For a request that needs a token where there is no `control.tokens_file`.
pub(super) fn token_needed(view: &View) -> Problem {
    let own = view.own_token.as_ref().map(|own| format!("; {} has one for this machine", own.file().display()));
    let detail = format!(
        "this needs a token: `Authorization: Bearer TOKEN`{}; control.tokens_file names others",
        own.unwrap_or_default()
    );
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// The token that a request has.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, presented) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| presented.trim())
}

async fn token(tokens: &Arc<Tokens>, headers: &HeaderMap, changes: bool, address: Address) -> Result<Who, Problem> {
    const WANTED: &str = "send a token of control.tokens_file: `Authorization: Bearer TOKEN`";
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let presented = bearer(headers).ok_or_else(|| unauthorized(WANTED))?.to_owned();
    let place = match tokens.known(&sha256(&presented)) {
        None if tokens.slow().next().is_some() => {
            let waits = tokens.wait(address).ok_or_else(|| {
                let detail = "too many tokens are being verified; try again. A line of `forebay token` need not wait";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            })?;
            let permit = Arc::clone(&tokens.busy).acquire_owned().await;
            let tokens = Arc::clone(tokens);
            let verified = tokio::task::spawn_blocking(move || {
                let place = tokens.verify(&presented);
                drop((permit, waits));
                place
            });
            verified.await.ok().flatten()
        }
        place => place,
    };
    let token = place.map(|place| &tokens.tokens[place]);
    let token = token.ok_or_else(|| unauthorized("this token is not in control.tokens_file"))?;
    if changes && token.role != Role::Write {
        let detail = format!("the token {:?} has the role read; this needs write", token.name);
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(Who(Some(token.name.clone())))
}

/// Without tokens only this machine is served. A browser on it must not be led here by a foreign page (DNS rebinding,
/// cross-site requests).
fn near(is_near: bool, headers: &HeaderMap, changes: bool) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let forbidden = |detail: String| Problem::new(StatusCode::FORBIDDEN, detail);
    if !is_near {
        let detail = "without tokens /api/v1 is for this machine only; control.tokens_file admits others";
        return Err(forbidden(detail.to_owned()));
    }
    of_loopback(headers, "ask at http://127.0.0.1, or set control.tokens_file")?;
    let host = text(header::HOST);
    // Another port is another site: whoever may listen on one could serve pages there.
    let is_own_page = |origin: &str| {
        let page = origin.split_once("://").map(|(_, page)| page);
        page.zip(host).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host))
    };
    match text(header::ORIGIN) {
        Some(origin) if changes && !is_own_page(origin) => {
            Err(forbidden(format!("a change that comes from a page of {origin}")))
        }
        _ => Ok(()),
    }
}

/// Whether the page of a browser that asks can be one of this machine's loopback: a foreign one can have its own name lead here.
fn of_loopback(headers: &HeaderMap, cure: &str) -> Result<(), Problem> {
    let host = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    match host {
        Some(host) if !is_loopback(&host) => {
            let detail = format!("the host {host:?} is not this machine's loopback; {cure}");
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        _ => Ok(()),
    }
}

/// Lets through who asks what needs no token, on a control address that only this machine can reach.
pub(super) async fn guard_of_loopback(request: Request, next: Next) -> Response {
    match of_loopback(request.headers(), "ask at http://127.0.0.1; a proxy has to send its own Host") {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Of `host:port`.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::PasswordHasher as _;

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
    async fn asked(tokens: &Arc<Tokens>, presented: &str, last: u8) -> u16 {
        let address = Address::of([192, 0, 2, last].into());
        match token(tokens, &asks(presented), true, address).await {
            Ok(_) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        }
    }

    /// What `forebay token` makes waits for nobody, however many guess.
    #[tokio::test]
    async fn finding_s6_a_right_token_gets_in_beside_wrong_ones() {
        let lines = format!("{}\n{}", Tokens::line("ops", "write", "right"), line("old", "write", "slow"));
        let tokens = Arc::new(Tokens::parse(&lines).expect("tokens"));
        assert_eq!(tokens.slow().collect::<Vec<_>>(), ["old"]);
        // The only verification is under way, for as long as this is held.
        let busy = Arc::clone(&tokens.busy).acquire_owned().await.expect("a permit");
        let guess = |n: u8| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move { asked(&tokens, &format!("wrong {n}"), n % 5).await })
        };
        let guesses: Vec<_> = (0..20).map(guess).collect();
        while tokens.waiting.lock().expect("a lock").len() < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(&tokens, "right", 1).await, 200);
        // Slow ones wait in turn, and no more of them than there is room for; one address does not take all of it.
        assert_eq!(asked(&tokens, "wrong", 9).await, 429);
        drop(busy);
        let mut counted = [0, 0];
        for guess in guesses {
            let status = guess.await.expect("a status");
            counted[usize::from(status == 429)] += 1;
        }
        assert_eq!(counted, [WAITING_MAX, 20 - WAITING_MAX]);
        assert_eq!((asked(&tokens, "slow", 1).await, tokens.waiting.lock().expect("a lock").len()), (200, 0));
        let of_one: Vec<_> = (0..).map_while(|_| tokens.wait(Address::of([192, 0, 2, 1].into()))).collect();
        assert_eq!(of_one.len(), WAITING_OF_ADDRESS_MAX);
        assert!(tokens.wait(Address::of([192, 0, 2, 2].into())).is_some());
    }

    /// Without slow hashes nothing is verified that could be waited for.
    #[tokio::test]
    async fn finding_s6_random_tokens_have_no_queue() {
        let tokens = Arc::new(Tokens::parse(&Tokens::line("ops", "write", "right")).expect("tokens"));
        let _busy = Arc::clone(&tokens.busy).acquire_owned().await.expect("a permit");
        assert_eq!((asked(&tokens, "wrong", 1).await, asked(&tokens, "right", 1).await), (401, 200));
        for bad in
            ["sha256:", "sha256:00", &format!("sha256:{}", "g".repeat(64)), &format!("sha256:{}", "é".repeat(32))]
        {
            assert!(Tokens::parse(&format!("ops write {bad}")).is_err(), "{bad}");
        }
    }

    /// X67: on loopback, by `Host` and `Origin`.
    #[test]
    fn without_tokens_only_this_machine_is_served_and_no_foreign_page() {
        let local = |headers: &HeaderMap, changes| near(true, headers, changes);
        let headers = |pairs: &[(header::HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
        };
        for (host, served) in [
            ("127.0.0.1:8080", true),
            ("localhost", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(local(&headers(&[(header::HOST, host)]), false).is_ok(), served, "{host}");
        }
        let with_origin = |origin| headers(&[(header::HOST, "localhost:8080"), (header::ORIGIN, origin)]);
        assert!(local(&with_origin("http://localhost:8080"), true).is_ok());
        for foreign in
            ["https://evil.example", "http://localhost:8081", "http://localhost", "http://127.0.0.1:8080", "null"]
        {
            assert!(local(&with_origin(foreign), true).is_err(), "{foreign}");
        }
        assert!(local(&with_origin("https://evil.example"), false).is_ok());
        assert!(near(false, &headers(&[(header::HOST, "localhost")]), false).is_err());
    }
}
