//! `POST /api/v1/reload`: reads the configuration file again, and says what changes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Who;
use super::problem::{Asked, Problem};
use super::{Shown, View};
use crate::metrics::event::{Event, Field, Kind};

/// How long all shards together may take to apply a change.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(reload))
}

/// Requests to the thread that reads the configuration file.
pub trait Reloads: Send + Sync {
    /// Asks for a reload, or only for what it would change. `false`: the service is ending; `answer` is not called then.
    fn reload(&self, dry_run: bool, answer: ReloadAnswer) -> bool;
}

/// Takes the outcome once the change is in force.
pub type ReloadAnswer = Box<dyn FnOnce(Result<Reloaded, ReloadRefused>) + Send>;

/// What a reload changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Nothing was changed: this is what a reload would do.
    pub dry_run: bool,
    /// Settings that are applied, in the words of the file: `sink telemetry (changed: filters, linger)`.
    pub applied: Vec<String>,
    /// Settings that differ and need a restart. They keep their values until then.
    pub needs_restart: Vec<String>,
    /// Settings that are valid but probably not intended.
    pub warnings: Vec<String>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadRefused {
    /// The file has mistakes: all of them.
    Mistakes(Vec<String>),
    /// There is nothing to reload, or not now.
    NotNow(String),
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReloadQuery {
    /// Only say what would change.
    dry_run: Option<bool>,
}

/// Reads the configuration file again, with the same options and environment variables, and applies what can be changed
/// while the service runs; no connection is closed. The answer comes when the changes are in force on all shards.
#[utoipa::path(post, path = "/api/v1/reload", tag = "service", params(ReloadQuery), responses(
    (status = 200, body = Reloaded),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "There is no file to read, or another reload is under way"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The configuration has mistakes: `detail` has a line for each; nothing was changed"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping, or a shard did not answer")))]
async fn reload(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Asked(ReloadQuery { dry_run }): Asked<ReloadQuery>,
) -> Result<Json<Reloaded>, Problem> {
    let (answer, told) = oneshot::channel();
    let dry_run = dry_run.unwrap_or(false);
    // Who asked may have gone away.
    if !view.reloads.reload(dry_run, Box::new(move |outcome| drop(answer.send(outcome)))) {
        return Err(Problem::unavailable("the service is stopping"));
    }
    let Ok(Ok(outcome)) = tokio::time::timeout(PATIENCE, told).await else {
        return Err(Problem::unavailable("the shards have not applied the change yet; the log says when they have"));
    };
    if !dry_run && outcome.is_ok() {
        let event = Event::now(Kind::AdminAction).with(Field::Action, "reload");
        view.journal.say(event.maybe(Field::Token, token));
    }
    outcome.map(Json).map_err(|refused| match refused {
        ReloadRefused::Mistakes(all) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, all.join("\n")),
        ReloadRefused::NotNow(why) => Problem::new(StatusCode::CONFLICT, why),
    })
}
