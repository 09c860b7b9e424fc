//! Dapr's gRPC API, as far as it is about bindings. HTTP/2 is served by hyper, with bounds for connections and requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower_service::Service;

use super::proto::runtime::dapr_server::{Dapr, DaprServer};
use super::proto::runtime::{
    Empty, GetMetadataResponse, InvokeBindingRequest, InvokeBindingResponse, RegisteredComponents,
};
use super::serve::{HEAD_BYTES_MAX, HEAD_WITHIN, INVALID_TOKEN, accept_all, has_token};
use super::{MORE_BYTES, Shared, output};

/// Requests of one connection at a time.
const STREAMS_MAX: u32 = 256;
/// Messages that applications publish at a time, over all connections.
const REQUESTS_MAX: usize = 256;

type Answer = http::Response<Body>;

/// Serves for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let server = Server::new(shared).await;
    let accept = async || {
        let (socket, _) = listener.accept().await?;
        // An answer does not wait for the next.
        socket.set_nodelay(true).map(|()| socket)
    };
    accept_all(accept, |socket| {
        let server = server.clone();
        connection(socket, move |request| {
            let server = server.clone();
            async move { server.answer(request).await }
        })
    })
    .await;
}

/// Serves a connection. One that asks for nothing in time ends.
async fn connection<S, F>(socket: S, answer: impl Fn(http::Request<Incoming>) -> F + Send + 'static)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let has_asked = Arc::<AtomicBool>::default();
    let asks = Arc::clone(&has_asked);
    let answer = hyper::service::service_fn(move |request| {
        asks.store(true, Ordering::Relaxed);
        let answer = answer(request);
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

/// `Server` answers the requests of all connections.
#[derive(Clone)]
struct Server {
    shared: Arc<Shared>,
    dapr: DaprServer<Api>,
    health: HealthServer<HealthService>,
    places: Arc<Semaphore>,
}

impl Server {
    async fn new(shared: Arc<Shared>) -> Self {
        let reporter = HealthReporter::new();
        reporter.set_serving::<DaprServer<Api>>().await;
        let dapr = DaprServer::new(Api(Arc::clone(&shared)));
        let dapr = dapr.max_decoding_message_size(shared.settings.body_bytes_max + MORE_BYTES);
        let health = HealthServer::new(HealthService::from_health_reporter(reporter));
        Self { shared, dapr, health, places: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }

    async fn answer(mut self, request: http::Request<Incoming>) -> Answer {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let is_health = service == <HealthServer<HealthService> as NamedService>::NAME;
        let token = self.shared.settings.api_token.as_ref().filter(|_| !is_health);
        if token.is_some_and(|token| !has_token(request.headers(), token)) {
            return Status::unauthenticated(INVALID_TOKEN).into_http();
        }
        let answered = if is_health {
            self.health.call(request).await
        } else if service == <DaprServer<Api> as NamedService>::NAME {
            let Ok(_place) = self.places.acquire().await else { return Status::unavailable("").into_http() };
            self.dapr.call(request).await
        } else {
            return Status::unimplemented(format!("{service} is not served: only bindings are")).into_http();
        };
        answered.unwrap_or_else(|never| match never {})
    }
}

/// `Api` is Dapr's API.
struct Api(Arc<Shared>);

#[async_trait]
impl Dapr for Api {
    async fn invoke_binding(
        &self,
        request: Request<InvokeBindingRequest>,
    ) -> Result<Response<InvokeBindingResponse>, Status> {
        let InvokeBindingRequest { name, data, metadata, operation } = request.into_inner();
        let topic = metadata.get("topic").map(String::as_str);
        match output::publish(&self.0, &name, &operation, topic, data).await {
            Ok(()) => Ok(Response::new(InvokeBindingResponse::default())),
            Err(why) => Err(Status::internal(output::failed(&name, &why))),
        }
    }

    async fn get_metadata(&self, _: Request<Empty>) -> Result<Response<GetMetadataResponse>, Status> {
        let component = |of: output::Registered| RegisteredComponents {
            name: of.name,
            r#type: of.kind.to_owned(),
            version: "v1".to_owned(),
            capabilities: of.capabilities.into_iter().map(str::to_owned).collect(),
        };
        Ok(Response::new(GetMetadataResponse {
            id: self.0.settings.app_id.clone().unwrap_or_default(),
            registered_components: output::registered(&self.0).into_iter().map(component).collect(),
            extended_metadata: [].into(),
            runtime_version: output::VERSION.to_owned(),
        }))
    }
}
