//! The dashboard's files, below `/ui/`, and the headers of every answer of the control plane.
//!
//! The files are no secret and need no token. Browsers ask each time whether a file has changed.

use std::sync::{Arc, OnceLock};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::View;
use super::problem::Problem;

/// Paths below `dashboard/`, and the contents that `build.rs` prepared.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Content Security Policy: only the dashboard's own files and API, whatever a page was made to contain. No text becomes HTML or a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; worker-src 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// Permissions Policy: the dashboard uses none of a browser's devices.
const PERMISSIONS: &str =
    "camera=(), display-capture=(), geolocation=(), hid=(), microphone=(), payment=(), serial=(), usb=()";

const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", POLICY),
    ("permissions-policy", PERMISSIONS),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Keeps foreign pages from holding on to a window of the dashboard. Browsers accept the header only from origins that they trust, those of TLS and of
/// loopback, and complain elsewhere. They send `Sec-Fetch-Site` to the same origins only.
const OPENER_POLICY: (&str, &str) = ("cross-origin-opener-policy", "same-origin");

/// Adds the headers to an answer. Answers of the API are not cached.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let is_trusted = request.headers().contains_key("sec-fetch-site");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS.into_iter().chain(is_trusted.then_some(OPENER_POLICY)) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if is_api {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    }
    response
}

/// Redirects `/ui`: relative addresses in the page need the slash, behind a proxy with a path prefix as well.
pub(super) async fn with_slash() -> Redirect {
    Redirect::permanent("ui/")
}

/// Serves `/ui/`.
pub(super) async fn page(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    file(&view, "index.html", &headers)
}

/// Serves `/ui/PATH`.
pub(super) async fn below(State(view): State<Arc<View>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    file(&view, &path, &headers)
}

fn file(view: &View, path: &str, headers: &HeaderMap) -> Response {
    let is_on = view.described.dashboard.is_served;
    let Some(place) = FILES.iter().position(|(name, _)| *name == path).filter(|_| is_on) else {
        let what =
            if is_on { format!("the dashboard has no file {path:?}") } else { "control.dashboard is false".to_owned() };
        return Problem::not_found(what).into_response();
    };
    let tag = &tags()[place];
    let has_it = |value: &HeaderValue| value.to_str().is_ok_and(|known| known.split(", ").any(|known| known == tag));
    let of_all = [
        (header::ETAG, HeaderValue::from_str(tag).unwrap_or(HeaderValue::from_static(""))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(has_it) {
        return (StatusCode::NOT_MODIFIED, of_all).into_response();
    }
    let kind = [(header::CONTENT_TYPE, kind_of(path))];
    let bytes = FILES[place].1;
    let takes_gzip = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    if takes_gzip.is_some_and(|takes| takes.contains("gzip")) {
        return (of_all, kind, [(header::CONTENT_ENCODING, "gzip")], bytes).into_response();
    }
    match plain(bytes) {
        Ok(bytes) => (of_all, kind, bytes).into_response(),
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn plain(gzip: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip), &mut bytes)?;
    Ok(bytes)
}

/// The tag of each of [`FILES`], derived from its content.
fn tags() -> &'static [String] {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    let tag = |bytes: &[u8]| {
        ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    TAGS.get_or_init(|| FILES.iter().map(|(_, bytes)| format!("\"{}\"", tag(bytes))).collect())
}

fn kind_of(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, kind)| kind) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
