//! The way to another configuration: `POST /api/v1/reload` reads the file again and says what changes; the rest of the API
//! changes parts of it ([`super::change`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Who;
use super::config_file::ConfigFile;
use super::problem::{Asked, Problem};
use super::users::{AuthAnswer, AuthAsk};
use super::{Shown, View, traced};
use crate::metrics::event::{Event, Field, Kind};
use crate::telemetry::TraceContext;

/// How long all shards together may take to apply a change.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(reload))
}

/// What is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What is in the configuration file now.
    File,
    /// What the files hold now that the configuration in force names.
    Files,
    /// One part of it.
    Edit {
        /// What.
        part: Part,
        /// The name of the part.
        name: String,
        /// What becomes of it.
        to: To,
        /// Whether it is written to the file.
        persist: bool,
    },
    /// The configuration file has this text.
    Text {
        /// The text.
        text: String,
        /// The tag of the content that it replaces; `None`: it is only checked.
        etag: Option<String>,
    },
}

/// A part of the configuration with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `[[sink]]`
    Sink,
    /// `[[source]]`
    Source,
    /// `[[rule]]`
    Rule,
    /// `[bridge.NAME]`
    Bridge,
    /// `[kafka.NAME]`
    Cluster,
    /// `[[listener]]`, by its address.
    Listener,
}

impl Part {
    /// The part of a section of the file.
    pub(super) fn of(section: &str) -> Option<Self> {
        Some(match section {
            "sink" => Self::Sink,
            "source" => Self::Source,
            "rule" => Self::Rule,
            "bridge" => Self::Bridge,
            "kafka" => Self::Cluster,
            "listener" => Self::Listener,
            _ => return None,
        })
    }
}

/// What becomes of a part, keys as in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// It has these keys and no others; where there is none of that name, it is added.
    Entry(Map<String, Value>),
    /// These keys of it change.
    Keys(Map<String, Value>),
    /// It is removed.
    Removed,
}

/// Requests to the thread that reads and changes the configuration.
pub trait Reloads: Send + Sync {
    /// Asks for a change, or only for what it would do. `under`: the span of who asks. `false`: the service is ending; `answer` is not called then.
    fn reload(&self, wanted: Wanted, dry_run: bool, under: Option<TraceContext>, answer: ReloadAnswer) -> bool;
    /// Asks for the configuration file. `false`: as above.
    fn file(&self, answer: FileAnswer) -> bool;
    /// Asks for the keys of a part that are written. `false`: as above.
    fn written(&self, of: Part, name: String, answer: KeysAnswer) -> bool;
    /// Asks something of the files of an `[auth.NAME]`, or has one changed. `false`: as above.
    fn auth_files(&self, name: String, ask: AuthAsk, answer: AuthAnswer) -> bool;
    /// The JSON schema of the configuration.
    fn schema(&self) -> Value;
}

/// Takes the configuration file.
pub type FileAnswer = Box<dyn FnOnce(Result<ConfigFile, ReloadRefused>) + Send>;

/// Takes the keys of a part; `None`: there is no such part.
pub type KeysAnswer = Box<dyn FnOnce(Result<Option<Map<String, Value>>, ReloadRefused>) + Send>;

/// Takes the outcome once the change is in force.
pub type ReloadAnswer = Box<dyn FnOnce(Result<Reloaded, ReloadRefused>) + Send>;

/// What a change or a reload does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// Settings that are applied, in the words of the file: `sink telemetry (changed: filters, linger)`.
    pub applied: Vec<String>,
    /// Settings that differ and need a restart. They keep their values until then.
    pub needs_restart: Vec<String>,
    /// Changes by the API that are in force and not in the configuration file: `sink telemetry`. They last until the
    /// service is restarted.
    pub not_in_file: Vec<String>,
    /// Other parts that are written with it, so that they stay as they are: `sink telemetry (kafka = "main")` where there is a second cluster.
    pub also: Vec<String>,
    /// Settings that are valid but probably not intended: for a change of one part those that it brings, otherwise those of the whole file.
    pub warnings: Vec<String>,
    /// Connections that are closed by it, in words: those of clients of removed listeners, those of changed bridges to their remotes.
    pub closes: Vec<String>,
    /// Clients that are disconnected by it: those that would not be admitted any more, and those of listeners that are removed; null: a shard
    /// has not answered in time.
    pub disconnected_clients: Option<u64>,
    /// There was nothing of that name before.
    #[serde(skip)]
    pub is_new: bool,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadRefused {
    /// The file has mistakes: all of them.
    Mistakes(Vec<Mistake>),
    /// There is nothing to reload, or not now.
    NotNow(String),
    /// The file has another content than the one that was to be replaced.
    Changed(String),
    /// There is nothing of that name.
    Unknown(String),
}

impl fmt::Display for ReloadRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistakes(all) => f.write_str(&lines(all, "; ")),
            Self::NotNow(why) | Self::Changed(why) | Self::Unknown(why) => f.write_str(why),
        }
    }
}

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mistake {
    /// The file, or where else it comes from; empty: that is not known.
    pub file: String,
    /// Its line, from 1; 0: it has no place in the file.
    pub line: usize,
    /// Its column in characters, from 1; 0 where `line` is 0.
    pub column: usize,
    /// The key with its path, like `sink[0].linger`; empty where no key is concerned.
    pub key: String,
    /// What is wrong, in words.
    pub what: String,
    /// The cure, where that is known.
    pub hint: Option<String>,
}

impl From<String> for Mistake {
    fn from(what: String) -> Self {
        Self { what, ..Self::default() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.file.is_empty() {
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// All of them, with this between two.
fn lines(mistakes: &[Mistake], between: &str) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join(between)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReloadQuery {
    /// Only report what would change.
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
    let dry_run = dry_run.unwrap_or(false);
    let reloaded = carry_out(&view, Wanted::File, dry_run).await?;
    if !dry_run {
        let event = Event::now(Kind::AdminAction).with(Field::Action, "reload");
        view.journal.say(event.maybe(Field::Token, token));
    }
    Ok(Json(reloaded))
}

/// Has something changed and waits until it is in force.
pub(super) async fn carry_out(view: &View, wanted: Wanted, dry_run: bool) -> Result<Reloaded, Problem> {
    outcome(view, wanted, dry_run).await?.map_err(refused)
}

/// The same; why nothing was changed is not a problem document yet.
pub(super) async fn outcome(
    view: &View,
    wanted: Wanted,
    dry_run: bool,
) -> Result<Result<Reloaded, ReloadRefused>, Problem> {
    let told = asked(|answer| view.reloads.reload(wanted, dry_run, traced::under(), answer))?;
    let Ok(Ok(outcome)) = tokio::time::timeout(PATIENCE, told).await else {
        return Err(Problem::unavailable("the shards have not applied the change yet; the log says when they have"));
    };
    Ok(outcome)
}

/// Asks the main thread. Where its outcome comes; who asked may have gone away by then.
pub(super) fn asked<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, ReloadRefused>) + Send>) -> bool,
) -> Result<oneshot::Receiver<Result<T, ReloadRefused>>, Problem> {
    let (answer, told) = oneshot::channel();
    if ask(Box::new(move |outcome| drop(answer.send(outcome)))) { Ok(told) } else { Err(stopping()) }
}

/// The main thread does not answer any more.
pub(super) fn stopping() -> Problem {
    Problem::unavailable("the service is stopping")
}

/// As a problem document.
pub(super) fn refused(refused: ReloadRefused) -> Problem {
    match refused {
        ReloadRefused::Mistakes(all) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, lines(&all, "\n")),
        ReloadRefused::NotNow(why) => Problem::new(StatusCode::CONFLICT, why),
        ReloadRefused::Changed(what) => Problem::new(StatusCode::PRECONDITION_FAILED, what),
        ReloadRefused::Unknown(what) => Problem::not_found(what),
    }
}
