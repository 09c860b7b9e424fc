//! Dapr's HTTP API, as far as it is about bindings. Its answers are Dapr's, word for word.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::json::Body;
use super::numbers::Of;
use super::{Bound, Outcome, Shared};
use crate::mqtt::topic::valid_name;

/// The header of tokens.
pub(super) const TOKEN: &str = "dapr-api-token";
/// Connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// A request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEAD_WITHIN: Duration = Duration::from_secs(30);
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Before another attempt to accept, when there was no descriptor.
const PAUSE: Duration = Duration::from_millis(50);

type Answer = Response<Bytes>;

/// Serves for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    connection(socket, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to Dapr's API cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>) {
    let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES_MAX);
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), answer).await {
        tracing::trace!(%error, "a connection to Dapr's API ended");
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if let Some(refused) = stranger(shared, &path, request.headers()) {
        return refused;
    }
    let is_get = request.method() == Method::GET;
    match path.strip_prefix("/v1.0/") {
        Some("healthz" | "healthz/outbound") if is_get => empty(StatusCode::NO_CONTENT),
        Some("metadata") if is_get => metadata(shared),
        Some(rest) => match rest.strip_prefix("bindings/").filter(|name| !name.is_empty() && !name.contains('/')) {
            Some(name) if [Method::POST, Method::PUT].contains(request.method()) => {
                let name = decoded(name);
                bindings(shared, &name, request).await
            }
            Some(_) => failed(StatusCode::METHOD_NOT_ALLOWED, "ERR_METHOD_NOT_ALLOWED", "POST or PUT is expected"),
            None => unknown(&path),
        },
        None => unknown(&path),
    }
}

/// The answer to who is not to be here: a page of another site, or someone without the token.
fn stranger(shared: &Shared, path: &str, headers: &HeaderMap) -> Option<Answer> {
    if headers.contains_key(header::ORIGIN) {
        return Some(failed(StatusCode::FORBIDDEN, "ERR_FORBIDDEN", "requests of pages (Origin) are not served"));
    }
    let Some(token) = &shared.settings.api_token else {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let what = "Host must be localhost or a loopback address, as there is no token";
        return (!is_loopback(host)).then(|| failed(StatusCode::FORBIDDEN, "ERR_FORBIDDEN", what));
    };
    let given = headers.get(TOKEN).map(|given| crate::secure::Secret::new(given.as_bytes().to_vec()));
    if path.starts_with("/v1.0/healthz") || given.as_ref() == Some(token) {
        return None;
    }
    Some(text(StatusCode::UNAUTHORIZED, "invalid api token"))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|bracket| bracket < *colon)) {
        Some(colon) => &host[..colon],
        None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Publishes by a binding.
async fn bindings(shared: &Shared, name: &str, request: Request<Incoming>) -> Answer {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let what = "Content-Type must be application/json";
        return failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, "ERR_MALFORMED_REQUEST", what);
    }
    let body = to_bytes(Bytes::new(request.into_body()), shared.settings.body_bytes_max);
    let body = match tokio::time::timeout(BODY_WITHIN, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let what = format!("the body is longer than {} bytes, or broken off", shared.settings.body_bytes_max);
            return failed(StatusCode::PAYLOAD_TOO_LARGE, "ERR_MALFORMED_REQUEST", &what);
        }
        Err(_) => return failed(StatusCode::REQUEST_TIMEOUT, "ERR_MALFORMED_REQUEST", "the body takes too long"),
    };
    match published(shared, name, &body).await {
        Ok(Outcome::Done) => empty(StatusCode::NO_CONTENT),
        Ok(Outcome::Failed(why) | Outcome::Unknown(why)) | Err(Refused::Invoke(why)) => {
            let what = format!("error invoking output binding {name}: {why}");
            failed(StatusCode::INTERNAL_SERVER_ERROR, "ERR_INVOKE_OUTPUT_BINDING", &what)
        }
        Err(Refused::Malformed(why)) => {
            let what = format!("failed deserializing HTTP body: {why}");
            failed(StatusCode::BAD_REQUEST, "ERR_MALFORMED_REQUEST", &what)
        }
    }
}

enum Refused {
    Malformed(String),
    Invoke(String),
}

async fn published(shared: &Shared, name: &str, body: &[u8]) -> Result<Outcome, Refused> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| Refused::Malformed(error.to_string()))?;
    let all = shared.bindings();
    let is_it = |(_, _, binding): &&Bound| binding.component == name && binding.gives.is_some();
    let Some((bridge, gives)) = all.iter().find(is_it).and_then(|(at, _, of)| Some((*at, of.gives.as_ref()?))) else {
        return Err(Refused::Invoke(format!("couldn't find output binding {name}")));
    };
    match body.operation.as_deref() {
        None | Some("") => return Err(Refused::Invoke("operation field is missing from request".to_owned())),
        Some("create") => {}
        Some(other) => {
            return Err(Refused::Invoke(format!(
                "binding {name} does not support operation {other}. supported operations:create"
            )));
        }
    }
    let given = body.metadata.as_ref().and_then(|of| of.get("topic")).filter(|topic| !topic.is_empty());
    let Some(topic) = given.or(gives.topic.as_ref()) else {
        let why = "the topic of the component is a filter, and metadata has no topic";
        return Err(Refused::Invoke(why.to_owned()));
    };
    if !valid_name(topic) {
        return Err(Refused::Invoke(format!("{topic:?} is no topic to publish to")));
    }
    let outcome = shared.create(bridge, topic.clone(), body.payload(), (gives.qos, gives.retain)).await;
    shared.numbers.count(
        name,
        match outcome {
            Outcome::Done => Of::CreateDone,
            Outcome::Failed(_) => Of::CreateFailed,
            Outcome::Unknown(_) => Of::CreateUnknown,
        },
    );
    Ok(outcome)
}

fn metadata(shared: &Shared) -> Answer {
    let mut components: Vec<serde_json::Value> = Vec::new();
    for (_, _, binding) in shared.bindings().iter() {
        let mut can: Vec<&str> = Vec::new();
        can.extend(binding.takes.as_ref().map(|_| "INPUT_BINDING"));
        can.extend(binding.gives.as_ref().map(|_| "OUTPUT_BINDING"));
        match components.iter_mut().find(|known| known["name"] == binding.component.as_str()) {
            Some(known) => {
                let known = known["capabilities"].as_array_mut();
                known.into_iter().for_each(|all| all.extend(can.iter().map(|can| json!(can))));
            }
            None => components.push(json!({
                "name": binding.component, "type": binding.kind, "version": "v1", "capabilities": can,
            })),
        }
    }
    let body = json!({
        "id": shared.settings.app_id.as_deref().unwrap_or_default(),
        "runtimeVersion": concat!("forebay-", env!("CARGO_PKG_VERSION")),
        "components": components,
        "extended": {},
    });
    json_of(StatusCode::OK, &body)
}

fn unknown(path: &str) -> Answer {
    failed(StatusCode::NOT_FOUND, "ERR_METHOD_NOT_FOUND", &format!("{path} is not served: only bindings are"))
}

fn failed(status: StatusCode, code: &str, message: &str) -> Answer {
    json_of(status, &json!({ "errorCode": code, "message": message }))
}

fn json_of(status: StatusCode, body: &serde_json::Value) -> Answer {
    with(status, "application/json", Bytes::from(body.to_string()))
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    with(status, "text/plain; charset=utf-8", Bytes::from(body))
}

fn with(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Bytes::empty());
    *answer.status_mut() = status;
    answer
}

/// A part of a path in which `%` and two hexadecimal digits stand for a byte.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(of) => {
                bytes.push(of);
                rest = &behind[2..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in
            ["localhost", "LOCALHOST:3500", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:3500", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "[::2]:1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn names_in_paths_are_decoded() {
        assert_eq!((decoded("a%2Eb"), decoded("a%"), decoded("%zz")), ("a.b".into(), "a%".into(), "%zz".into()));
    }
}
