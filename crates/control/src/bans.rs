//! Bans: clients, users and addresses that may not connect.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Who as Asks;
use super::pages::{ask, not_an_answer};
use super::problem::{Named, Problem, Sent};
use super::{Shown, View};
use forebay_guard::bans::{Ban, Refused, Who};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::inspect::{Ask, Told};
use forebay_metrics::time::{now_ms, rfc3339};

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(bans, add_ban)).routes(routes!(remove_ban))
}

/// A ban. One of `client_id`, `username` and `address` names the clients that may not connect.
#[derive(Debug, Serialize, ToSchema)]
struct BanBody {
    /// Number of the ban.
    id: u64,
    client_id: Option<String>,
    username: Option<String>,
    /// An address, or a network such as `10.0.0.0/8`.
    address: Option<String>,
    /// Time of its creation.
    at: String,
    /// Time of its end; null: never.
    until: Option<String>,
    /// Reason, as given.
    reason: String,
    /// Name of the token that made the ban.
    by: Option<String>,
}

impl BanBody {
    fn new(ban: Ban) -> Self {
        let mut body = Self {
            id: ban.id,
            client_id: None,
            username: None,
            address: None,
            at: rfc3339(ban.at_ms),
            until: ban.until_ms.map(rfc3339),
            reason: ban.reason,
            by: ban.by,
        };
        match ban.who {
            Who::ClientId(id) => body.client_id = Some(id),
            Who::Username(name) => body.username = Some(name),
            Who::Address(address) => body.address = Some(address),
        }
        body
    }
}

/// All bans in force.
#[derive(Debug, Serialize, ToSchema)]
struct BanList {
    bans: Vec<BanBody>,
}

/// A ban to make: of a client identifier, a user or an address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BanToMake {
    /// Client identifier, of any `[auth.NAME]`.
    client_id: Option<String>,
    /// User name.
    username: Option<String>,
    /// An address, or a network such as `10.0.0.0/8`.
    address: Option<String>,
    /// Duration in seconds; left out: for ever.
    #[schema(minimum = 1)]
    seconds: Option<u32>,
    /// Reason, at most 1 KiB.
    #[serde(default)]
    reason: String,
}

/// A ban that was made.
#[derive(Debug, Serialize, ToSchema)]
struct BanMade {
    ban: BanBody,
    /// Number of clients that the ban disconnected.
    disconnected: usize,
}

/// All bans in force, the oldest first.
#[utoipa::path(get, path = "/api/v1/bans", tag = "clients", responses((status = 200, body = BanList)))]
async fn bans(State(view): State<Arc<View>>) -> Json<BanList> {
    Json(BanList { bans: view.bans.list(now_ms()).into_iter().map(BanBody::new).collect() })
}

/// Keeps a client, a user or an address from connecting, and disconnects the clients that match. Sessions stay as their own terms say.
#[utoipa::path(post, path = "/api/v1/bans", tag = "clients", request_body = BanToMake, responses(
    (status = 201, body = BanMade),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "There are as many bans as there may be"),
    (status = 500, body = Problem, content_type = "application/problem+json", description = "The file cannot be written"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "It is made; a shard did not answer, so that some may still be connected")))]
async fn add_ban(
    State(view): State<Arc<View>>,
    Extension(Asks(token)): Extension<Asks>,
    Sent(wanted): Sent<BanToMake>,
) -> Result<(StatusCode, Json<BanMade>), Problem> {
    let who = match (wanted.client_id, wanted.username, wanted.address) {
        (Some(id), None, None) => Who::ClientId(id),
        (None, Some(name), None) => Who::Username(name),
        (None, None, Some(address)) => Who::Address(address),
        _ => return Err(Problem::bad_request("a ban is of `client_id`, `username` or `address`: one of them")),
    };
    if wanted.seconds == Some(0) {
        return Err(Problem::bad_request("seconds must be 1 or more"));
    }
    let at_ms = now_ms();
    let until_ms = wanted.seconds.map(|seconds| at_ms.saturating_add(i64::from(seconds) * 1_000));
    let ban = Ban { id: 0, who, at_ms, until_ms, reason: wanted.reason, by: token.clone() };
    let bans = Arc::clone(&view.bans);
    let ban = written(move || bans.add(ban)).await?;
    tell(&view, "ban", &ban, token);
    let mut disconnected = 0;
    for shard in 0..view.shards.count() {
        let mut from = 0;
        loop {
            let Told::Ended(count, next) = ask(&view, shard, Ask::EndBanned(from)).await? else {
                return Err(not_an_answer());
            };
            disconnected += count;
            let Some(next) = next else { break };
            from = next;
        }
    }
    Ok((StatusCode::CREATED, Json(BanMade { ban: BanBody::new(ban), disconnected })))
}

/// Ends a ban.
#[utoipa::path(delete, path = "/api/v1/bans/{id}", tag = "clients",
    params(("id" = String, Path, description = "The ban's number")), responses(
    (status = 204, description = "It has ended"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 500, body = Problem, content_type = "application/problem+json", description = "The file cannot be written")))]
async fn remove_ban(
    State(view): State<Arc<View>>,
    Extension(Asks(token)): Extension<Asks>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    let none = || Problem::not_found(format!("no ban {id:?}; /api/v1/bans lists them"));
    let number = id.parse().map_err(|_| none())?;
    let bans = Arc::clone(&view.bans);
    let removed = written(move || bans.remove(number, now_ms())).await?.ok_or_else(none)?;
    tell(&view, "unban", &removed, token);
    Ok(StatusCode::NO_CONTENT)
}

/// Writes a change to the file, on a thread that may block, and maps the errors.
async fn written<T: Send + 'static>(
    change: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Problem> {
    let made = tokio::task::spawn_blocking(change).await;
    let made = made.map_err(|_| Problem::unavailable("the service is stopping"))?;
    made.map_err(|refused| match refused {
        Refused::Invalid(why) => Problem::bad_request(why),
        Refused::Full(why) => Problem::new(StatusCode::CONFLICT, why),
        Refused::File(error) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the file with the bans cannot be written: {error}"),
        ),
    })
}

fn tell(view: &View, action: &'static str, ban: &Ban, token: Option<String>) {
    let event = Event::now(Kind::AdminAction).with(Field::Action, action);
    let event = match &ban.who {
        Who::ClientId(id) => event.with(Field::Client, id.clone()),
        Who::Username(name) => event.with(Field::User, name.clone()),
        Who::Address(address) => event.with(Field::Peer, address.clone()),
    };
    view.journal.say(event.maybe(Field::Token, token));
}
