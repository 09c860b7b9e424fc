//! An application that is called by gRPC. Its connection is reused by all calls.

use std::error::Error as _;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::super::proto::runtime::app_callback_client::AppCallbackClient;
use super::super::proto::runtime::{BindingEventRequest, BindingEventResponse, Empty};
use super::super::serve::TOKEN;
use super::super::{Address, Call, json, output};
use super::{Application, Failed, WITHIN, traceparent};

/// The connection, once it was made.
pub(super) type Kept = tokio::sync::Mutex<Option<http2::SendRequest<Body>>>;
type Client = AppCallbackClient<Channel>;

pub(super) async fn wants(app: &Application, address: &Address, component: &str) -> Result<(), Failed> {
    let asked = |mut client: Client| async move { client.list_input_bindings(request(app, Empty {})).await };
    let answer = calls(app, address, asked).await?;
    match answer.bindings.iter().any(|wanted| wanted == component) {
        true => Ok(()),
        false => Err(Failed::Refused(format!("ListInputBindings: {component:?} is not among {:?}", answer.bindings))),
    }
}

pub(super) async fn take(app: &Application, address: &Address, call: &Call) -> Result<(), Failed> {
    let event = BindingEventRequest {
        name: call.binding.component.clone(),
        data: call.payload.clone(),
        metadata: [("topic".to_owned(), call.topic.clone())].into(),
    };
    let asked = |mut client: Client| {
        let event = event.clone();
        async move { client.on_binding_event(request(app, event)).await }
    };
    let answer = calls(app, address, asked).await?;
    republish(app, &answer).await;
    Ok(())
}

/// Has output bindings publish the contents of an answer. As in Dapr the message counts as taken, whatever the outcome.
async fn republish(app: &Application, answer: &BindingEventResponse) {
    if answer.to.is_empty() {
        return;
    }
    let payload = json::normal(&answer.data);
    for name in &answer.to {
        let published = output::publish(&app.shared, name, output::CREATE, None, payload.clone()).await;
        if let Err(why) = published {
            tracing::warn!("answer of the application: {}", output::failed(name, &why));
            if answer.concurrency == 0 {
                break;
            }
        }
    }
}

fn request<T>(app: &Application, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let mut put = |name: &'static str, value: &[u8]| {
        MetadataValue::try_from(value).into_iter().for_each(|value| drop(request.metadata_mut().insert(name, value)));
    };
    put("traceparent", traceparent().as_bytes());
    app.shared.settings.app_token.iter().for_each(|token| put(TOKEN, token.expose()));
    request
}

/// Calls the application. A connection that has ended before the request was sent is replaced, once.
async fn calls<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
    app: &Application,
    address: &Address,
    call: impl Fn(Client) -> F,
) -> Result<T, Failed> {
    let origin: http::Uri = format!("http://{address}").parse().unwrap_or_default();
    for _ in 0..2 {
        let channel = Channel(connected(app, address).await?);
        let client = AppCallbackClient::with_origin(channel, origin.clone());
        let client = client.max_decoding_message_size(app.shared.settings.body_bytes_max + super::super::MORE_BYTES);
        let status = match tokio::time::timeout(WITHIN, call(client)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => {
                // The connection may be the cause.
                *app.grpc.lock().await = None;
                return Err(Failed::Late);
            }
        };
        match status.source().map(|source| source.downcast_ref::<Lost>()) {
            None => return Err(Failed::Refused(format!("gRPC status {:?}: {}", status.code(), status.message()))),
            Some(Some(Lost { is_sent: false, .. })) => *app.grpc.lock().await = None,
            Some(Some(Lost { why, .. })) => return Err(Failed::Broken(why.clone())),
            Some(None) => return Err(Failed::Broken(status.message().to_owned())),
        }
    }
    Err(app.away(address, "it ends connections at once"))
}

/// The existing connection, or a new one.
async fn connected(app: &Application, address: &Address) -> Result<http2::SendRequest<Body>, Failed> {
    let mut kept = app.grpc.lock().await;
    if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
        return Ok(sender.clone());
    }
    let stream = app.connect(address).await?;
    let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = made.await.map_err(|error| app.away(address, &error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "the connection to the application ended");
        }
    });
    *kept = Some(sender.clone());
    Ok(sender)
}

/// `Lost` says why a request has no answer of the application.
#[derive(Debug)]
struct Lost {
    /// Whether the application may have received the request.
    is_sent: bool,
    why: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Lost {}

/// `Channel` sends requests over a connection.
struct Channel(http2::SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = Lost;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Lost>> + Send>>;

    /// Always ready: the call returns the error.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let sent = self.0.try_send_request(request);
        Box::pin(async move {
            sent.await.map_err(|mut error| {
                let is_sent = error.take_message().is_none();
                let error = error.into_error();
                let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
                Lost { is_sent, why }
            })
        })
    }
}
