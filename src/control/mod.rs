//! The control plane: one ordinary thread with a small tokio runtime that serves `/healthz`, `/readyz`, `/metrics` and
//! `/api/v1`. It reads boards, heartbeats and the journal of events; it never touches a shard. `docs/API.md` describes it.

mod api;
mod described;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::oneshot;

pub use self::described::{Cluster, Described, Listener, Sink};
use crate::metrics::collector::{Boards, Extra, render};
use crate::metrics::exposition::Format;
use crate::metrics::journal::Journal;
use crate::metrics::samples::Samples;

/// Says why the process is not healthy; `None` while every shard's loop turns.
pub type Health = dyn Fn() -> Option<String> + Send + Sync;

/// What the control plane shows.
pub struct View {
    /// Numbers of the shards.
    pub boards: Arc<Boards>,
    /// Numbers of other threads.
    pub extra: Vec<Arc<dyn Extra>>,
    /// Listeners are open; goes back to false when draining.
    pub ready: Arc<AtomicBool>,
    /// Stall check.
    pub health: Box<Health>,
    /// Events.
    pub journal: Arc<Journal>,
    /// The boards of the last seconds.
    pub samples: Arc<Samples>,
    /// What the numbers are of.
    pub described: Arc<Described>,
}

/// The running control plane.
#[derive(Debug)]
pub struct Control {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Binds at once, so that a taken port is known here, and serves on a thread of its own.
    ///
    /// # Errors
    /// The address cannot be bound, or the thread cannot be made.
    pub fn start(bind: SocketAddr, view: View) -> io::Result<Self> {
        let listener = TcpListener::bind(bind)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(Arc::new(view));
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(async move {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "control plane cannot serve"),
                };
                let server = axum::serve(listener, router);
                tokio::select! {
                    served = async { server.await } => {
                        if let Err(error) = served {
                            tracing::error!(%error, "control plane ended");
                        }
                    }
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens (with the real port if 0 was asked for).
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn router(view: Arc<View>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(api::routes())
        .with_state(view)
}

async fn index() -> &'static str {
    "forebay\n\
     /healthz            200 while every shard turns\n\
     /readyz             200 while devices are accepted\n\
     /metrics            Prometheus text\n\
     /api/v1/sinks       sinks: totals, rates, state; /api/v1/sinks/NAME one of them\n\
     /api/v1/listeners   listeners: connections, messages\n\
     /api/v1/clusters    Kafka clusters: reachable, connections, memory\n\
     /api/v1/events      what happened: ?since=ID&kind=KIND&sink=NAME&limit=N\n"
}

async fn healthz(State(view): State<Arc<View>>) -> impl IntoResponse {
    match (view.health)() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn readyz(State(view): State<Arc<View>>) -> impl IntoResponse {
    if view.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not accepting devices\n")
    }
}

async fn metrics(State(view): State<Arc<View>>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(header::CONTENT_TYPE, format.content_type())], render(&view.boards, &view.extra, format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn ask(addr: SocketAddr, path: &str) -> String {
        let mut socket = std::net::TcpStream::connect(addr).expect("connect");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("ask");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answer");
        answer
    }

    #[test]
    fn readiness_and_health_follow_what_they_watch() {
        let boards =
            Arc::new(Boards { shards: Vec::new(), sinks: Vec::new(), clusters: Vec::new(), listeners: Vec::new() });
        let (ready, sick) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let watched = Arc::clone(&sick);
        let health = Box::new(move || watched.load(Ordering::Relaxed).then(|| "shard 1 stands still".to_owned()));
        let view = View {
            boards,
            extra: Vec::new(),
            ready: Arc::clone(&ready),
            health,
            journal: Arc::default(),
            samples: Arc::default(),
            described: Arc::default(),
        };
        let control = Control::start(([127, 0, 0, 1], 0).into(), view).expect("start");
        assert!(ask(control.addr(), "/readyz").starts_with("HTTP/1.1 503"));
        ready.store(true, Ordering::Release);
        assert!(ask(control.addr(), "/readyz").starts_with("HTTP/1.1 200"));
        assert!(ask(control.addr(), "/healthz").starts_with("HTTP/1.1 200"));
        sick.store(true, Ordering::Relaxed);
        assert!(ask(control.addr(), "/healthz").contains("shard 1 stands still"));
        assert!(ask(control.addr(), "/metrics").starts_with("HTTP/1.1 200"));
    }
}
