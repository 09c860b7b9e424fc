//! Changes of the configuration: `POST /api/v1/reload` reads the file again and reports the changes; the rest of the API changes parts of it
//! ([`super::change`]).

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
use forebay_metrics::event::{Event, Field, Kind};
use forebay_service::telemetry::TraceContext;

/// Time that all shards together may take to apply a change.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(reload))
}

/// The requested change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The configuration file is read again.
    File,
    /// The files that the configuration in force names are read again.
    Files,
    /// One part is changed.
    Edit {
        /// Kind of the part.
        part: Part,
        /// Name of the part.
        name: String,
        /// The change of the part.
        to: To,
        /// Whether the change is written to the file.
        persist: bool,
    },
    /// The text replaces the configuration file.
    Text {
        /// The text.
        text: String,
        /// Tag of the replaced content; `None`: the text is only checked.
        etag: Option<String>,
    },
}

/// A kind of named part of the configuration.
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
    /// The kind of part of a section of the file.
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

/// A change of a part, with keys as in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The part has these keys and no others; if it does not exist, it is added.
    Entry(Map<String, Value>),
    /// These keys of the part change.
    Keys(Map<String, Value>),
    /// The part is removed.
    Removed,
}

/// Requests to the thread that reads and changes the configuration.
pub trait Reloads: Send + Sync {
    /// Requests a change, or with `dry_run` only its effect. `under`: the caller's span. `false`: the service is stopping; `answer` is not called then.
    fn reload(&self, wanted: Wanted, dry_run: bool, under: Option<TraceContext>, answer: ReloadAnswer) -> bool;
    /// Requests the configuration file. `false` as for [`Self::reload`].
    fn file(&self, answer: FileAnswer) -> bool;
    /// Requests the keys of a part as written. `false` as for [`Self::reload`].
    fn written(&self, of: Part, name: String, answer: KeysAnswer) -> bool;
    /// Reads or changes the files of an `[auth.NAME]`. `false` as for [`Self::reload`].
    fn auth_files(&self, name: String, ask: AuthAsk, answer: AuthAnswer) -> bool;
    /// Returns the JSON schema of the configuration.
    fn schema(&self) -> Value;
}

/// Receives the configuration file.
pub type FileAnswer = Box<dyn FnOnce(Result<ConfigFile, ReloadRefused>) + Send>;

/// Receives the keys of a part; `None`: there is no such part.
pub type KeysAnswer = Box<dyn FnOnce(Result<Option<Map<String, Value>>, ReloadRefused>) + Send>;

/// Receives the outcome once the change is in force.
pub type ReloadAnswer = Box<dyn FnOnce(Result<Reloaded, ReloadRefused>) + Send>;

/// Effect of a change or a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Whether nothing was changed: the rest is what would be done.
    pub dry_run: bool,
    /// Settings that are applied, in the words of the file: `sink telemetry (changed: filters, linger)`.
    pub applied: Vec<String>,
    /// Settings that differ and need a restart. Until then they keep their values.
    pub needs_restart: Vec<String>,
    /// Changes by the API that are in force but not in the configuration file: `sink telemetry`. They last until the service is restarted.
    pub not_in_file: Vec<String>,
    /// Other parts that are written as well, so that they stay as they are: `sink telemetry (kafka = "main")` when a second cluster is added.
    pub also: Vec<String>,
    /// Settings that are valid but probably not intended: for a change of one part those of the change, otherwise those of the whole file.
    pub warnings: Vec<String>,
    /// Connections that the change closes, in words: those of clients of removed listeners, and of changed bridges to their remotes.
    pub closes: Vec<String>,
    /// Clients that the change disconnects: those that would not be admitted any more, and those of removed listeners; null: a shard has not answered in
    /// time.
    pub disconnected_clients: Option<u64>,
    /// Whether the part is new.
    #[serde(skip)]
    pub is_new: bool,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadRefused {
    /// The file has mistakes: all of them.
    Mistakes(Vec<Mistake>),
    /// There is nothing to reload, or a reload is not possible now.
    NotNow(String),
    /// The content of the file is not the one to replace.
    Changed(String),
    /// The part does not exist.
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

/// A mistake in a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mistake {
    /// The file, or another origin of the setting; empty: unknown.
    pub file: String,
    /// Line, from 1; 0: the mistake has no place in the file.
    pub line: usize,
    /// Column in characters, from 1; 0 where `line` is 0.
    pub column: usize,
    /// Path of the key, like `sink[0].linger`; empty where no key is concerned.
    pub key: String,
    /// Description of the mistake.
    pub what: String,
    /// How to fix it, if known.
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

/// Joins all mistakes with `between`.
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

/// Reads the configuration file again, with the same options and environment variables, and applies the settings that can change at run time; no connection
/// is closed. The answer is sent when the changes are in force on all shards.
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

/// Requests a change and waits until it is in force.
pub(super) async fn carry_out(view: &View, wanted: Wanted, dry_run: bool) -> Result<Reloaded, Problem> {
    outcome(view, wanted, dry_run).await?.map_err(refused)
}

/// Like [`carry_out`], but returns the refusal as it is.
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

/// Sends a request to the main thread, and returns the receiver of its outcome. The caller may disconnect before.
pub(super) fn asked<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, ReloadRefused>) + Send>) -> bool,
) -> Result<oneshot::Receiver<Result<T, ReloadRefused>>, Problem> {
    let (answer, told) = oneshot::channel();
    if ask(Box::new(move |outcome| drop(answer.send(outcome)))) { Ok(told) } else { Err(stopping()) }
}

/// The problem of a main thread that does not answer any more.
pub(super) fn stopping() -> Problem {
    Problem::unavailable("the service is stopping")
}

/// A refusal as a problem document.
pub(super) fn refused(refused: ReloadRefused) -> Problem {
    match refused {
        ReloadRefused::Mistakes(all) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, lines(&all, "\n")),
        ReloadRefused::NotNow(why) => Problem::new(StatusCode::CONFLICT, why),
        ReloadRefused::Changed(what) => Problem::new(StatusCode::PRECONDITION_FAILED, what),
        ReloadRefused::Unknown(what) => Problem::not_found(what),
    }
}
