//! Bridges: their states and counters. The boards have the numbers, the shards are asked for the rest.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::pages::{ask, not_an_answer};
use super::problem::{Named, Problem};
use super::{Shown, View};
use forebay_metrics::inspect::{Ask, BridgeFilter, BridgeOnShard, BridgeState, RemoteGrants, Told};
use forebay_metrics::samples::{Span, WINDOW};
use forebay_metrics::spec::BridgeMetric as B;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(bridges)).routes(routes!(bridge))
}

/// A bridge, as configured.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// The bridge's name.
    pub name: String,
    /// Description from the configuration.
    pub description: Option<String>,
    /// URL of the remote, without credentials.
    pub remote: String,
    /// Name and filters of each `in`, as the remote is asked for them.
    pub ins: Vec<(String, Vec<String>)>,
    /// Name and filters of each `out`.
    pub outs: Vec<(String, Vec<String>)>,
    /// Whether it is no longer in the configuration.
    pub is_removed: bool,
}

/// A bridge, its state, and its counters since the process began.
#[derive(Debug, Serialize, ToSchema)]
struct BridgeStatus {
    /// Name in the configuration.
    name: String,
    /// Description from the configuration.
    description: Option<String>,
    /// The remote.
    #[schema(example = "mqtts://broker.example:8883")]
    remote: String,
    /// `connected`; `partial`: connected, but the remote refuses some filters; `connecting`; `refused`: the remote refuses the login, or TLS fails;
    /// `unreachable`: no connection is made; `paused`: messages for the remote are queued.
    #[schema(example = "connected")]
    state: &'static str,
    /// Why the bridge is not connected, or lacks some of its filters.
    reason: Option<String>,
    /// Seconds since the bridge was connected, or lost its connection.
    since_seconds: u64,
    /// The last failed connection attempt or lost connection; null: none since the process began, or since the bridge's settings changed.
    last_trouble: Option<LastTrouble>,
    #[serde(flatten)]
    queue: BridgeQueue,
    #[serde(flatten)]
    numbers: BridgeNumbers,
    /// Rates per second.
    rate: BridgeRate,
    /// The shard that owns the bridge's session.
    shard: usize,
}

/// The last trouble of a bridge.
#[derive(Debug, Serialize, ToSchema)]
struct LastTrouble {
    /// Description of the trouble.
    #[schema(example = "Connection refused (os error 111)")]
    reason: String,
    /// Age in seconds.
    age_seconds: u64,
}

/// Messages of QoS 1 and 2 for the remote.
#[derive(Debug, Serialize, ToSchema)]
struct BridgeQueue {
    /// Messages that the remote was sent and has not acknowledged.
    unacknowledged_messages: usize,
    /// Limit of unacknowledged messages: beyond it messages are queued.
    unacknowledged_messages_max: usize,
    /// Age of the oldest unacknowledged message; null: none.
    oldest_unacknowledged_seconds: Option<u64>,
    /// Messages that are queued.
    queued_messages: usize,
    /// Limit of queued messages (`queue_messages_max`).
    queued_messages_max: usize,
    /// Bytes of the queued messages.
    queued_bytes: usize,
    /// Limit of their bytes (`queue_bytes_max`).
    queued_bytes_max: usize,
    /// Age of the oldest queued message, counted from the process's start if the message is older; null: none.
    oldest_queued_seconds: Option<u64>,
}

/// Numbers of a bridge.
#[derive(Debug, Serialize, ToSchema)]
struct BridgeNumbers {
    /// Connections that the remote has accepted.
    connects: u64,
    /// Connections that failed or were lost.
    failures: u64,
    /// Connections that failed because the remote refused the login, or TLS failed.
    refused: u64,
    /// Violations of the MQTT standard by the remote.
    protocol_errors: u64,
    /// Messages accepted from the remote.
    received: u64,
    /// Bytes of packets from the remote.
    received_bytes: u64,
    /// Messages of the remote that no filter matches: acknowledged and dropped.
    unasked: u64,
    /// Messages of the remote that no valid topic can be made of: acknowledged and dropped.
    unfit: u64,
    /// Messages of the remote that have come through this instance before: acknowledged and dropped.
    looped: u64,
    /// Retained messages of the remote that `retained` leaves out.
    retained_left_out: u64,
    /// Messages for the remote that it has acknowledged, or that were sent at QoS 0.
    delivered: u64,
    /// Messages for the remote that were sent again because it had no room.
    sent_again: u64,
    /// Messages that the remote has refused and that became dead letters.
    dead_lettered: u64,
    /// Messages for the remote that were dropped.
    dropped: u64,
}

/// Rates per second over the last seconds.
#[derive(Debug, Serialize, ToSchema)]
struct BridgeRate {
    /// Seconds that the rates cover, at most.
    window_seconds: u64,
    received_per_second: f64,
    received_bytes_per_second: f64,
}

/// All bridges.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Bridges {
    bridges: Vec<BridgeStatus>,
}

/// A bridge with its filters and the connection that the remote has granted.
#[derive(Debug, Serialize, ToSchema)]
struct BridgeWithFilters {
    #[serde(flatten)]
    status: BridgeStatus,
    /// Terms of the connection; null: the bridge is not connected.
    granted: Option<Grants>,
    /// Filters that the remote is asked for.
    r#in: Vec<InStatus>,
    /// Filters of messages for the remote.
    out: Vec<OutStatus>,
}

/// Terms of a connection, as granted by the remote.
#[derive(Debug, Serialize, ToSchema)]
struct Grants {
    /// Version of MQTT.
    #[schema(example = "5.0")]
    protocol: &'static str,
    /// Whether the remote treats the bridge as another broker (3.1.1).
    bridge: bool,
    /// Whether the remote still had the session of the previous connection.
    session_present: bool,
    /// Keep alive; 0: off.
    keep_alive_seconds: u16,
    /// Limit of unacknowledged messages of QoS 1 and 2 to the remote.
    unacknowledged_messages_max: u16,
    maximum_qos: u8,
    /// Largest packet that the remote accepts; null: it has not said.
    packet_bytes_max: Option<u32>,
    /// How long the remote keeps the session without a connection; null: for ever, or it has not said.
    session_expiry_seconds: Option<u32>,
    retain_available: bool,
    wildcard_subscriptions_available: bool,
    shared_subscriptions_available: bool,
}

impl From<RemoteGrants> for Grants {
    fn from(of: RemoteGrants) -> Self {
        Self {
            protocol: of.protocol,
            bridge: of.is_bridge,
            session_present: of.session_present,
            keep_alive_seconds: of.keep_alive_s,
            unacknowledged_messages_max: of.in_flight_max,
            maximum_qos: of.maximum_qos,
            packet_bytes_max: of.packet_bytes_max,
            session_expiry_seconds: of.session_expiry_s,
            retain_available: of.retain_available,
            wildcard_subscriptions_available: of.wildcards_available,
            shared_subscriptions_available: of.shared_available,
        }
    }
}

/// An `in` of a bridge: messages from the remote.
#[derive(Debug, Serialize, ToSchema)]
struct InStatus {
    /// Name of the `in`.
    name: String,
    filters: Vec<FilterStatus>,
}

/// A filter that a remote is asked for.
#[derive(Debug, Serialize, ToSchema)]
struct FilterStatus {
    /// The filter, with `$share/NAME/` if it has a share.
    filter: String,
    /// `granted`; `refused`; `open`: the remote has not answered, or is not connected.
    #[schema(example = "granted")]
    state: &'static str,
    /// Requested QoS.
    qos: u8,
    /// Granted QoS.
    granted_qos: Option<u8>,
    /// Why the remote refuses the filter.
    reason: Option<&'static str>,
}

impl From<BridgeFilter> for FilterStatus {
    fn from(BridgeFilter { filter, qos, standing }: BridgeFilter) -> Self {
        let (state, granted_qos, reason) = match standing {
            None => ("open", None, None),
            Some(Ok(qos)) => ("granted", Some(qos), None),
            Some(Err(reason)) => ("refused", None, Some(reason)),
        };
        Self { filter, state, qos, granted_qos, reason }
    }
}

/// An `out` of a bridge: messages for the remote.
#[derive(Debug, Serialize, ToSchema)]
struct OutStatus {
    /// Name of the `out`.
    name: String,
    /// Local topic filters.
    filters: Vec<String>,
    /// Messages that this `out` has sent to the remote for the first time, since the process began.
    sent: u64,
}

impl View {
    fn bridge_named(&self, name: &str) -> Result<usize, Problem> {
        let found = self.shown_bridges().find(|index| self.described.bridges[*index].name == name);
        found.ok_or_else(|| Problem::not_found(format!("no bridge {name:?}; /api/v1/bridges lists them")))
    }

    /// Indexes of the bridges of the configuration. Of a removed bridge nothing is left.
    pub(super) fn shown_bridges(&self) -> impl Iterator<Item = usize> {
        let all = self.described.bridges.iter().enumerate();
        all.filter(|(_, bridge)| !bridge.is_removed).map(|(index, _)| index)
    }

    /// A bridge's state according to the boards, and where the reason is found.
    pub(super) fn bridge_state(&self, span: &Span, index: usize) -> (&'static str, Option<String>) {
        let state = BridgeState::of(span.now.bridge(index, B::State));
        let more = || format!("`forebay bridges {}` has the reason", self.described.bridges[index].name);
        (state.as_str(), (state != BridgeState::Connected).then(more))
    }

    fn bridge_status(&self, span: &Span, shard: usize, told: &BridgeOnShard) -> BridgeStatus {
        let bridge = &self.described.bridges[told.bridge];
        let of = |metric| span.now.bridge(told.bridge, metric);
        let rate = |metric| span.per_s(|sample| sample.bridge(told.bridge, metric));
        let trouble = told.trouble.clone();
        BridgeStatus {
            name: bridge.name.clone(),
            description: bridge.description.clone(),
            remote: bridge.remote.clone(),
            state: told.state.as_str(),
            reason: told.reason.clone(),
            since_seconds: told.since_s,
            last_trouble: trouble.map(|(reason, age_seconds)| LastTrouble { reason, age_seconds }),
            queue: BridgeQueue {
                unacknowledged_messages: told.unacknowledged.messages,
                unacknowledged_messages_max: told.unacknowledged.messages_max,
                oldest_unacknowledged_seconds: told.unacknowledged.oldest_s,
                queued_messages: told.queued.messages,
                queued_messages_max: told.queued.messages_max,
                queued_bytes: told.queued_bytes,
                queued_bytes_max: told.queued_bytes_max,
                oldest_queued_seconds: told.queued.oldest_s,
            },
            numbers: BridgeNumbers {
                connects: of(B::Connects),
                failures: of(B::Failures),
                refused: of(B::Refused),
                protocol_errors: of(B::Malformed),
                received: of(B::Received),
                received_bytes: of(B::ReceivedBytes),
                unasked: of(B::Unasked),
                unfit: of(B::Unfit),
                looped: of(B::Looped),
                retained_left_out: of(B::RetainedLeftOut),
                delivered: of(B::Delivered),
                sent_again: of(B::SentAgain),
                dead_lettered: of(B::DeadLettered),
                dropped: of(B::Dropped),
            },
            rate: BridgeRate {
                window_seconds: WINDOW.as_secs(),
                received_per_second: rate(B::Received),
                received_bytes_per_second: rate(B::ReceivedBytes),
            },
            shard,
        }
    }

    /// Asks the shards for all bridges, or for one: each with its shard, in the order of the configuration.
    async fn ask_for_bridges(&self, bridge: Option<usize>) -> Result<Vec<(usize, BridgeOnShard)>, Problem> {
        let mut all = Vec::new();
        for shard in 0..self.shards.count() {
            match ask(self, shard, Ask::Bridges { bridge }).await? {
                Told::Bridges(found) => all.extend(found.into_iter().map(|of| (shard, of))),
                _ => return Err(not_an_answer()),
            }
        }
        // A shard may be ahead of the shown configuration, or lag it.
        let is_shown = |of: &BridgeOnShard| self.described.bridges.get(of.bridge).is_some_and(|of| !of.is_removed);
        all.retain(|(_, of)| is_shown(of));
        all.sort_by_key(|(_, of)| of.bridge);
        Ok(all)
    }
}

impl View {
    /// Refuses to remove a bridge while messages for its remote are queued. An unknown bridge is refused elsewhere.
    pub(super) async fn refuse_waiting(&self, name: &str) -> Result<(), Problem> {
        let Ok(index) = self.bridge_named(name) else { return Ok(()) };
        let told = self.ask_for_bridges(Some(index)).await?;
        let waiting: usize = told.iter().map(|(_, of)| of.queued.messages + of.unacknowledged.messages).sum();
        if waiting == 0 {
            return Ok(());
        }
        let why = format!(
            "{waiting} messages for the remote of bridge {name} would be lost: `?discard=true` removes it nevertheless"
        );
        Err(Problem::new(StatusCode::CONFLICT, why))
    }
}

impl Bridge {
    /// The bridge's `in`s with the states of their filters.
    fn ins(&self, told: &[BridgeFilter]) -> Vec<InStatus> {
        let of_filter = |filter: &String| told.iter().find(|of| of.filter == *filter).cloned().map(FilterStatus::from);
        let status = |(name, filters): &(String, Vec<String>)| InStatus {
            name: name.clone(),
            filters: filters.iter().filter_map(of_filter).collect(),
        };
        self.ins.iter().map(status).collect()
    }

    /// The bridge's `out`s with the number of messages that each has sent.
    fn outs(&self, sent: &[u64]) -> Vec<OutStatus> {
        let status = |(at, (name, filters)): (usize, &(String, Vec<String>))| OutStatus {
            name: name.clone(),
            filters: filters.clone(),
            sent: sent.get(at).copied().unwrap_or_default(),
        };
        self.outs.iter().enumerate().map(status).collect()
    }
}

/// All bridges.
#[utoipa::path(get, path = "/api/v1/bridges", tag = "bridges", responses(
    (status = 200, body = Bridges),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
pub(super) async fn bridges(State(view): State<Arc<View>>) -> Result<Json<Bridges>, Problem> {
    let told = view.ask_for_bridges(None).await?;
    let span = view.samples.span(&view.boards);
    Ok(Json(Bridges { bridges: told.iter().map(|(shard, of)| view.bridge_status(&span, *shard, of)).collect() }))
}

/// One bridge, with what the remote has granted, and its filters.
#[utoipa::path(get, path = "/api/v1/bridges/{name}", tag = "bridges",
    params(("name" = String, Path, description = "Its name in the configuration")), responses(
    (status = 200, body = BridgeWithFilters),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn bridge(State(view): State<Arc<View>>, Named(name): Named) -> Result<Json<BridgeWithFilters>, Problem> {
    let index = view.bridge_named(&name)?;
    let told = view.ask_for_bridges(Some(index)).await?;
    let (shard, of) =
        told.first().ok_or_else(|| Problem::unavailable(format!("no shard has the bridge {name:?} yet")))?;
    let bridge = &view.described.bridges[index];
    Ok(Json(BridgeWithFilters {
        status: view.bridge_status(&view.samples.span(&view.boards), *shard, of),
        granted: of.granted.clone().map(Grants::from),
        r#in: bridge.ins(&of.filters),
        out: bridge.outs(&of.sent),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_stands_under_what_asks_for_it() {
        let names = |all: &[&str]| all.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let bridge = Bridge {
            name: "plant".to_owned(),
            description: None,
            remote: String::new(),
            ins: vec![
                ("first".to_owned(), names(&["a", "b"])),
                ("second".to_owned(), names(&["$share/s/a", "b", "new"])),
            ],
            outs: Vec::new(),
            is_removed: false,
        };
        let told = [("a", None), ("b", Some(Err("not authorised"))), ("$share/s/a", Some(Ok(1)))];
        let told = told.map(|(filter, standing)| BridgeFilter { filter: filter.to_owned(), qos: 2, standing });
        let shown = bridge.ins(&told);
        let rows = |of: &InStatus| {
            let row = |of: &FilterStatus| (of.filter.clone(), of.state, of.granted_qos, of.reason);
            of.filters.iter().map(row).collect::<Vec<_>>()
        };
        let refused = ("b".to_owned(), "refused", None, Some("not authorised"));
        assert_eq!(rows(&shown[0]), [("a".to_owned(), "open", None, None), refused.clone()]);
        assert_eq!(rows(&shown[1]), [("$share/s/a".to_owned(), "granted", Some(1), None), refused], "none is made up");
    }
}
