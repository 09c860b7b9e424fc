//! Accepts connections to the control plane, plain or over TLS, and serves each until it ends or times out. Handshakes run concurrently: a slow one delays
//! no other.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::Uri;
use axum::response::Response;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::Shown;
use super::connections::{Connections, Doing, Place};
use forebay_base::address::{Address, canonical};

/// Limit of the bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Pause before another attempt to accept, when there was no descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts and serves connections for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, shown: Shown, router: Router, connections: Arc<Connections>) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok((socket, peer)) => (socket, canonical(peer)),
            Err(error) => {
                tracing::debug!(%error, "a connection to the control plane cannot be accepted");
                // If there is no descriptor, closing an idle connection frees one.
                connections.close_spare(None);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = connections.admit(Address::of(peer.ip())) else { continue };
        let number = place.number();
        let one = Connection { place, peer, shown: shown.clone(), router: router.clone() };
        let task = tokio::spawn(one.run(socket, Arc::clone(&connections)));
        connections.runs(number, task.abort_handle());
    }
}

struct Connection {
    place: Place,
    peer: SocketAddr,
    shown: Shown,
    router: Router,
}

impl Connection {
    async fn run(self, socket: TcpStream, connections: Arc<Connections>) {
        let (doing, peer) = (Arc::clone(&self.place.doing), self.peer);
        let mut served = pin!(self.serve(Watched { io: socket, doing: Arc::clone(&doing) }));
        let mut sleep = pin!(tokio::time::sleep_until(doing.due(&connections.bounds)));
        let in_time = poll_fn(|context| {
            if served.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            let due = doing.due(&connections.bounds);
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            sleep.as_mut().poll(context).map(|()| false)
        });
        if !in_time.await {
            connections.timed_out();
            tracing::debug!(%peer, "a connection to the control plane took too long");
        }
    }

    async fn serve(self, socket: Watched) {
        // The handshake uses the certificate that is in force now.
        let Some(config) = self.shown.view().tls.clone() else { return self.requests(socket).await };
        match TlsAcceptor::from(config).accept(socket).await {
            Ok(stream) => self.requests(stream).await,
            Err(error) => tracing::debug!(peer = %self.peer, %error, "a TLS connection to the control plane failed"),
        }
    }

    async fn requests(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (doing, peer) = (&self.place.doing, self.peer);
        let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            doing.answers(Instant::now());
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(uri) = below(request.uri(), &self.shown.view().described.dashboard.base_path) {
                *request.uri_mut() = uri;
            }
            let (mut router, doing) = (self.router.clone(), Arc::clone(doing));
            async move {
                let response: Result<Response, Infallible> = router.call(request.map(Body::new)).await;
                response.map(|response| response.map(|inner| Told { inner, doing }))
            }
        });
        let mut builder = http1::Builder::new();
        let served = builder.max_buf_size(HEAD_BYTES_MAX).serve_connection(TokioIo::new(io), answer);
        let served = served.with_upgrades().await;
        if let Err(error) = served {
            tracing::trace!(%peer, %error, "a connection to the control plane ended");
        }
    }
}

/// The URI without the base path at a proxy; `None`: the path is not below the base path.
fn below(uri: &Uri, base_path: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(base_path).filter(|_| !base_path.is_empty())?;
    match rest.as_bytes().first() {
        None => Some(Uri::from_static("/")),
        Some(b'/') => rest.parse().ok(),
        // The path of something else, which merely begins with the base path.
        Some(_) => None,
    }
}

/// A socket that reports its activity to [`Doing`].
struct Watched {
    io: TcpStream,
    doing: Arc<Doing>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, into);
        if into.filled().len() > before {
            self.doing.hears(Instant::now());
        }
        read
    }
}

impl Watched {
    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.doing.sends(written.is_ready(), Instant::now());
        written
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// The body of an answer, which reports its end to [`Doing`].
struct Told {
    inner: Body,
    doing: Arc<Doing>,
}

impl hyper::body::Body for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.doing.waits(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::connections::Bounds;
    use super::*;
    use crate::{Described, View};
    use forebay_metrics::collector::{Boards, Extra as _};

    const BOUNDS: Bounds =
        Bounds { all: 8, of_address: 8, head: Duration::from_millis(200), idle: Duration::from_millis(600) };
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn started() -> (SocketAddr, Arc<Connections>) {
        let boards = Boards::default();
        let shown = Shown::new(View::idle(boards, Described::default()));
        // An answer that never ends and never fits into the buffers of a socket.
        let endless =
            || async { Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, Infallible>(vec![0; 65_536]))) };
        let hold = |body: Body| async move {
            axum::body::to_bytes(body, 1 << 20).await.map(|bytes| bytes.len().to_string()).unwrap_or_default()
        };
        let router = Router::new()
            .route("/", axum::routing::get(|| async { "here" }).post(hold))
            .route("/endless", axum::routing::get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(Connections::bounded(BOUNDS));
        tokio::spawn(serve(listener, shown, router, Arc::clone(&connections)));
        (addr, connections)
    }

    #[test]
    fn a_path_at_a_proxy_stands_for_the_one_below_it() {
        let stands = |path: &'static str, base| below(&Uri::from_static(path), base).map(|uri| uri.to_string());
        assert_eq!(stands("/forebay/ui/?a=b", "/forebay").as_deref(), Some("/ui/?a=b"));
        assert_eq!(stands("/forebay", "/forebay").as_deref(), Some("/"));
        for (path, base) in [("/ui/", "/forebay"), ("/forebays/ui/", "/forebay"), ("/ui/", "")] {
            assert_eq!(stands(path, base), None, "{path}");
        }
    }

    /// Time from `since` until the service has closed its end.
    async fn closed(mut stream: TcpStream, since: Instant) -> Duration {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        since.elapsed()
    }

    /// Finding S4: only an answer that the peer reads can keep a connection open for ever.
    #[tokio::test]
    async fn finding_s4_what_takes_too_long_is_closed() {
        let (addr, connections) = started().await;
        let connect = || async { (TcpStream::connect(addr).await.unwrap(), Instant::now()) };
        // A connection that sends nothing, and one that sends half a head, byte by byte.
        let (silent, since) = connect().await;
        assert!(closed(silent, since).await >= BOUNDS.head);
        let (mut dripping, since) = connect().await;
        dripping.write_all(b"GET / HTTP/1.1\r\nX-Long: ").await.unwrap();
        while dripping.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(since.elapsed() >= BOUNDS.head);
        // A connection may be idle for longer between requests.
        let (mut kept, since) = connect().await;
        for _ in 0..2 {
            kept.write_all(GET).await.unwrap();
            let mut answer = vec![0; 512];
            let count = kept.read(&mut answer).await.unwrap();
            assert!(answer[..count].ends_with(b"here"));
            tokio::time::sleep(BOUNDS.head).await;
        }
        assert!(closed(kept, since).await >= BOUNDS.idle + BOUNDS.head);
        // A client that does not read its answer.
        let (mut deaf, _) = connect().await;
        deaf.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let timeouts = || connections.read()[3].value;
        let all_ended = async {
            while timeouts() < 4.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all_ended).await.expect("the fourth is closed");
        drop(deaf);
        assert_eq!(connections.read()[0].value, 0.0, "no place is lost");
    }
}
