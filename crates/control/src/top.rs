//! The topics and clients with the most publishes, and the sinks, rules and subscriptions that match a topic.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::pages::{ask, not_an_answer, rows_of_page};
use super::problem::{Asked, Problem};
use super::{Shown, View};
use forebay_metrics::inspect::{Ask, Part, Told, TopBy, TopOf};

/// Limit of the subscriptions counted for one topic.
const COUNTED_MAX: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(top)).routes(routes!(matching))
}

/// Kind of entries in the list.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TopListOf {
    /// Topics that clients publish to.
    #[default]
    Topics,
    /// Clients that publish.
    Clients,
    /// Topics of messages without a sink, rule or subscriber.
    Unmatched,
}

/// Measure of the list.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TopListBy {
    /// Number of messages.
    #[default]
    Messages,
    /// Bytes of the messages' packets.
    Bytes,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Kind of entries in the list: topics if left out.
    #[param(inline)]
    of: Option<TopListOf>,
    /// Measure of the list: messages if left out.
    #[param(inline)]
    by: Option<TopListBy>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// The topics or clients with the most publishes.
#[derive(Debug, Serialize, ToSchema)]
struct Top {
    of: TopListOf,
    by: TopListBy,
    /// Sampling rate: about one of this many reads of clients, or unmatched publishes, is counted. 1: all are.
    sampled_one_of: u32,
    /// Entries, the largest first.
    top: Vec<TopRow>,
}

/// A topic or client of the list.
#[derive(Debug, Serialize, ToSchema)]
struct TopRow {
    /// Topic, cut to 1 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// Client identifier, cut to 1 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// NAME of the `[auth.NAME]` that has admitted the client; null: its listener has none. Only for clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Option<String>>,
    /// Messages or bytes per second. Those of a minute ago count half.
    per_second: f64,
    /// Upper bound of the error: where there are more names than places, a new name takes over the number of another.
    error_per_second: f64,
}

/// The topics or clients with the most publishes of the last minutes, by sampling; at most 256 of each shard.
#[utoipa::path(get, path = "/api/v1/top", tag = "clients", params(Query), responses(
    (status = 200, body = Top),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn top(
    State(view): State<Arc<View>>,
    Asked(Query { of, by, limit }): Asked<Query>,
) -> Result<Json<Top>, Problem> {
    let limit = rows_of_page(limit)?;
    let (of, by) = (of.unwrap_or_default(), by.unwrap_or_default());
    let (mut rates, mut sampled_one_of): (HashMap<String, (f64, f64)>, u32) = (HashMap::new(), 1);
    for shard in 0..view.shards.count() {
        let Told::Top(told) = ask(&view, shard, Ask::Top { of: of.into(), by: by.into() }).await? else {
            return Err(not_an_answer());
        };
        sampled_one_of = sampled_one_of.max(told.every);
        // The rates of a list that has just begun are computed over at least one second.
        let seconds = (told.window_ms as f64 / 1e3).max(1.0);
        for name in told.names {
            let (rate, error) = rates.entry(name.name).or_default();
            *rate += name.weight as f64 / seconds;
            *error += name.over as f64 / seconds;
        }
    }
    let mut all: Vec<_> = rates.into_iter().collect();
    all.sort_by(|(one, (a, _)), (other, (b, _))| b.total_cmp(a).then_with(|| one.cmp(other)));
    all.truncate(limit);
    let top = all.into_iter().map(|(name, rates)| TopRow::new(of, name, rates)).collect();
    Ok(Json(Top { of, by, sampled_one_of, top }))
}

impl TopRow {
    fn new(of: TopListOf, name: String, (rate, error): (f64, f64)) -> Self {
        let rounded = |value: f64| (value * 1e3).round() / 1e3;
        let row = Self {
            topic: None,
            client_id: None,
            auth: None,
            per_second: rounded(rate),
            error_per_second: rounded(error),
        };
        if of != TopListOf::Clients {
            return Self { topic: Some(name), ..row };
        }
        let (auth, client_id) = name.split_once('\0').unwrap_or_default();
        let auth = Some(Some(auth.to_owned()).filter(|auth| !auth.is_empty()));
        Self { client_id: Some(client_id.to_owned()), auth, ..row }
    }
}

impl From<TopListOf> for TopOf {
    fn from(of: TopListOf) -> Self {
        match of {
            TopListOf::Topics => Self::Topics,
            TopListOf::Clients => Self::Clients,
            TopListOf::Unmatched => Self::Unmatched,
        }
    }
}

impl From<TopListBy> for TopBy {
    fn from(by: TopListBy) -> Self {
        match by {
            TopListBy::Messages => Self::Messages,
            TopListBy::Bytes => Self::Bytes,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopicQuery {
    /// The topic of a message.
    #[param(required)]
    topic: Option<String>,
}

/// Sinks, rules and subscriptions that match a topic.
#[derive(Debug, Serialize, ToSchema)]
struct Matching {
    topic: String,
    /// Names of the sinks that take the topic, including one with `fallback` if no other sink takes it.
    sinks: Vec<String>,
    /// Names of the rules that are evaluated for the topic. Their outputs go to the rules' own destinations.
    rules: Vec<String>,
    /// Number of subscriptions that match the topic, shared ones included, up to the limit of one request.
    subscriptions: usize,
    /// Whether there are further subscriptions: `/api/v1/subscriptions?topic=` lists all.
    more_subscriptions: bool,
    /// Whether no sink, rule or subscription matches: the message is acknowledged, and counted as unmatched.
    unmatched: bool,
}

/// Which sinks, rules and subscriptions match a topic.
#[utoipa::path(get, path = "/api/v1/topics/match", tag = "clients", params(TopicQuery), responses(
    (status = 200, body = Matching),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn matching(
    State(view): State<Arc<View>>,
    Asked(TopicQuery { topic }): Asked<TopicQuery>,
) -> Result<Json<Matching>, Problem> {
    let topic = topic.unwrap_or_default();
    let no_topic = || Problem::bad_request(format!("topic: {topic:?} is no topic of a message"));
    let (sinks, rules) = match ask(&view, 0, Ask::Matching(topic.clone())).await? {
        Told::Matching(sinks, rules) => (sinks, rules),
        Told::Done(false) => return Err(no_topic()),
        _ => return Err(not_an_answer()),
    };
    let (mut subscriptions, mut more_subscriptions) = (0, false);
    for shard in 0..view.shards.count() {
        let question = Ask::Subscriptions { from: 0, limit: COUNTED_MAX, topic: Some(topic.clone()), filter: None };
        let Told::Subscriptions(Part { rows, next }) = ask(&view, shard, question).await? else {
            return Err(not_an_answer());
        };
        subscriptions += rows.len();
        more_subscriptions |= next.is_some();
    }
    let described = &view.described;
    let sinks: Vec<_> = sinks.into_iter().filter_map(|sink| Some(described.sinks.get(sink)?.name.clone())).collect();
    let rules: Vec<_> = rules.into_iter().filter_map(|rule| Some(described.rules.get(rule)?.name.clone())).collect();
    let unmatched = sinks.is_empty() && rules.is_empty() && subscriptions == 0 && !more_subscriptions;
    Ok(Json(Matching { topic, sinks, rules, subscriptions, more_subscriptions, unmatched }))
}
