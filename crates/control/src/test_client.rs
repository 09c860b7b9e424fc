//! `GET /ui/mqtt`: a WebSocket for the MQTT client of the dashboard. Its bytes are relayed to a shard, which handles WebSocket and MQTT as for any client:
//! at the first listener, as the user `dashboard/TOKEN`, with the access control and the limits of that listener.
//!
//! The WebSocket needs a login with the role write, and ends with the login. Limits: 16 at a time, 1 MiB/s each way.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream as Pair;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::Shown;
use super::auth::{self, Grant};
use super::login;
use super::problem::Problem;

/// Limit of concurrent clients.
const CLIENTS_MAX: usize = 16;
/// Limit of bytes per second, each way.
const BYTES_PER_SECOND: usize = 1 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;
/// Limit of the bytes of a shard's answer to the request.
const HEAD_BYTES_MAX: usize = 1 << 10;
/// Time that a shard may take to answer the request.
const PATIENCE: Duration = Duration::from_secs(5);

static ROOM: Semaphore = Semaphore::const_new(CLIENTS_MAX);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Number of clients, and of clients refused at the limit.
pub(super) fn numbers() -> [u64; 2] {
    [(CLIENTS_MAX - ROOM.available_permits()) as u64, REFUSED.load(Ordering::Relaxed)]
}

/// Serves `/ui/mqtt`.
pub(super) async fn connect(
    State(shown): State<Shown>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    begin(shown, peer, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn begin(shown: Shown, peer: SocketAddr, mut request: Request) -> Result<Response, Problem> {
    let view = shown.view();
    let (name, grant) = auth::of_page(&view, peer, request.headers())?;
    let place = ROOM.try_acquire().map_err(|_| {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        Problem::unavailable(format!("{CLIENTS_MAX} of these clients are connected, which is as many as may be"))
    })?;
    let failed = |error: std::io::Error| Problem::unavailable(format!("no way to a shard: {error}"));
    let (near, far) = Pair::pair().map_err(failed)?;
    near.set_nonblocking(true).and_then(|()| far.set_nonblocking(true)).map_err(failed)?;
    if !view.shards.test_client(far.into(), &format!("dashboard/{name}")) {
        return Err(Problem::unavailable("the shard is busy: its mailbox is full; try again"));
    }
    let mut shard = UnixStream::from_std(near).map_err(failed)?;
    let asked = timeout(PATIENCE, ask(&mut shard, request.headers())).await;
    let answer = asked.map_err(|_| Problem::unavailable("the shard does not answer"))?.map_err(failed)?;
    let accepted = accepted(&answer)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(page) = upgrade.await {
            pump(TokioIo::new(page), shard, &shown, &grant, place).await;
        }
    });
    Ok(accepted)
}

/// Sends a shard the page's request for a WebSocket, and returns the shard's answer.
async fn ask(shard: &mut UnixStream, headers: &HeaderMap) -> std::io::Result<String> {
    let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // One of them is half of the login.
    let protocols = of("sec-websocket-protocol").split(',').map(str::trim).filter(|one| !one.starts_with(login::HALF));
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: dashboard\r\nConnection: Upgrade\r\nUpgrade: {}\r\nSec-WebSocket-Version: {}\r\n\
         Sec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        of("upgrade"),
        of("sec-websocket-version"),
        of("sec-websocket-key"),
        protocols.collect::<Vec<_>>().join(", ")
    );
    shard.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let mut bytes = [0; HEAD_BYTES_MAX];
        let read = shard.read(&mut bytes).await?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(&bytes[..read]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The shard's answer as a response for the page; an error if the answer does not open a WebSocket.
fn accepted(answer: &str) -> Result<Response, Problem> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if !head.starts_with("HTTP/1.1 101 ") {
        let status = head.split(' ').nth(1).and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok());
        let what = if body.is_empty() { "the listener has refused the connection" } else { body.trim() };
        return Err(Problem::new(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), what));
    }
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, Body::empty()).into_response();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().remove(header::CONTENT_LENGTH);
    Ok(response)
}

/// Relays bytes both ways until an end closes, or the login does not hold any more.
async fn pump(
    page: impl AsyncRead + AsyncWrite + Send + 'static,
    shard: UnixStream,
    shown: &Shown,
    grant: &Grant,
    _place: SemaphorePermit<'static>,
) {
    let (from_page, to_page) = tokio::io::split(page);
    let (from_shard, to_shard) = shard.into_split();
    tokio::select! {
        () = carry(from_page, to_shard) => {}
        () = carry(from_shard, to_page) => {}
        () = ends(shown, grant) => {}
    }
}

/// Returns when the login does not hold any more, according to the current view's tokens.
async fn ends(shown: &Shown, grant: &Grant) {
    while may_go_on(shown, grant) {
        sleep(auth::GRANT_CHECKED_EVERY).await;
    }
}

fn may_go_on(shown: &Shown, grant: &Grant) -> bool {
    let view = shown.view();
    grant.holds(&view) && auth::may_read_messages(&view, grant).is_ok()
}

/// Relays one way, at most at [`BYTES_PER_SECOND`].
async fn carry(from: impl AsyncRead, to: impl AsyncWrite) {
    let (mut from, mut to) = (std::pin::pin!(from), std::pin::pin!(to));
    let mut bytes = vec![0; READ_BYTES];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if to.write_all(&bytes[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
        sleep(rest(read)).await;
    }
}

/// The time that `bytes` take at [`BYTES_PER_SECOND`].
const fn rest(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_SECOND as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shard_answers_is_passed_on() {
        let answer = accepted(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
        );
        let answer = answer.expect("accepted");
        assert_eq!(answer.status(), 101);
        assert_eq!(
            (&answer.headers()["upgrade"], &answer.headers()["sec-websocket-accept"]),
            (&"websocket".parse().expect("a value"), &"x".parse().expect("a value"))
        );
        let refused = accepted("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno mqtt\n").expect_err("refused");
        assert!(refused.is(StatusCode::BAD_REQUEST) && refused.detail() == "no mqtt");
        assert!(accepted("").expect_err("refused").is(StatusCode::SERVICE_UNAVAILABLE));
    }

    /// `carry` passes all bytes on, and rests for 1 s after 1 MiB.
    #[tokio::test]
    async fn bytes_are_carried_at_a_rate() {
        assert_eq!((rest(BYTES_PER_SECOND), rest(READ_BYTES)), (Duration::from_secs(1), Duration::from_micros(15_625)));
        let (mut near, from) = tokio::io::duplex(READ_BYTES);
        let (to, mut far) = tokio::io::duplex(READ_BYTES);
        near.write_all(b"some bytes").await.expect("written");
        drop(near);
        carry(from, to).await;
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, b"some bytes");
    }
}
