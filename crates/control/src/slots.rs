//! The slots of `[broker]`: the instance that serves each, and the drain of an instance.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Who;
use super::problem::{Asked, Problem};
use super::{Shown, View};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::inspect::{InstanceOfBroker, SlotTable};
use forebay_metrics::samples::Sample;
use forebay_metrics::spec::ShardMetric as M;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(slots)).routes(routes!(drain, end_drain))
}

/// The instance that serves each slot of `[broker]`, as this one knows. A client belongs to the slot xxh3_64(client identifier) mod `slots`.
#[derive(Debug, Serialize, ToSchema)]
struct SlotsBody {
    /// Name of this instance.
    name: String,
    /// Number of slots.
    slots: usize,
    /// Generation of the group of instances; null: there is no `[broker.link]`, and this instance is alone.
    generation: Option<i32>,
    /// Whether the group has been silent for almost `session_timeout`: until it is heard again, no client is admitted.
    silent: bool,
    /// Whether this instance gives its slots to others, or has given them away (`POST /api/v1/broker/drain`).
    drained: bool,
    /// Connected clients that this instance serves, wherever they have connected.
    clients: u64,
    /// Clients that have connected here and are served by other instances.
    relayed: u64,
    /// The instances by name.
    instances: Vec<InstanceBody>,
    /// Slots without an instance at present.
    nobody: Vec<u16>,
    /// Slots of this instance with a log that it cannot take up (event `slot_unreadable`).
    not_taken: Vec<NotTaken>,
}

/// A slot with a log that this instance cannot take up.
#[derive(Debug, Serialize, ToSchema)]
struct NotTaken {
    slot: u16,
    /// Why, in words.
    reason: String,
}

/// An instance.
#[derive(Debug, Serialize, ToSchema)]
struct InstanceBody {
    name: String,
    /// Address to which other instances connect for this one's clients; null: none.
    link: Option<String>,
    /// Address that other instances give to its clients; null: none.
    server: Option<String>,
    /// Slots of the instance; for this instance those that it has taken over.
    slots: Vec<u16>,
}

impl SlotsBody {
    fn new(of: SlotTable, view: &View) -> Self {
        let SlotTable { name, generation, is_silent, is_drained, instances, nobody, not_taken } = of;
        let now = Sample::of(&view.boards, Instant::now());
        let number = |metric: M| now.place(metric as usize);
        let relayed = number(M::Relayed);
        let at_listeners = number(M::ConnectionsOpen).saturating_sub(number(M::Unauthenticated) + relayed);
        let clients = at_listeners + number(M::RelayedHere);
        let instance = |InstanceOfBroker { name, link, server, slots }| InstanceBody { name, link, server, slots };
        let instances: Vec<_> = instances.into_iter().map(instance).collect();
        let slots = instances.iter().map(|of| of.slots.len()).sum::<usize>() + nobody.len();
        let not_taken =
            not_taken.into_iter().map(|(slot, why)| NotTaken { slot, reason: why.as_ref().into() }).collect();
        let (silent, drained) = (is_silent, is_drained);
        Self { name, slots, generation, silent, drained, clients, relayed, instances, nobody, not_taken }
    }
}

/// The instance that serves each slot.
#[utoipa::path(get, path = "/api/v1/broker/slots", tag = "broker", responses(
    (status = 200, body = SlotsBody),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no `[broker]`")))]
async fn slots(State(view): State<Arc<View>>) -> Result<Json<SlotsBody>, Problem> {
    let table = view.shards.slots().ok_or_else(|| Problem::not_found("there is no [broker]"))?;
    Ok(Json(SlotsBody::new(table, &view)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DrainQuery {
    /// Only report whether it could be done.
    dry_run: Option<bool>,
}

/// Drains this instance: it gives all its slots to the others, eight at a time, and takes none. Its clients are told to connect elsewhere, and `/readyz`
/// answers 503. The answer is immediate; `GET /api/v1/broker/slots` shows the progress. The drain lasts until it is ended, until the process ends, or until
/// the instance is alone.
#[utoipa::path(post, path = "/api/v1/broker/drain", tag = "broker", params(DrainQuery), responses(
    (status = 200, body = SlotsBody),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "No other instance could serve its clients"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is starting or stopping, or a shard did not answer")))]
async fn drain(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Asked(DrainQuery { dry_run }): Asked<DrainQuery>,
) -> Result<Json<SlotsBody>, Problem> {
    carry_out(&view, true, dry_run.unwrap_or(false), token)
}

/// Ends a drain: this instance gets its part of the slots again.
#[utoipa::path(delete, path = "/api/v1/broker/drain", tag = "broker", params(DrainQuery), responses(
    (status = 200, body = SlotsBody),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "There is no `[broker.link]`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is starting or stopping, or a shard did not answer")))]
async fn end_drain(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Asked(DrainQuery { dry_run }): Asked<DrainQuery>,
) -> Result<Json<SlotsBody>, Problem> {
    carry_out(&view, false, dry_run.unwrap_or(false), token)
}

fn carry_out(view: &View, drains: bool, dry_run: bool, token: Option<String>) -> Result<Json<SlotsBody>, Problem> {
    let is_up = view.ready.load(Ordering::Acquire);
    // A permanent refusal takes precedence.
    let is_sent =
        view.shards.drain(drains, dry_run || !is_up).map_err(|why| Problem::new(StatusCode::CONFLICT, why))?;
    if !is_up {
        return Err(Problem::unavailable("the service is starting or stopping"));
    }
    if !is_sent {
        return Err(Problem::unavailable("a shard does not answer").after(1));
    }
    if !dry_run {
        let event = Event::now(Kind::AdminAction).with(Field::Action, if drains { "drain" } else { "end_drain" });
        view.journal.say(event.maybe(Field::Token, token));
    }
    let table = view.shards.slots().ok_or_else(|| Problem::not_found("there is no [broker]"))?;
    Ok(Json(SlotsBody::new(table, view)))
}
