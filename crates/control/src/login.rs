//! Logins of browsers: a token once, then two halves, a cookie and a secret of the page, each of no use without the other. Browsers send the cookie to all
//! ports of a host, and the other half nowhere by themselves. The service keeps a digest of both in memory: a restart ends all logins.
//!
//! A login refers to its token. The token's role, and whether the token still exists, are looked up at each request.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Grant, Holder};
use super::guesses::Guesses;
use super::own_token::sha256;
use super::problem::Problem;
use super::tokens::Role;
use super::{Dashboard, View, auth};
use forebay_base::limits::{LOGIN_IDLE_MAX, LOGIN_LASTS, LOGINS_MAX, LOGINS_OF_TOKEN_MAX};

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new().routes(routes!(session, log_in, log_out))
}

/// All logins.
#[derive(Debug, Default)]
pub struct Logins {
    /// The port in the cookies' name: two services on one machine share the browser's cookies.
    port: OnceLock<u16>,
    kept: Mutex<Vec<Login>>,
    /// Addresses that have sent wrong tokens.
    pub(super) guesses: Arc<Guesses>,
}

#[derive(Debug)]
struct Login {
    digest: [u8; 32],
    of: Holder,
    began: Instant,
    used: Instant,
}

/// Name and attributes of a login's cookie.
struct Cookie {
    name: String,
    path: String,
    is_secure: bool,
}

impl Login {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= LOGIN_LASTS || now.duration_since(self.used) >= LOGIN_IDLE_MAX
    }
}

impl Logins {
    /// Sets the port of the service.
    pub(super) fn served_at(&self, port: u16) {
        let _ = self.port.set(port);
    }

    /// The cookie's name and path, and whether browsers send it over TLS alone.
    fn cookie(&self, view: &View) -> Cookie {
        let Dashboard { origins, base_path, .. } = &view.described.dashboard;
        let is_secure = if origins.is_empty() {
            view.tls.is_some()
        } else {
            origins.iter().all(|origin| origin.starts_with("https://"))
        };
        // Browsers accept the first prefix only for this host, and for the path `/`.
        let prefix = match (is_secure, base_path.is_empty()) {
            (true, true) => "__Host-",
            (true, false) => "__Secure-",
            (false, _) => "",
        };
        let name = format!("{prefix}forebay-{}", self.port.get().copied().unwrap_or_default());
        Cookie { name, path: if base_path.is_empty() { "/".to_owned() } else { base_path.clone() }, is_secure }
    }

    /// The digest of the two halves of a login that a request has.
    pub(super) fn presented(&self, view: &View, headers: &HeaderMap) -> Option<[u8; 32]> {
        let half = half(headers)?;
        let name = self.cookie(view).name;
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
        values.next().map(|cookie| both(cookie, half))
    }

    /// Begins a login of a token and returns its halves: the cookie, and that of the page. At the limit, the login idle for longest is dropped.
    fn begin(&self, of: Holder, now: Instant) -> Result<[String; 2], String> {
        let halves = [random()?, random()?];
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|login| !login.is_over(now));
        let of_token = kept.iter().filter(|login| login.of == of).count();
        if of_token >= LOGINS_OF_TOKEN_MAX {
            forget_oldest(&mut kept, |login| login.of == of);
        } else if kept.len() >= LOGINS_MAX {
            forget_oldest(&mut kept, |_| true);
        }
        kept.push(Login { digest: both(&halves[0], &halves[1]), of, began: now, used: now });
        Ok(halves)
    }

    /// The holder of a login's token, and the login's latest end. Counts as a use of the login.
    pub(super) fn find(&self, digest: &[u8; 32], now: Instant) -> Option<(Holder, Instant)> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter_mut().filter(|login| !login.is_over(now)).find(|login| login.digest.ct_eq(digest).into());
        found.map(|login| {
            login.used = now;
            (login.of.clone(), login.began + LOGIN_LASTS)
        })
    }

    fn end(&self, digest: &[u8; 32]) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|login| login.digest != *digest);
    }
}

/// Twenty random bytes as hexadecimal digits.
fn random() -> Result<String, String> {
    let mut random = [0; 20];
    SystemRandom::new().fill(&mut random).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The digest of a login's halves.
fn both(cookie: &str, half: &str) -> [u8; 32] {
    sha256(&format!("{cookie} {half}"))
}

/// `HALF` begins the protocol of a WebSocket that stands for the header `X-Forebay`: pages can send no headers with a WebSocket.
pub(super) const HALF: &str = "forebay.";

/// The half of a login that the page has, as a request has it.
fn half(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let protocols = text("sec-websocket-protocol").unwrap_or_default();
    text("x-forebay").or_else(|| protocols.split(',').find_map(|protocol| protocol.trim().strip_prefix(HALF)))
}

fn forget_oldest(kept: &mut Vec<Login>, which: impl Fn(&Login) -> bool) {
    let oldest = kept.iter().enumerate().filter(|(_, login)| which(login)).min_by_key(|(_, login)| login.used);
    if let Some(place) = oldest.map(|(place, _)| place) {
        kept.swap_remove(place);
    }
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
struct SessionStatus {
    /// Name of the token; null: none was sent.
    name: Option<String>,
    /// `read`, which this machine has without a token where there is no `control.tokens_file`, `write`, or `none`.
    #[schema(example = "write")]
    role: &'static str,
    /// Seconds that the login lasts at most; null: this is no login.
    expires_in_seconds: Option<u64>,
    /// The value of the header `X-Forebay` for requests of the login that this answer begins; absent in all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    x_forebay: Option<String>,
    /// `control.grafana_url`, for callers that may read; null: there is none.
    #[schema(example = "https://grafana.example/d/forebay")]
    grafana_url: Option<String>,
}

impl SessionStatus {
    fn new(view: &View, grant: &Grant) -> Self {
        let now = Instant::now();
        let login = match grant {
            Grant::Login(digest) => view.logins.find(digest, now),
            _ => None,
        };
        let holder = login.as_ref().map(|(holder, _)| holder.clone()).or_else(|| grant.holder());
        let role = match holder.as_ref().and_then(|holder| auth::role_of(view, holder)) {
            _ if *grant == Grant::Nobody => "none",
            Some(Role::Write) => "write",
            _ => "read",
        };
        Self {
            role,
            name: holder.map(|holder| holder.name().to_owned()),
            expires_in_seconds: login.map(|(_, end)| end.saturating_duration_since(now).as_secs()),
            x_forebay: None,
            grafana_url: view.described.dashboard.grafana_url.clone().filter(|_| role != "none"),
        }
    }
}

/// The caller: its token and role. The request needs no token.
#[utoipa::path(get, path = "/api/v1/session", tag = "service", responses((status = 200, body = SessionStatus)))]
async fn session(State(view): State<Arc<View>>, Extension(grant): Extension<Grant>) -> Json<SessionStatus> {
    Json(SessionStatus::new(&view, &grant))
}

/// Begins a login, which stands for the token of this request, for at most 12 hours, and one hour without a request. The answer sets a cookie, and has
/// the other half of the login, `x_forebay`: the cookie counts in requests with the header `X-Forebay` and this value.
#[utoipa::path(post, path = "/api/v1/session", tag = "service", responses(
    (status = 200, body = SessionStatus),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "No token, or a wrong one"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "Wrong tokens came from this address: `Retry-After` says when the next one is looked at"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The system gives no random numbers")))]
async fn log_in(State(view): State<Arc<View>>, Extension(grant): Extension<Grant>) -> Result<Response, Problem> {
    let holder = grant.holder().ok_or_else(|| auth::token_needed(&view))?;
    let [cookie, half] = view.logins.begin(holder, Instant::now()).map_err(Problem::unavailable)?;
    let status = SessionStatus::new(&view, &Grant::Login(both(&cookie, &half)));
    let status = SessionStatus { x_forebay: Some(half), ..status };
    Ok(with_cookie(&view, &cookie, LOGIN_LASTS.as_secs(), Json(status)))
}

/// Ends a login.
#[utoipa::path(delete, path = "/api/v1/session", tag = "service", responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody has logged in")))]
async fn log_out(State(view): State<Arc<View>>, Extension(grant): Extension<Grant>) -> Result<Response, Problem> {
    match grant {
        Grant::Login(digest) => view.logins.end(&digest),
        // There is no login to end.
        Grant::Token(_) => {}
        Grant::Near(_) | Grant::Nobody => return Err(auth::token_needed(&view)),
    }
    Ok(with_cookie(&view, "", 0, StatusCode::NO_CONTENT))
}

fn with_cookie(view: &View, value: &str, seconds: u64, answer: impl IntoResponse) -> Response {
    let Cookie { name, path, is_secure } = view.logins.cookie(view);
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; HttpOnly; SameSite=Strict; Path={path}; Max-Age={seconds}{secure}");
    let mut response = answer.into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_login_ends_after_its_time_after_an_idle_hour_and_when_others_need_its_place() {
        let (logins, begin) = (Logins::default(), Instant::now());
        let token = |name: &str| Holder::Token { name: name.to_owned(), print: [7; 32] };
        let at = |seconds| begin + Duration::from_secs(seconds);
        let begun = |name: &str, at| {
            let [cookie, half] = logins.begin(token(name), at).expect("random numbers");
            both(&cookie, &half)
        };
        let first = begun("ops", begin);
        assert_eq!(logins.find(&first, at(3_599)).map(|(holder, _)| holder), Some(token("ops")));
        assert!(logins.find(&sha256("x"), at(1)).is_none());
        assert!(logins.find(&first, at(3_599 + 3_600)).is_none(), "an hour without a request");

        let used = begun("ops", at(7_200));
        (0..24).for_each(|half| assert!(logins.find(&used, at(7_200 + half * 1_800)).is_some()));
        assert!(logins.find(&used, at(7_200 + 12 * 3_600 - 1)).is_some());
        assert!(logins.find(&used, at(7_200 + 12 * 3_600)).is_none(), "twelve hours, however busy");

        let day = 86_400;
        let eight: Vec<_> = (0..8).map(|n| begun("ops", at(day + n))).collect();
        assert!(logins.find(&eight[0], at(day + 20)).is_some());
        begun("ops", at(day + 21));
        let left = |digest| logins.find(digest, at(day + 22)).is_some();
        assert!(left(&eight[0]) && !left(&eight[1]) && left(&eight[2]), "the one that was idle longest has gone");
        for n in 0..LOGINS_MAX as u64 {
            begun(&format!("token {n}"), at(day + 30 + n));
        }
        assert_eq!(logins.kept.lock().expect("nobody panicked").len(), LOGINS_MAX);
        logins.end(&eight[0]);
        assert!(!left(&eight[0]));
    }

    fn view(origins: &[&str], base_path: &str) -> View {
        let boards = forebay_metrics::collector::Boards::default();
        let mut described = crate::Described::default();
        described.dashboard.origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        base_path.clone_into(&mut described.dashboard.base_path);
        View::idle(boards, described)
    }

    #[test]
    fn a_cookie_is_named_by_the_port_and_found_among_others() {
        let logins = Logins::default();
        logins.served_at(8_443);
        let (plain, secure) = (view(&[], ""), view(&["https://forebay.example"], ""));
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; forebay-8080=x; forebay-8443=mine"));
        assert_eq!(logins.presented(&plain, &headers), None, "half of it");
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("mqtt, forebay.socket"));
        assert_eq!(logins.presented(&plain, &headers), Some(both("mine", "socket")));
        headers.insert("x-forebay", HeaderValue::from_static("half"));
        assert_eq!(logins.presented(&plain, &headers), Some(both("mine", "half")));
        assert_eq!(logins.presented(&secure, &headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-forebay-8443=other"));
        assert_eq!(logins.presented(&secure, &headers), Some(both("other", "half")));
    }

    #[test]
    fn a_cookie_holds_where_the_page_is() {
        let set = |origins: &[&str], base_path: &str| {
            let view = view(origins, base_path);
            view.logins.served_at(8_080);
            let answer = with_cookie(&view, "x", 9, StatusCode::OK);
            answer.headers()[header::SET_COOKIE].to_str().expect("text").to_owned()
        };
        let rest = "; HttpOnly; SameSite=Strict; Path=";
        assert_eq!(set(&[], ""), format!("forebay-8080=x{rest}/; Max-Age=9"));
        assert_eq!(set(&[], "/forebay"), format!("forebay-8080=x{rest}/forebay; Max-Age=9"));
        assert_eq!(set(&["https://a"], ""), format!("__Host-forebay-8080=x{rest}/; Max-Age=9; Secure"));
        assert_eq!(set(&["https://a"], "/b"), format!("__Secure-forebay-8080=x{rest}/b; Max-Age=9; Secure"));
        assert_eq!(
            set(&["https://a", "http://b"], ""),
            format!("forebay-8080=x{rest}/; Max-Age=9"),
            "one of them is plain"
        );
    }
}
