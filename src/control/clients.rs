//! Clients with their sessions, their subscriptions, and Kafka topics: asked of the shards, part by part.

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
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::inspect::{self, Ask, NamedClient, Told, WantedClients};

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
    /// NAME of the `[auth.NAME]` that has admitted it; null: its listener has none. No two clients have the same `client_id` and `auth`.
    auth: Option<String>,
    /// User name of the present or last connection.
    username: Option<String>,
    connected: bool,
    /// The client's address, as a proxy says it where there is one.
    address: Option<String>,
    /// Address of the listener.
    listener: Option<String>,
    /// Name of the instance that its connection came in by; null: this one.
    front: Option<String>,
    /// The connection is not being read: backpressure.
    paused: bool,
    /// MQTT version of the present or last connection: 3.1, 3.1.1 or 5.0.
    protocol: &'static str,
    /// How long the session stays without a connection; 0: it ends with the connection; null: it never ends.
    session_expiry_seconds: Option<u32>,
    /// The session is on disk and survives a restart.
    stored: bool,
    /// Publishes of the connection without a PUBACK or PUBREC.
    unanswered_publishes: usize,
    /// QoS 2 packet identifiers that are in use.
    open_packet_ids: usize,
    /// How many subscriptions the session has.
    subscriptions: usize,
    /// The subscriptions; only in the answer about one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<Vec<Filter>>,
    /// Messages of QoS 1 and 2 that the client has been sent and not acknowledged.
    unacknowledged_messages: usize,
    /// How many of them there may be: then the next ones wait.
    unacknowledged_messages_max: usize,
    /// Age of the oldest of them; null: there is none, or the session ends with its connection.
    oldest_unacknowledged_seconds: Option<u64>,
    /// Messages of QoS 1 and 2 that wait for the client.
    queued_messages: usize,
    /// How many may wait (`queue_messages_max`): then the oldest is dropped, or what `when_full` of `[delivery]` says.
    queued_messages_max: usize,
    /// Bytes of those that wait.
    queued_bytes: usize,
    /// How many bytes may wait (`queue_bytes_max`).
    queued_bytes_max: usize,
    /// Age of the oldest that waits, since the start of the service if it is older; null: there is none.
    oldest_queued_seconds: Option<u64>,
    /// The shard that owns it.
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
    /// The records of the past that it is sent; only in the answer about one client, and where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Replay>,
}

/// A subscription's replay.
#[derive(Debug, Serialize, ToSchema)]
struct Replay {
    /// `reading`, or `waiting`: four of a shard read at a time.
    #[schema(example = "reading")]
    state: &'static str,
    /// How many partitions are known of the topics that it reads.
    partitions: usize,
    /// How many of them have been read up to the live messages, which come from there on. The replay ends when all have.
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
    /// Ask with this cursor for the next page; null: this was the last. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ClientsQuery {
    /// Only those with this text in their client identifier, user name, auth or address, in whatever case.
    search: Option<String>,
    /// Only those that are connected, or that are not.
    connected: Option<bool>,
    /// Only those that are connected to the listener with this address.
    listener: Option<String>,
    /// At most this many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
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

/// Clients and their sessions, connected or not. Clients that come and go meanwhile may be in a page or not; all others
/// are in exactly one.
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
    /// NAME of its `[auth.NAME]`; empty: it has none. Needed where several clients have the identifier.
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

/// Ends a client's connection: in MQTT 5.0 with DISCONNECT 0x98 (administrative action). Its will is published; its session stays as
/// its own terms say. The client may connect again.
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

/// Ends a client's connection and its session: open QoS 2 exchanges and the will's delay are forgotten, the will is published.
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

/// Why there is no answer about one client.
fn no_client(view: &View, client_id: &str, told: &Told) -> Problem {
    let Told::SeveralClients(auths) = told else {
        let elsewhere = view.shards.instance_of(client_id).map(|of| format!(" here: the instance {of:?} serves it"));
        return Problem::not_found(format!("no client {client_id:?}{}", elsewhere.unwrap_or_default()));
    };
    let which: Vec<_> = auths.iter().map(|auth| format!("auth={auth}")).collect();
    let which = which.join(" or ");
    Problem::new(StatusCode::CONFLICT, format!("several clients have the ID {client_id:?}: say which with {which}"))
}

/// A change is an event.
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
    /// NAME of its `[auth.NAME]`; null: none.
    auth: Option<String>,
    connected: bool,
    #[serde(flatten)]
    filter: Filter,
    /// Whether the access control list lets the client read the topic; only where a `topic` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_read: Option<bool>,
    /// The shard that owns the client.
    shard: usize,
}

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
struct Subscriptions {
    subscriptions: Vec<Subscription>,
    /// Ask with this cursor for the next page; null: this was the last. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SubscriptionsQuery {
    /// Only those that get messages of this topic.
    topic: Option<String>,
    /// Only those to this topic filter, as it was subscribed to: `$share/NAME/FILTER` is the members of a shared subscription.
    filter: Option<String>,
    /// At most this many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Subscriptions of sessions, connected or not. Of a shared subscription each message goes to one of the members.
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

/// A Kafka topic that a sink writes to, as one shard holds it.
#[derive(Debug, Serialize, ToSchema)]
struct Topic {
    topic: String,
    sink: String,
    kafka: String,
    /// Partitions; null: not known yet.
    partitions: Option<usize>,
    /// Memory of its records on this shard.
    buffered_bytes: usize,
    shard: usize,
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
struct Topics {
    topics: Vec<Topic>,
    /// Ask with this cursor for the next page; null: this was the last. A page may be shorter than its limit, or empty.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopicsQuery {
    /// Only those of this sink.
    sink: Option<String>,
    /// At most this many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Kafka topics that the shards hold in memory, a row for each shard and topic.
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
