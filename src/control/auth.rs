//! Who may use `/api/v1`: tokens with a role, their argon2id hashes in a file. Without such a file this machine alone: reading
//! is free there, messages excepted, and the service's own token may do everything.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use blake2::{Blake2s256, Digest as _};
use tokio::sync::Semaphore;

use super::problem::Problem;
use super::{View, own_token};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// GET.
    Read,
    /// Everything.
    Write,
}

struct Token {
    name: String,
    role: Role,
    hash: PasswordHash,
}

/// The tokens of a file.
pub struct Tokens {
    tokens: Vec<Token>,
    /// Digests of tokens that have been verified, with their place: argon2 is slow on purpose.
    verified: Mutex<Vec<([u8; 32], usize)>>,
    /// One verification at a time: guessing costs one core at most.
    busy: Arc<Semaphore>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tokens.iter().map(|token| (&token.name, token.role))).finish()
    }
}

/// Tokens that a file may hold.
const TOKENS_MAX: usize = 64;

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
            let hash = PasswordHash::new(hash).ok().filter(|hash| hash.algorithm == argon2::ARGON2ID_IDENT);
            let hash = hash.ok_or(format!("line {number}: not an argon2id hash; `forebay token {name}` prints one"))?;
            if tokens.iter().any(|token| token.name == name) {
                return Err(format!("line {number}: there is another token {name:?}"));
            }
            tokens.push(Token { name: name.to_owned(), role, hash });
        }
        match tokens.len() {
            0 => Err("there is no token in it; `forebay token NAME` prints a line for it".to_owned()),
            1..=TOKENS_MAX => Ok(Self { tokens, verified: Mutex::default(), busy: Arc::new(Semaphore::new(1)) }),
            count => Err(format!("{count} tokens; at most {TOKENS_MAX}")),
        }
    }

    fn known(&self, digest: &[u8; 32]) -> Option<usize> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.iter().find(|(other, _)| other == digest).map(|(_, place)| *place)
    }

    /// The place of a token. Slow: tens of milliseconds for each token of the file.
    fn verify(&self, presented: &str) -> Option<usize> {
        let fits = |token: &Token| Argon2::default().verify_password(presented.as_bytes(), &token.hash).is_ok();
        let place = self.tokens.iter().position(fits)?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.push((digest(presented), place));
        Some(place)
    }
}

fn digest(presented: &str) -> [u8; 32] {
    Blake2s256::digest(presented.as_bytes()).into()
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
        Some(tokens) => token(tokens, headers, changes).await,
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
        Err(problem) => problem.into_response(),
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

async fn token(tokens: &Arc<Tokens>, headers: &HeaderMap, changes: bool) -> Result<Who, Problem> {
    const WANTED: &str = "send a token of control.tokens_file: `Authorization: Bearer TOKEN`";
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let presented = bearer(headers).ok_or_else(|| unauthorized(WANTED))?.to_owned();
    let place = match tokens.known(&digest(&presented)) {
        Some(place) => Some(place),
        None => {
            let Ok(permit) = Arc::clone(&tokens.busy).try_acquire_owned() else {
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "another token is being verified; try again"));
            };
            let tokens = Arc::clone(tokens);
            let verified = tokio::task::spawn_blocking(move || {
                let place = tokens.verify(&presented);
                drop(permit);
                place
            });
            verified.await.ok().flatten()
        }
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
    let host = text(header::HOST);
    if let Some(host) = host
        && !is_loopback(host)
    {
        return Err(forbidden(format!(
            "the host {host:?} is not this machine's loopback; ask at http://127.0.0.1, or set control.tokens_file"
        )));
    }
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
        assert_eq!((tokens.known(&digest("one")), tokens.known(&digest("three"))), (Some(0), None));
        for (text, said) in [
            ("", "there is no token in it"),
            ("ops write", "line 1: a line is"),
            ("ops admin x", "must be one of read, write"),
            ("ops write secret", "not an argon2id hash"),
            (&format!("{}{}", line("a", "read", "x"), line("a", "read", "y")), "line 2: there is another"),
        ] {
            let error = Tokens::parse(text).err().unwrap_or_default();
            assert!(error.contains(said), "{text}: {error}");
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
