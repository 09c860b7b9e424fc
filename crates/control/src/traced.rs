//! Requests to `/api/v1` as spans, under the caller's trace.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::View;
use forebay_service::telemetry::TraceContext;

tokio::task_local! {
    static UNDER: TraceContext;
}

/// Context of the current request's span, the parent of further spans.
pub(super) fn under() -> Option<TraceContext> {
    UNDER.try_with(|context| *context).ok()
}

/// Creates a span for each request (the semantic conventions of HTTP servers).
pub(super) async fn traced(State(view): State<Arc<View>>, request: Request, next: Next) -> Response {
    let parent = request.headers().get("traceparent").and_then(|value| TraceContext::parse(value.to_str().ok()?));
    let method = request.method().as_str();
    let route = request.extensions().get::<MatchedPath>().map_or("/api/v1", MatchedPath::as_str);
    let span = view.tracer.span(format!("{method} {route}"), parent).of_server();
    let span = span.with("http.request.method", method).with("http.route", route);
    let span = span.with("url.path", request.uri().path());
    let response = UNDER.scope(span.context(), next.run(request)).await;
    let status = response.status();
    let span = span.with("http.response.status_code", u64::from(status.as_u16()));
    let why = status.canonical_reason().unwrap_or("server error");
    view.tracer.end(if status.is_server_error() { span.failed(why) } else { span });
    response
}
