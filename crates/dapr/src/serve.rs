//! Dapr's HTTP API for bindings. Its answers are Dapr's, word for word.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body as Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::json::Body;
use super::{Shared, output};
use forebay_guard::secure::Secret;

/// The header of tokens.
pub(super) const TOKEN: &str = "dapr-api-token";
/// The most connections at a time. Another one takes the place of the one that has asked nothing for longest; if all are being answered,
/// it waits to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// The longest head of a request, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(30);
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// The wait before another attempt to accept, when there was no descriptor.
const PAUSE: Duration = Duration::from_millis(50);

type Answer = Response<Bytes>;

/// Serves while it is polled.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let accept = || async { listener.accept().await.map(|(socket, _)| socket) };
    accept_all(accept, |socket, used| connection(socket, Arc::clone(&shared), used)).await;
}

/// The use that a connection is of.
#[derive(Clone, Debug)]
pub(super) struct Used(Arc<(AtomicUsize, Mutex<Instant>)>);

impl Used {
    fn new() -> Self {
        Self(Arc::new((AtomicUsize::new(0), Mutex::new(Instant::now()))))
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has been answered.
    fn end(&self) {
        *self.0.1.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when nothing was asked; `None`: a request is being answered.
    fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.0.0.load(Ordering::Relaxed) == 0;
        is_idle.then(|| *self.0.1.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Closes the connection that has asked nothing for longest. `false`: all are being answered.
fn close_idle(open: &mut Vec<(AbortHandle, Used)>) -> bool {
    let idle = open.iter().enumerate().filter_map(|(at, (_, used))| Some((used.idle_since()?, at)));
    let Some((_, at)) = idle.min() else { return false };
    open.swap_remove(at).0.abort();
    true
}

/// Serves all connections, [`CONNECTIONS_MAX`] at a time, while it is polled.
pub(super) async fn accept_all<S, A: Future<Output = io::Result<S>>, F: Future<Output = ()> + Send + 'static>(
    accept: impl Fn() -> A,
    serve: impl Fn(S, Used) -> F,
) {
    let mut open: Vec<(AbortHandle, Used)> = Vec::new();
    loop {
        match accept().await {
            Ok(socket) => {
                open.retain(|(task, _)| !task.is_finished());
                while open.len() >= CONNECTIONS_MAX && !close_idle(&mut open) {
                    tokio::time::sleep(PAUSE).await;
                    open.retain(|(task, _)| !task.is_finished());
                }
                let used = Used::new();
                open.push((tokio::spawn(serve(socket, used.clone())).abort_handle(), used));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to Dapr's API cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>, used: Used) {
    let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (shared, used) = (Arc::clone(&shared), used.clone());
        used.begin();
        async move {
            let answer = answer(&shared, request).await;
            used.end();
            Ok::<_, Infallible>(answer)
        }
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

/// The refusal of a stranger: a page of another site, or a client without the token.
fn stranger(shared: &Shared, path: &str, headers: &HeaderMap) -> Option<Answer> {
    if headers.contains_key(header::ORIGIN) {
        return Some(failed(StatusCode::FORBIDDEN, "ERR_FORBIDDEN", "requests of pages (Origin) are not served"));
    }
    let Some(token) = &shared.settings.api_token else {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let what = "Host must be localhost or a loopback address, as there is no token";
        return (!is_loopback(host)).then(|| failed(StatusCode::FORBIDDEN, "ERR_FORBIDDEN", what));
    };
    let is_free = path.starts_with("/v1.0/healthz") || has_token(headers, token);
    (!is_free).then(|| text(StatusCode::UNAUTHORIZED, INVALID_TOKEN))
}

/// Dapr's words for a client without the token.
pub(super) const INVALID_TOKEN: &str = "invalid api token";

/// Whether a request has the token.
pub(super) fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    headers.get(TOKEN).is_some_and(|given| Secret::new(given.as_bytes().to_vec()) == *token)
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
    let body: Body<'_> = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => {
            let what = format!("failed deserializing HTTP body: {error}");
            return failed(StatusCode::BAD_REQUEST, "ERR_MALFORMED_REQUEST", &what);
        }
    };
    let topic = body.metadata.as_ref().and_then(|of| of.get("topic")).map(String::as_str);
    let operation = body.operation.as_deref().unwrap_or_default();
    match output::publish(shared, name, operation, topic, body.payload()).await {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(why) => failed(StatusCode::INTERNAL_SERVER_ERROR, "ERR_INVOKE_OUTPUT_BINDING", &output::failed(name, &why)),
    }
}

fn metadata(shared: &Shared) -> Answer {
    let component = |of: output::Registered| json!({ "name": of.name, "type": of.kind, "version": "v1", "capabilities": of.capabilities });
    let body = json!({
        "id": shared.settings.app_id.as_deref().unwrap_or_default(),
        "runtimeVersion": output::VERSION,
        "components": output::registered(shared).into_iter().map(component).collect::<Vec<_>>(),
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

/// Decodes a part of a path, in which `%` and two hexadecimal digits stand for a byte.
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

    /// Finding Q24: connections that ask nothing make room for others, those that have for longest first.
    #[tokio::test]
    async fn finding_q24_silent_connections_make_room() {
        let (come, comes) = tokio::sync::mpsc::unbounded_channel::<usize>();
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let comes = tokio::sync::Mutex::new(comes);
        struct End(usize, tokio::sync::mpsc::UnboundedSender<usize>);
        impl Drop for End {
            fn drop(&mut self) {
                let _nobody = self.1.send(self.0);
            }
        }
        let served = accept_all(
            || async { comes.lock().await.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into()) },
            move |number, used| {
                let end = End(number, ended.clone());
                async move {
                    // The first one is being answered all the time.
                    if number == 0 {
                        used.begin();
                    }
                    std::future::pending::<()>().await;
                    drop(end);
                }
            },
        );
        (0..300).for_each(|number| come.send(number).expect("it listens"));
        let wanted = 300 - CONNECTIONS_MAX;
        let closed = async {
            let mut all = Vec::new();
            while all.len() < wanted {
                all.push(ends.recv().await.expect("a connection"));
            }
            all
        };
        let closed = tokio::select! {
            () = served => Vec::new(),
            all = closed => all,
        };
        assert!(closed.len() == wanted && !closed.contains(&0) && closed.iter().all(|one| *one < 256), "{closed:?}");
    }
}
