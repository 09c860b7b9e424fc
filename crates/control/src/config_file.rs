//! The configuration file as text: read, checked and replaced as a whole. The file may hold secrets, so all of this needs the role write.
//!
//! `PUT` names the content that it replaces by its tag, so that no caller overwrites the changes of another.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Grant, Who, may_read_messages};
use super::problem::{Asked, Problem, SentText};
use super::reload::{Mistake, Part, ReloadRefused, Reloaded, Wanted, asked, carry_out, outcome, refused, stopping};
use super::{Shown, View};
use forebay_metrics::event::{Event, Field, Kind};

/// Bytes of the digest in a tag.
const TAG_BYTES: usize = 12;
/// Lines of a difference in an answer, at most.
const DIFFERENT_LINES_MAX: usize = 60;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(file, put_file))
        .routes(routes!(part))
        .routes(routes!(check))
        .routes(routes!(schema))
}

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConfigFile {
    /// Path of the file; empty: there is none.
    pub file: String,
    /// Content of the file.
    pub text: String,
    /// Tag of the content.
    pub etag: String,
    /// Content before the last change by the API; null: unknown.
    pub previous: Option<String>,
    /// Why there is no file; null: there is one.
    pub missing: Option<String>,
}

/// The keys of a part as written.
#[derive(Debug, Serialize, ToSchema)]
struct WrittenKeys {
    /// Keys as in the configuration file, without the name; null: there is no such part.
    #[schema(value_type = Option<Object>)]
    keys: Option<Map<String, Value>>,
}

/// The tag of a text, derived from the text.
#[must_use]
pub fn etag(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref()[..TAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines in which two texts differ, from the first to the last difference: removed lines with `-`, added lines with `+`.
#[must_use]
pub fn difference(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let head = before.iter().zip(&after).take_while(|(old, new)| old == new).count();
    let (old, new) = (&before[head..], &after[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut said = format!("line {}:", head + 1);
    let lines = old.iter().map(|line| ('-', line)).chain(new.iter().map(|line| ('+', line)));
    for (sign, line) in lines.take(DIFFERENT_LINES_MAX) {
        let _ = write!(said, "\n{sign} {line}");
    }
    let more = (old.len() + new.len()).saturating_sub(DIFFERENT_LINES_MAX);
    if more > 0 {
        let _ = write!(said, "\nand {more} more lines");
    }
    said
}

/// Result of checking a text as the configuration.
#[derive(Debug, Serialize, ToSchema)]
struct Checked {
    /// Mistakes; empty: the text can be applied.
    mistakes: Vec<Mistake>,
    /// Changes that would be applied, if there are no mistakes.
    would: Option<Reloaded>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PutQuery {
    /// Tag of the replaced content, from `GET /api/v1/config/file`.
    etag: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PartQuery {
    /// The part, as answers name it: `sink alarms`, and likewise `source`, `rule`, `bridge`, `kafka` with its name, and `listener` with its address.
    of: String,
}

/// The keys of a part of the configuration as written, in the file or by a change of the API: the form that `PUT` accepts. Defaults, and keys set by
/// environment variables or options of the command line, are left out; `GET /api/v1/config` has all that is in force.
#[utoipa::path(get, path = "/api/v1/config/part", tag = "service", security(("token" = [])), params(PartQuery), responses(
    (status = 200, body = WrittenKeys),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn part(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Asked(PartQuery { of }): Asked<PartQuery>,
) -> Result<Json<WrittenKeys>, Problem> {
    may_read_messages(&view, &grant)?;
    let Some((part, name)) = of.split_once(' ').and_then(|(section, name)| Some((Part::of(section)?, name))) else {
        return Ok(Json(WrittenKeys { keys: None }));
    };
    let told = asked(|answer| view.reloads.written(part, name.to_owned(), answer))?.await.map_err(|_| stopping())?;
    told.map(|keys| Json(WrittenKeys { keys })).map_err(refused)
}

/// The current configuration file. The configuration in force may be older, or have changes by the API that are not in the file: see `GET /api/v1/config`.
#[utoipa::path(get, path = "/api/v1/config/file", tag = "service", security(("token" = [])), responses(
    (status = 200, body = ConfigFile),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "It cannot be read, or is longer than 1 MiB"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn file(State(view): State<Arc<View>>, Extension(grant): Extension<Grant>) -> Result<Json<ConfigFile>, Problem> {
    may_read_messages(&view, &grant)?;
    let told = asked(|answer| view.reloads.file(answer))?.await.map_err(|_| stopping())?;
    told.map(Json).map_err(refused)
}

/// Checks a text as the configuration: reports its mistakes with their places, or what it would change. Nothing is changed.
#[utoipa::path(post, path = "/api/v1/config/check", tag = "service",
    request_body(content = String, content_type = "application/toml", description = "The text of a configuration file, 1 MiB at most"), responses(
    (status = 200, body = Checked),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "It changes keys that are changed on the machine only, there is no file, or another change is under way"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping, or a shard did not answer")))]
async fn check(State(view): State<Arc<View>>, SentText(text): SentText) -> Result<Json<Checked>, Problem> {
    match outcome(&view, Wanted::Text { text, etag: None }, true).await? {
        Ok(would) => Ok(Json(Checked { mistakes: Vec::new(), would: Some(would) })),
        Err(ReloadRefused::Mistakes(mistakes)) => Ok(Json(Checked { mistakes, would: None })),
        Err(why) => Err(refused(why)),
    }
}

/// Replaces the configuration file and applies the settings that can change at run time; the others need a restart. The previous content is kept beside the
/// file, with `.bak` appended to its name. Keys of `[control]`, `[auth.NAME]` and `[service]` are changed on the machine only.
#[utoipa::path(put, path = "/api/v1/config/file", tag = "service", params(PutQuery),
    request_body(content = String, content_type = "application/toml", description = "The text, 1 MiB at most"), responses(
    (status = 200, body = Reloaded),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "It changes keys that are changed on the machine only, the file cannot be written, or another change is under way"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "The file has another content than the tag says: `detail` has the lines in which it differs from the text"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The text has mistakes: `detail` has a line for each; nothing was changed"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping, or a shard did not answer")))]
async fn put_file(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Asked(PutQuery { etag }): Asked<PutQuery>,
    SentText(text): SentText,
) -> Result<Json<Reloaded>, Problem> {
    let done = carry_out(&view, Wanted::Text { text, etag: Some(etag) }, false).await?;
    let event = Event::now(Kind::AdminAction).with(Field::Action, "put_config_file");
    view.journal.say(event.maybe(Field::Token, token));
    Ok(Json(done))
}

/// The JSON schema (2020-12) of the configuration, as `forebay config schema` prints it.
#[utoipa::path(get, path = "/api/v1/config/schema", tag = "service", responses((status = 200, body = Object)))]
async fn schema(State(view): State<Arc<View>>) -> Json<Value> {
    Json(view.reloads.schema())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_the_lines_between_what_is_the_same() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\ny\nc\n"), "line 2:\n- b\n+ x\n+ y");
        assert_eq!(difference("a\n", "a\nb\n"), "line 2:\n+ b");
        assert_eq!(difference("a\na\n", "a\n"), "line 2:\n- a");
        let long: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert!(difference(&long, "").ends_with("\nand 40 more lines"));
    }

    #[test]
    fn another_text_has_another_tag() {
        assert_eq!(etag("a").len(), 24);
        assert!(etag("a") == etag("a") && etag("a") != etag("b"));
    }
}
