//! An application that is called by HTTP.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::super::serve::TOKEN;
use super::super::{Address, Call, Takes};
use super::{Application, Failed, WITHIN, traceparent};

/// The longest body of an answer; it is read and ignored.
const ANSWER_BYTES_MAX: usize = 64 << 10;

pub(super) async fn wants(app: &Application, address: &Address, takes: &Takes) -> Result<(), Failed> {
    match send(app, address, Method::OPTIONS, &takes.route, None).await? {
        200..=299 | 405 => Ok(()),
        status => Err(Failed::Refused(format!("OPTIONS /{}: {status}", takes.route))),
    }
}

pub(super) async fn take(app: &Application, address: &Address, call: &Call, takes: &Takes) -> Result<(), Failed> {
    match send(app, address, Method::POST, &takes.route, Some((&call.topic, &call.payload))).await? {
        200..=299 => Ok(()),
        status => Err(Failed::Refused(format!("HTTP status {status}"))),
    }
}

/// Sends a request, on a connection of its own. Returns the status of the answer.
async fn send(
    app: &Application,
    address: &Address,
    method: Method,
    route: &str,
    message: Option<(&str, &[u8])>,
) -> Result<u16, Failed> {
    let stream = app.connect(address).await?;
    let broken = |error: hyper::Error| Failed::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = Request::new(message.map_or_else(Body::empty, |(_, payload)| Body::from(payload.to_vec())));
    *request.method_mut() = method;
    *request.uri_mut() = format!("/{route}").parse().unwrap_or_default();
    let headers = request.headers_mut();
    let mut put = |name: &'static str, value: &[u8]| {
        // A topic with characters that HTTP does not allow in a header is left out.
        HeaderValue::from_bytes(value).into_iter().for_each(|value| drop(headers.insert(name, value)));
    };
    put(header::HOST.as_str(), address.to_string().as_bytes());
    put(header::CONNECTION.as_str(), b"close");
    put(header::USER_AGENT.as_str(), concat!("forebay/", env!("CARGO_PKG_VERSION")).as_bytes());
    if let Some((topic, _)) = message {
        put(header::CONTENT_TYPE.as_str(), b"application/json");
        put("topic", topic.as_bytes());
        put("traceparent", traceparent().as_bytes());
    }
    app.shared.settings.app_token.iter().for_each(|token| put(TOKEN, token.expose()));
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        // The application may still be writing: its answer is read to its end.
        let _ = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES_MAX).await;
        Ok(status)
    };
    let exchange = async {
        tokio::pin!(exchange, connection);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(error),
            },
        }
    };
    match tokio::time::timeout(WITHIN, exchange).await {
        Ok(answer) => answer.map_err(broken),
        Err(_) => Err(Failed::Late),
    }
}
