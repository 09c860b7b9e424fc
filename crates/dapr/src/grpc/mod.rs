//! gRPC for bindings: Dapr's API for applications, by TCP, and components for a sidecar of Dapr, by Unix sockets. HTTP/2 is
//! served by hyper, with bounds on connections and requests, and services are tonic's.
//!
//! | file | |
//! |---|---|
//! | `api` | Dapr's API |
//! | `component` | the services that a sidecar calls of a component |
//! | `streams` | messages for a sidecar, and its answers |

mod api;
mod component;
mod streams;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower_service::Service as _;

use self::api::Api;
pub(super) use self::streams::Streams;
use super::proto::runtime::dapr_server::DaprServer;
use super::serve::{HEAD_BYTES_MAX, HEAD_WITHIN, INVALID_TOKEN, Used, accept_all, has_token};
use super::{MORE_BYTES, Shared};
use forebay_guard::secure::Secret;

/// Requests of one connection at a time.
const STREAMS_MAX: u32 = 256;
/// Requests at a time, over all connections to one address.
const REQUESTS_MAX: usize = 256;

type Answer = http::Response<Body>;

/// Serves Dapr's API while it is polled.
pub(super) async fn serve_api(listener: TcpListener, shared: Arc<Shared>) {
    let reporter = HealthReporter::new();
    reporter.set_serving::<DaprServer<Api>>().await;
    let dapr = DaprServer::new(Api(Arc::clone(&shared)));
    let dapr = dapr.max_decoding_message_size(message_bytes_max(&shared));
    let routes = Routes::new(dapr).add_service(HealthServer::new(HealthService::from_health_reporter(reporter)));
    let server = Server::new(routes, shared.settings.api_token.clone());
    let accept = || async {
        let (socket, _) = listener.accept().await?;
        // Answers are sent at once.
        socket.set_nodelay(true).map(|()| socket)
    };
    accept_all(accept, |socket, used| connection(socket, server.clone(), used)).await;
}

/// Serves components of a type while it is polled. Every process that may open the socket may call them: there is no token.
pub(super) async fn serve_components(listener: UnixListener, kind: &'static str, shared: Arc<Shared>) {
    let Some(routes) = component::routes(kind, &shared) else { return };
    let server = Server::new(routes, None);
    let accept = || async { listener.accept().await.map(|(socket, _)| socket) };
    accept_all(accept, |socket, used| connection(socket, server.clone(), used)).await;
}

/// The longest message that is read: one with the largest payload of a packet.
fn message_bytes_max(shared: &Shared) -> usize {
    shared.settings.body_bytes_max + MORE_BYTES
}

/// Serves a connection. A connection without a request in time is closed.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(socket: S, server: Server, used: Used) {
    let has_asked = Arc::<AtomicBool>::default();
    let asks = Arc::clone(&has_asked);
    let answer = hyper::service::service_fn(move |request| {
        // A stream goes on after its answer has begun: a connection with a request is never an idle one.
        used.begin();
        asks.store(true, Ordering::Relaxed);
        let answer = server.clone().answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(Some(HEAD_WITHIN)).keep_alive_timeout(HEAD_WITHIN);
    builder.max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX as u32);
    let connection = builder.serve_connection(TokioIo::new(socket), answer);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = tokio::time::sleep(HEAD_WITHIN) => match has_asked.load(Ordering::Relaxed) {
            true => connection.await,
            false => return,
        },
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection to Dapr's gRPC API ended");
    }
}

/// Answers the requests of all connections to an address.
#[derive(Clone)]
struct Server {
    routes: Routes,
    token: Option<Secret>,
    places: Arc<Semaphore>,
}

impl Server {
    fn new(routes: Routes, token: Option<Secret>) -> Self {
        Self { routes: routes.prepare(), token, places: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }

    /// Answers a request. The messages of a stream go on after this.
    async fn answer(mut self, request: http::Request<Incoming>) -> Answer {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let is_health = service == <HealthServer<HealthService> as NamedService>::NAME;
        let token = self.token.as_ref().filter(|_| !is_health);
        if token.is_some_and(|token| !has_token(request.headers(), token)) {
            return Status::unauthenticated(INVALID_TOKEN).into_http();
        }
        let place = match is_health {
            true => None,
            false => self.places.acquire().await.ok(),
        };
        let answer = self.routes.call(request).await.unwrap_or_else(|never| match never {});
        drop(place);
        answer
    }
}
