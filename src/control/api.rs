//! `/api/v1`: what runs and what happened, as JSON. Only GET; nothing here changes anything.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::View;
use crate::metrics::event::Kind;
use crate::metrics::journal::Filter;

/// The routes.
pub(super) fn routes() -> Router<Arc<View>> {
    Router::new()
        .route("/api/v1/sinks", get(sinks))
        .route("/api/v1/sinks/{name}", get(sink))
        .route("/api/v1/clusters", get(clusters))
        .route("/api/v1/listeners", get(listeners))
        .route("/api/v1/events", get(events))
}

async fn sinks(State(view): State<Arc<View>>) -> Json<Value> {
    let span = view.samples.span(&view.boards);
    let all = (0..view.described.sinks.len()).map(|index| view.described.sink(&span, index));
    Json(json!({ "sinks": all.collect::<Vec<_>>() }))
}

async fn sink(State(view): State<Arc<View>>, Path(name): Path<String>) -> Response {
    let Some(index) = view.described.sinks.iter().position(|sink| sink.name == name) else {
        return failure(StatusCode::NOT_FOUND, format!("no sink {name:?}; /api/v1/sinks lists them"));
    };
    Json(view.described.sink(&view.samples.span(&view.boards), index)).into_response()
}

async fn clusters(State(view): State<Arc<View>>) -> Json<Value> {
    let span = view.samples.span(&view.boards);
    let all = (0..view.described.clusters.len()).map(|index| view.described.cluster(&span, index));
    Json(json!({ "clusters": all.collect::<Vec<_>>() }))
}

async fn listeners(State(view): State<Arc<View>>) -> Json<Value> {
    let (span, layout) = (view.samples.span(&view.boards), view.boards.layout());
    let all = (0..view.described.listeners.len()).map(|index| view.described.listener(&span, layout, index));
    Json(json!({ "listeners": all.collect::<Vec<_>>() }))
}

async fn events(State(view): State<Arc<View>>, RawQuery(asked): RawQuery) -> Response {
    let filter = match filter(&view, asked.as_deref().unwrap_or_default()) {
        Ok(filter) => filter,
        Err(why) => return failure(StatusCode::BAD_REQUEST, why),
    };
    // What the shards have told a moment ago belongs to the answer, too.
    view.journal.collect();
    let page = view.journal.page(&filter);
    let events: Vec<Value> = page.events.iter().map(|(id, event)| event.json(*id)).collect();
    let dropped = view.journal.dropped();
    Json(json!({ "events": events, "last": page.last, "oldest": page.oldest, "dropped": dropped })).into_response()
}

/// What was asked for, or what is wrong with it. No value that means something needs escapes.
fn filter(view: &View, asked: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for parameter in asked.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let number = || value.parse::<u64>().map_err(|_| format!("{name} is a number, not {value:?}"));
        match name {
            "since" => filter.since = number()?,
            "limit" => filter.limit = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
            "kind" => {
                let kinds = || Kind::ALL.map(|kind| kind.spec().name).join(", ");
                let kind = Kind::named(value).ok_or_else(|| format!("no kind {value:?}; there are {}", kinds()))?;
                filter.kind = Some(kind);
            }
            "sink" if view.described.sinks.iter().any(|sink| sink.name == value) => {
                filter.sink = Some(value.to_owned());
            }
            "sink" => return Err(format!("no sink {value:?}; /api/v1/sinks lists them")),
            _ => return Err(format!("no parameter {name:?}; there are since, kind, sink, limit")),
        }
    }
    Ok(filter)
}

fn failure(status: StatusCode, why: String) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}
