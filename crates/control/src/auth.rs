//! Authorization of `/api/v1`: by a token with a role, or by the cookie of a login with such a token. Without a file of tokens only this machine is served:
//! reading needs no token there, except for messages, and the service's own token may do everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::tokens::{Role, token};
use super::{View, own_token};
use forebay_base::address::Address;
use forebay_metrics::event::{Event, Field, Kind as EventKind};

/// Requests refused since the process began: without a token, with a wrong token, with a token that lacks the role, and from another machine or site.
static REQUESTS_REFUSED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// See [`REQUESTS_REFUSED`].
pub(super) fn requests_refused() -> [u64; 4] {
    std::array::from_fn(|index| REQUESTS_REFUSED[index].load(Ordering::Relaxed))
}

/// Counts a refused request, and records an event unless the request has no token.
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
    // The path may be as long as a request's head.
    let path = request.uri().path();
    let path = &path[..path.floor_char_boundary(ACTION_BYTES_MAX)];
    let event = Event::now(EventKind::RequestRefused).shown(Field::Peer, Some(peer));
    let event = event.with(Field::Action, format!("{} {path}", request.method())).with(Field::Reason, problem.detail());
    view.journal.say_of(event, Address::of(peer.ip()));
}

/// Bytes of a path in an event, at most.
const ACTION_BYTES_MAX: usize = 256;

/// The caller, for events; `None`: a caller on this machine without a token.
#[derive(Clone, Debug)]
pub(super) struct Who(pub(super) Option<String>);

/// The holder of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The token that the service has made for this machine.
    Own,
    /// A token of `control.tokens_file`.
    Token { name: String, print: [u8; 32] },
}

impl Holder {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own => own_token::NAME,
            Self::Token { name, .. } => name,
        }
    }
}

/// The credentials that a request was admitted with. A stream checks each second whether they still hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// An address of this machine, where there is no `control.tokens_file`.
    Near(Address),
    /// A token.
    Token(Holder),
    /// A login cookie with this digest.
    Login([u8; 32]),
    /// No credentials: the caller asks whether it would be admitted.
    Nobody,
}

impl Grant {
    /// The holder of the grant's token, if it has one.
    pub(super) fn holder(&self) -> Option<Holder> {
        match self {
            Self::Token(holder) => Some(holder.clone()),
            Self::Near(_) | Self::Login(_) | Self::Nobody => None,
        }
    }

    /// Whether the grant still holds.
    pub(super) fn holds(&self, view: &View) -> bool {
        match self {
            Self::Near(_) => view.tokens.is_none(),
            Self::Nobody => false,
            Self::Token(holder) => role_of(view, holder).is_some(),
            Self::Login(digest) => {
                view.logins.find(digest, Instant::now()).is_some_and(|(holder, _)| role_of(view, &holder).is_some())
            }
        }
    }
}

/// How often a stream checks its grant.
pub(super) const GRANT_CHECKED_EVERY: Duration = Duration::from_secs(1);

/// `StreamGrant` is the grant of a stream, which ends with it.
pub(super) struct StreamGrant {
    pub(super) grant: Grant,
    checked_at: Instant,
}

impl StreamGrant {
    /// The grant that a request was just admitted with.
    pub(super) fn new(grant: Grant) -> Self {
        Self { grant, checked_at: Instant::now() }
    }

    /// Whether the grant held when it was last checked, [`GRANT_CHECKED_EVERY`] ago at most.
    pub(super) fn holds(&mut self, view: &View) -> bool {
        if self.checked_at.elapsed() < GRANT_CHECKED_EVERY {
            return true;
        }
        self.checked_at = Instant::now();
        self.grant.holds(view)
    }
}

/// Role of a token; `None`: the token does not exist any more.
pub(super) fn role_of(view: &View, holder: &Holder) -> Option<Role> {
    match holder {
        Holder::Own => Some(Role::Write),
        Holder::Token { name, print } => view.tokens.as_ref()?.role(name, print),
    }
}

/// Passes on authorized requests, with their caller and grant as extensions; refuses others.
pub(super) async fn guard(
    State(view): State<Arc<View>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    match admitted(&view, peer, request.method(), request.uri().path(), request.headers()).await {
        Ok((who, grant)) => {
            request.extensions_mut().insert(who);
            request.extensions_mut().insert(grant);
            next.run(request).await
        }
        Err(problem) => {
            refused(&view, peer, &request, &problem);
            problem.into_response()
        }
    }
}

/// The path at which logins begin and end.
const SESSION: &str = "/api/v1/session";

/// Authorizes a request: returns the caller and its grant.
async fn admitted(
    view: &View,
    peer: SocketAddr,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<(Who, Grant), Problem> {
    let is_get = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    // Logging in and out changes nothing of the service, but a login needs a token.
    let (changes, logs_in) = (!is_get && path != SESSION, path == SESSION && *method == Method::POST);
    let is_near = peer.ip().to_canonical().is_loopback();
    of_own_page(headers)?;
    let of = |holder: Holder, grant| (Who(Some(holder.name().to_owned())), grant);
    if bearer(headers).is_none()
        && let Some((holder, grant)) = by_login(view, is_near, headers, changes)?
    {
        return Ok(of(holder, grant));
    }
    let is_own = is_near && view.own_token.as_ref().is_some_and(|own| bearer(headers).is_some_and(|it| own.admits(it)));
    let with_own = || of(Holder::Own, Grant::Token(Holder::Own));
    match &view.tokens {
        Some(_) if is_own => Ok(with_own()),
        Some(tokens) => {
            // A page learns from the answer whether to ask for a token.
            if *method == Method::GET && path == SESSION && bearer(headers).is_none() {
                return Ok((Who(None), Grant::Nobody));
            }
            let holder = token((tokens, &view.logins.guesses), headers, changes, Address::of(peer.ip())).await?;
            Ok(of(holder.clone(), Grant::Token(holder)))
        }
        None => near(view, is_near, headers, changes).and_then(|()| match (is_own, changes || logs_in) {
            (true, _) => Ok(with_own()),
            (false, false) => Ok((Who(None), Grant::Near(Address::of(peer.ip())))),
            (false, true) => Err(wrong(view, headers, Address::of(peer.ip()))),
        }),
    }
}

/// Refuses requests of foreign pages: `Sec-Fetch-Site` names the site of a browser's page and is absent in other clients. Only our own pages may ask.
pub(super) fn of_own_page(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"cross-site" | b"same-site") => {
            Err(Problem::new(StatusCode::FORBIDDEN, "a request that comes from a page of another site"))
        }
        _ => Ok(()),
    }
}

/// The holder of the login of a page that opens a WebSocket. Its `Origin` has to be present, and ours. Such a login needs the role write.
pub(super) fn of_page(view: &View, peer: SocketAddr, headers: &HeaderMap) -> Result<(String, Grant), Problem> {
    of_own_page(headers)?;
    if text(headers, header::ORIGIN).is_none() {
        return Err(Problem::new(StatusCode::FORBIDDEN, "this is for pages of the dashboard: there is no Origin"));
    }
    let found = by_login(view, peer.ip().to_canonical().is_loopback(), headers, true)?;
    let (holder, grant) = found.ok_or_else(|| token_needed(view))?;
    Ok((holder.name().to_owned(), grant))
}

/// Authorizes a request by the two halves of a login, if it is valid. Foreign pages do not know the second one; `Origin`, if present, has to be ours.
fn by_login(
    view: &View,
    is_near: bool,
    headers: &HeaderMap,
    changes: bool,
) -> Result<Option<(Holder, Grant)>, Problem> {
    let digest = view.logins.presented(view, headers);
    let login = digest.and_then(|digest| Some((digest, view.logins.find(&digest, Instant::now())?.0)));
    let Some((digest, holder)) = login else { return Ok(None) };
    let Some(role) = role_of(view, &holder).filter(|_| is_near || holder != Holder::Own) else { return Ok(None) };
    if let Some(origin) = text(headers, header::ORIGIN).filter(|origin| !is_own_origin(view, headers, origin)) {
        return Err(Problem::new(StatusCode::FORBIDDEN, format!("a request that comes from a page of {origin}")));
    }
    if view.tokens.is_none() {
        near(view, is_near, headers, changes)?;
    }
    may(changes, role, holder.name())?;
    Ok(Some((holder, Grant::Login(digest))))
}

/// Whether a role suffices.
pub(super) fn may(changes: bool, role: Role, name: &str) -> Result<(), Problem> {
    if changes && role != Role::Write {
        let detail = format!("the token {name:?} has the role read; this needs write");
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(())
}

/// Whether the caller may see payloads: by a token with the role write.
pub(super) fn may_read_messages(view: &View, grant: &Grant) -> Result<(), Problem> {
    let holder = match grant {
        Grant::Login(digest) => view.logins.find(digest, Instant::now()).map(|(holder, _)| holder),
        _ => grant.holder(),
    };
    let holder = holder.ok_or_else(|| token_needed(view))?;
    let role = role_of(view, &holder).ok_or_else(|| token_needed(view))?;
    may(true, role, holder.name())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a page is one of those that we serve. Another port is another site: any local user can listen on one and serve pages there.
fn is_own_origin(view: &View, headers: &HeaderMap, origin: &str) -> bool {
    let origins = &view.described.dashboard.origins;
    if !origins.is_empty() {
        return origins.iter().any(|own| own.eq_ignore_ascii_case(origin));
    }
    let page = origin.split_once("://").map(|(_, page)| page);
    page.zip(text(headers, header::HOST)).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host))
}

/// `wrong` refuses a request that lacks the token of this machine, and counts another token as a guess.
fn wrong(view: &View, headers: &HeaderMap, address: Address) -> Problem {
    if bearer(headers).is_none() {
        return token_needed(view);
    }
    if let Err(problem) = view.logins.guesses.look(address, Instant::now()) {
        return problem;
    }
    view.logins.guesses.wrong(address, Instant::now());
    let own =
        view.own_token.as_ref().map(|own| format!(" that of {}, which each start makes anew", own.file().display()));
    let detail = format!("this token is not{}; control.tokens_file names others", own.unwrap_or(" known".to_owned()));
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// The problem of a request that needs a token where there is no `control.tokens_file`.
pub(super) fn token_needed(view: &View) -> Problem {
    let own = view.own_token.as_ref().map(|own| format!("; {} has one for this machine", own.file().display()));
    let detail = format!(
        "this needs a token: `Authorization: Bearer TOKEN`{}; control.tokens_file names others",
        own.unwrap_or_default()
    );
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// The token that a request has.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, presented) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| presented.trim())
}

/// Admits this machine alone, where there are no tokens. A browser on it must not be led here by a foreign page (DNS rebinding, cross-site requests).
fn near(view: &View, is_near: bool, headers: &HeaderMap, changes: bool) -> Result<(), Problem> {
    let forbidden = |detail: String| Problem::new(StatusCode::FORBIDDEN, detail);
    if !is_near {
        let detail = "without tokens /api/v1 is for this machine only; control.tokens_file admits others";
        return Err(forbidden(detail.to_owned()));
    }
    of_loopback(view, headers, "ask at http://127.0.0.1, or set control.tokens_file")?;
    match text(headers, header::ORIGIN) {
        Some(origin) if changes && !is_own_origin(view, headers, origin) => {
            Err(forbidden(format!("a change that comes from a page of {origin}")))
        }
        _ => Ok(()),
    }
}

/// Whether the browser's page can be one of this machine's loopback, or of `control.origins`: a foreign page can make its own name resolve to this address.
fn of_loopback(view: &View, headers: &HeaderMap, cure: &str) -> Result<(), Problem> {
    let host = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    let pages = view.described.dashboard.origins.iter().filter_map(|origin| origin.split_once("://"));
    let is_known = |host: &str| is_loopback(host) || pages.clone().any(|(_, page)| page.eq_ignore_ascii_case(host));
    match host {
        Some(host) if !is_known(&host) => {
            let detail = format!("the host {host:?} is not this machine's loopback; {cure}");
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        _ => Ok(()),
    }
}

/// Passes on requests without a token, on a control address that only this machine can reach.
pub(super) async fn guard_of_loopback(State(view): State<Arc<View>>, request: Request, next: Next) -> Response {
    let cure = "ask at http://127.0.0.1; control.origins names proxies";
    match of_loopback(&view, request.headers(), cure) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Whether the host of `host:port` is loopback.
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
    use crate::Described;
    use forebay_metrics::collector::Boards;

    fn view(origins: &[&str]) -> View {
        let boards = Boards::default();
        let mut described = Described::default();
        described.dashboard.origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        View::idle(boards, described)
    }

    /// W6: a proxy may send any `Host`; pages are known by the `Origin` that their browser sends.
    #[test]
    fn with_origins_pages_are_those_of_the_proxy() {
        let view = view(&["https://forebay.example", "http://10.0.0.1:8081"]);
        let headers =
            |host: &str| -> HeaderMap { [(header::HOST, host.parse().expect("a value"))].into_iter().collect() };
        for (origin, is_own) in [
            ("https://forebay.example", true),
            ("https://FOREBAY.example", true),
            ("http://10.0.0.1:8081", true),
            ("http://forebay.example", false),
            ("https://forebay.example:444", false),
            ("https://forebay.example.evil.example", false),
            ("http://127.0.0.1:8080", false),
            ("null", false),
        ] {
            assert_eq!(is_own_origin(&view, &headers("127.0.0.1:8080"), origin), is_own, "{origin}");
        }
        for (host, is_known) in [
            ("forebay.example", true),
            ("10.0.0.1:8081", true),
            ("127.0.0.1:8080", true),
            ("evil.example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(of_loopback(&view, &headers(host), "").is_ok(), is_known, "{host}");
        }
    }

    /// X67: on loopback, by `Host` and `Origin`.
    #[test]
    fn without_tokens_only_this_machine_is_served_and_no_foreign_page() {
        let view = view(&[]);
        let local = |headers: &HeaderMap, changes| near(&view, true, headers, changes);
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
        assert!(near(&view, false, &headers(&[(header::HOST, "localhost")]), false).is_err());
    }
}
