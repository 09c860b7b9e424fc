//! Clients with their sessions and subscriptions, and Kafka topics: collected from the shards, page by page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::View;
use super::auth::Who;
use super::pages::{ask, not_an_answer, page};
use super::problem::{Asked, Named, Problem};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::inspect::{self, Ask, NamedClient, Told, WantedClients};

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new()
        .routes(routes!(clients))
        .routes(routes!(client))
        .routes(routes!(disconnect))
        .routes(routes!(forget))
        .routes(routes!(subscriptions))
        .routes(routes!(topics))
}

/// A client and its session.
#[derive(Debug, Serialize, ToSchema)]
struct Client {
    /// Client identifier.
    client_id: String,
    /// NAME of the `[auth.NAME]` that has admitted the client; null: its listener has none. No two clients have the same `client_id` and `auth`.
    auth: Option<String>,
    /// User name of the current or last connection.
    username: Option<String>,
    connected: bool,
    /// The client's address, as reported by a proxy where there is one.
    address: Option<String>,
    /// Address of the listener.
    listener: Option<String>,
    /// Name of the instance that accepted the connection; null: this one.
    front: Option<String>,
    /// Whether the connection is not being read: backpressure.
    paused: bool,
    /// MQTT version of the current or last connection: 3.1, 3.1.1 or 5.0.
    protocol: &'static str,
    /// Seconds that the session stays without a connection; 0: the session ends with the connection; null: never ends.
    session_expiry_seconds: Option<u32>,
    /// Whether the session is on disk and survives a restart.
    stored: bool,
    /// Publishes of the connection without a PUBACK or PUBREC yet.
    unanswered_publishes: usize,
    /// QoS 2 packet identifiers that are in use.
    open_packet_ids: usize,
    /// Number of subscriptions of the session.
    subscriptions: usize,
    /// The subscriptions; only in the answer about one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<Vec<Filter>>,
    /// Messages of QoS 1 and 2 that the client has been sent and not acknowledged.
    unacknowledged_messages: usize,
    /// Limit of unacknowledged messages: beyond it messages are queued.
    unacknowledged_messages_max: usize,
    /// Age of the oldest unacknowledged message; null: none, or the session ends with its connection.
    oldest_unacknowledged_seconds: Option<u64>,
    /// Messages of QoS 1 and 2 that are queued for the client.
    queued_messages: usize,
    /// Limit of queued messages (`queue_messages_max`): beyond it the oldest is dropped, or as `when_full` of `[delivery]` says.
    queued_messages_max: usize,
    /// Bytes of the queued messages.
    queued_bytes: usize,
    /// Limit of their bytes (`queue_bytes_max`).
    queued_bytes_max: usize,
    /// Age of the oldest queued message, counted from the process's start if the message is older; null: none.
    oldest_queued_seconds: Option<u64>,
    /// The shard that owns the session.
    shard: usize,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
struct Filter {
    /// Topic filter.
    filter: String,
    /// Granted QoS.
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    /// Retain Handling.
    retain_handling: u8,
    /// Subscription Identifier.
    identifier: Option<u32>,
    /// The subscription's replay of past records; only in the answer about one client, and while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Replay>,
}

/// A subscription's replay.
#[derive(Debug, Serialize, ToSchema)]
struct Replay {
    /// `reading`, or `waiting`: at most four replays of a shard read at a time.
    #[schema(example = "reading")]
    state: &'static str,
    /// Known partitions of the topics that the replay reads.
    partitions: usize,
    /// Partitions that the replay has read up to the live messages, which are delivered from there on. The replay ends when all have been.
    partitions_live: usize,
}

impl From<inspect::Replay> for Replay {
    fn from(inspect::Replay { reads, partitions, live }: inspect::Replay) -> Self {
        Self { state: if reads { "reading" } else { "waiting" }, partitions, partitions_live: live }
    }
}

impl From<inspect::Filter> for Filter {
    fn from(of: inspect::Filter) -> Self {
        let (no_local, retain_as_published) = of.options;
        let (retain_handling, identifier) = (of.retain_handling, of.identifier);
        let replay = of.replay.map(Replay::from);
        Self { filter: of.filter, qos: of.qos, no_local, retain_as_published, retain_handling, identifier, replay }
    }
}

impl Client {
    fn new(view: &View, shard: usize, client: inspect::Client) -> Self {
        let connection = client.connection;
        let listener = connection.as_ref().and_then(|at| view.described.listeners.get(at.listener));
        Self {
            client_id: client.client_id,
            auth: client.auth,
            username: client.username,
            connected: connection.is_some(),
            address: connection.as_ref().and_then(|at| at.peer).map(|peer| peer.to_string()),
            listener: listener.map(|listener| listener.address.clone()),
            paused: connection.as_ref().is_some_and(|at| at.paused),
            front: connection.and_then(|at| at.front),
            protocol: client.protocol,
            session_expiry_seconds: client.session_expiry_s,
            stored: client.stored,
            unanswered_publishes: client.unanswered,
            open_packet_ids: client.open_packet_ids,
            subscriptions: client.subscriptions,
            filters: client.filters.map(|filters| filters.into_iter().map(Filter::from).collect()),
            unacknowledged_messages: client.unacknowledged.messages,
            unacknowledged_messages_max: client.unacknowledged.messages_max,
            oldest_unacknowledged_seconds: client.unacknowledged.oldest_s,
            queued_messages: client.queued.messages,
            queued_messages_max: client.queued.messages_max,
            queued_bytes: client.queued_bytes,
            queued_bytes_max: client.queued_bytes_max,
            oldest_queued_seconds: client.queued.oldest_s,
            shard,
        }
    }
}

/// A page of clients.
#[derive(Debug, Serialize, ToSchema)]
struct Clients {
    clients: Vec<Client>,
    /// Cursor of the next page; null: this is the last page. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ClientsQuery {
    /// Only clients with this text in their client identifier, user name, auth or address, ignoring case.
    search: Option<String>,
    /// Only connected clients, or only disconnected ones.
    connected: Option<bool>,
    /// Only clients connected to the listener with this address.
    listener: Option<String>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

impl View {
    /// The listener with an address.
    fn listener_at(&self, address: &str) -> Result<usize, Problem> {
        let mut all = self.described.listeners.iter();
        let found = all.position(|listener| !listener.is_removed && listener.address == address);
        found.ok_or_else(|| Problem::bad_request(format!("no listener {address:?}; /api/v1/listeners lists them")))
    }
}

/// Clients and their sessions, connected or not. Clients that come or go while pages are read may be missing; all others are on exactly one page.
#[utoipa::path(get, path = "/api/v1/clients", tag = "clients", params(ClientsQuery), responses(
    (status = 200, body = Clients),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "There is no such listener, or a parameter is not valid"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn clients(
    State(view): State<Arc<View>>,
    Asked(ClientsQuery { search, connected, listener, limit, cursor }): Asked<ClientsQuery>,
) -> Result<Json<Clients>, Problem> {
    let listener = listener.map(|address| view.listener_at(&address)).transpose()?;
    let wanted = WantedClients { search, connected, listener };
    let ask = |from, limit| Ask::Clients { from, limit, wanted: wanted.clone() };
    let told = |told| match told {
        Told::Clients(part) => Ok(part),
        _ => Err(not_an_answer()),
    };
    let (found, next) = page(&view, limit, cursor.as_deref(), ask, told).await?;
    let clients = found.into_iter().map(|(shard, client)| Client::new(&view, shard, client)).collect();
    Ok(Json(Clients { clients, next }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ClientQuery {
    /// NAME of the client's `[auth.NAME]`; empty: none. Required if several clients have the identifier.
    auth: Option<String>,
}

/// One client.
#[utoipa::path(get, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path, description = "Client identifier, percent-encoded"), ClientQuery), responses(
    (status = 200, body = Client),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Several clients have this identifier, and `auth` does not say which"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn client(
    State(view): State<Arc<View>>,
    Named(client_id): Named,
    Asked(ClientQuery { auth }): Asked<ClientQuery>,
) -> Result<Json<Client>, Problem> {
    let shard = view.shards.home(&client_id);
    match ask(&view, shard, Ask::Client(NamedClient { client_id: client_id.clone(), auth })).await? {
        Told::Client(Some(client)) => Ok(Json(Client::new(&view, shard, *client))),
        told => Err(no_client(&view, &client_id, &told)),
    }
}

/// Disconnects a client: in MQTT 5.0 with DISCONNECT 0x98 (administrative action). Its will is published; its session stays as its own terms say. The
/// client may connect again.
#[utoipa::path(post, path = "/api/v1/clients/{client_id}/disconnect", tag = "clients",
    params(("client_id" = String, Path, description = "Client identifier, percent-encoded"), ClientQuery), responses(
    (status = 204, description = "It is disconnected"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "It is not connected"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Several clients have this identifier, and `auth` does not say which"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn disconnect(
    State(view): State<Arc<View>>,
    Extension(who): Extension<Who>,
    Named(client_id): Named,
    Asked(ClientQuery { auth }): Asked<ClientQuery>,
) -> Result<StatusCode, Problem> {
    let shard = view.shards.home(&client_id);
    let named = NamedClient { client_id: client_id.clone(), auth: auth.clone() };
    match ask(&view, shard, Ask::Disconnect(named)).await? {
        Told::Done(true) => Ok(said(&view, who, "disconnect", &client_id, auth)),
        Told::Done(_) if view.shards.instance_of(&client_id).is_none() => {
            Err(Problem::not_found(format!("no client {client_id:?} is connected")))
        }
        told => Err(no_client(&view, &client_id, &told)),
    }
}

/// Ends a client's connection and session: open QoS 2 exchanges are forgotten, and the will is published without its delay.
#[utoipa::path(delete, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path, description = "Client identifier, percent-encoded"), ClientQuery), responses(
    (status = 204, description = "It is forgotten"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Several clients have this identifier, and `auth` does not say which"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn forget(
    State(view): State<Arc<View>>,
    Extension(who): Extension<Who>,
    Named(client_id): Named,
    Asked(ClientQuery { auth }): Asked<ClientQuery>,
) -> Result<StatusCode, Problem> {
    let shard = view.shards.home(&client_id);
    let named = NamedClient { client_id: client_id.clone(), auth: auth.clone() };
    match ask(&view, shard, Ask::Forget(named)).await? {
        Told::Done(true) => Ok(said(&view, who, "forget", &client_id, auth)),
        told => Err(no_client(&view, &client_id, &told)),
    }
}

/// The problem of a request for one client that cannot be answered.
fn no_client(view: &View, client_id: &str, told: &Told) -> Problem {
    let Told::SeveralClients(auths) = told else {
        let elsewhere = view.shards.instance_of(client_id).map(|of| format!(" here: the instance {of:?} serves it"));
        return Problem::not_found(format!("no client {client_id:?}{}", elsewhere.unwrap_or_default()));
    };
    let which: Vec<_> = auths.iter().map(|auth| format!("auth={auth}")).collect();
    let which = which.join(" or ");
    Problem::new(StatusCode::CONFLICT, format!("several clients have the ID {client_id:?}: say which with {which}"))
}

/// Records a change of a client as an event.
fn said(view: &View, Who(token): Who, action: &str, client_id: &str, auth: Option<String>) -> StatusCode {
    let event = Event::now(Kind::AdminAction).with(Field::Action, action).with(Field::Client, client_id);
    let event = event.maybe(Field::Auth, auth.filter(|auth| !auth.is_empty()));
    view.journal.say(event.maybe(Field::Token, token));
    StatusCode::NO_CONTENT
}

/// A subscription with its client.
#[derive(Debug, Serialize, ToSchema)]
struct Subscription {
    /// Client identifier.
    client_id: String,
    /// NAME of the client's `[auth.NAME]`; null: none.
    auth: Option<String>,
    connected: bool,
    #[serde(flatten)]
    filter: Filter,
    /// Whether the access control list allows the client to read the topic; only if the query has `topic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_read: Option<bool>,
    /// The shard that owns the client.
    shard: usize,
}

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
struct Subscriptions {
    subscriptions: Vec<Subscription>,
    /// Cursor of the next page; null: this is the last page. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SubscriptionsQuery {
    /// Only subscriptions that match this topic.
    topic: Option<String>,
    /// Only subscriptions to this topic filter as subscribed: `$share/NAME/FILTER` for the members of a shared subscription.
    filter: Option<String>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// Subscriptions of sessions, connected or not. Each message of a shared subscription goes to one of the members.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "clients", params(SubscriptionsQuery), responses(
    (status = 200, body = Subscriptions),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn subscriptions(
    State(view): State<Arc<View>>,
    Asked(SubscriptionsQuery { topic, filter, limit, cursor }): Asked<SubscriptionsQuery>,
) -> Result<Json<Subscriptions>, Problem> {
    let ask = |from, limit| Ask::Subscriptions { from, limit, topic: topic.clone(), filter: filter.clone() };
    let told = |told| match told {
        Told::Subscriptions(part) => Ok(part),
        _ => Err(Problem::bad_request("topic must be a topic without wildcards, and filter a topic filter")),
    };
    let (found, next) = page(&view, limit, cursor.as_deref(), ask, told).await?;
    let row = |(shard, row): (usize, inspect::Subscription)| {
        let inspect::Subscription { client_id, auth, connected, filter, may_read } = row;
        Subscription { client_id, auth, connected, filter: filter.into(), may_read, shard }
    };
    Ok(Json(Subscriptions { subscriptions: found.into_iter().map(row).collect(), next }))
}

/// A Kafka topic that a sink writes to, on one shard.
#[derive(Debug, Serialize, ToSchema)]
struct Topic {
    topic: String,
    sink: String,
    kafka: String,
    /// Number of partitions; null: not known yet.
    partitions: Option<usize>,
    /// Memory of the topic's records on this shard.
    buffered_bytes: usize,
    shard: usize,
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
struct Topics {
    topics: Vec<Topic>,
    /// Cursor of the next page; null: this is the last page. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopicsQuery {
    /// Only topics of this sink.
    sink: Option<String>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// Kafka topics in the memory of shards, a row for each shard and topic.
#[utoipa::path(get, path = "/api/v1/topics", tag = "kafka", params(TopicsQuery), responses(
    (status = 200, body = Topics),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn topics(
    State(view): State<Arc<View>>,
    Asked(TopicsQuery { sink, limit, cursor }): Asked<TopicsQuery>,
) -> Result<Json<Topics>, Problem> {
    let sink = view.wanted_sink(sink.as_deref())?;
    let ask = |from, limit| Ask::Topics { from, limit, sink };
    let told = |told| match told {
        Told::Topics(part) => Ok(part),
        _ => Err(not_an_answer()),
    };
    let (found, next) = page(&view, limit, cursor.as_deref(), ask, told).await?;
    let row = |(shard, topic): (usize, inspect::Topic)| {
        let sink = view.described.sinks.get(topic.sink)?;
        let kafka = view.described.clusters.get(sink.cluster)?.name.clone();
        let partitions = Some(topic.partitions).filter(|count| *count > 0);
        let (sink, buffered_bytes) = (sink.name.clone(), topic.buffered_bytes);
        Some(Topic { topic: topic.name, sink, kafka, partitions, buffered_bytes, shard })
    };
    Ok(Json(Topics { topics: found.into_iter().filter_map(row).collect(), next }))
}
