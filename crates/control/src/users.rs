//! Users and permissions: the contents of the files of `[auth.NAME]`. A change writes its file and applies it at once, like a reload; the keys of
//! `[auth.NAME]` are changed on the machine only.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::auth::{Grant, Who, may_read_messages};
use super::pages::rows_of_page;
use super::problem::{Asked, Named, Problem, SentQuietly, SentText};
use super::reload::{Mistake, ReloadRefused, Reloaded, Wanted, asked, outcome, refused, stopping};
use super::{Shown, View};
use forebay_metrics::event::{Event, Field, Kind};

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(auths))
        .routes(routes!(users))
        .routes(routes!(put_user, remove_user))
        .routes(routes!(permissions, put_permissions))
        .routes(routes!(check_permissions))
}

/// The files and listeners of an `[auth.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Auth {
    /// NAME of the `[auth.NAME]`.
    pub name: String,
    /// Addresses of its listeners.
    pub listeners: Vec<String>,
    /// Password file with the users; null: none.
    pub password_file: Option<String>,
    /// File of permissions; null: none, everything is allowed.
    pub acl_file: Option<String>,
}

/// Every `[auth.NAME]`.
#[derive(Debug, Serialize, ToSchema)]
struct AuthList {
    auth: Vec<Auth>,
}

/// A request to read or change the files of an `[auth.NAME]`.
pub enum AuthAsk {
    /// Lists users, from an index on.
    Users {
        /// Only users with this text in their name.
        search: Option<String>,
        /// Index of the first user to look at.
        from: usize,
        /// The most entries to return.
        limit: usize,
    },
    /// Adds a user, or changes its password.
    PutUser {
        /// Name of the user.
        user: String,
        /// The new password.
        password: Zeroizing<String>,
        /// Form of the password's hash; `None`: the file's usual form.
        hash: Option<String>,
        /// Tag of the changed content; `None`: any.
        etag: Option<String>,
    },
    /// Removes a user.
    RemoveUser {
        /// Name of the user.
        user: String,
        /// Tag of the changed content; `None`: any.
        etag: Option<String>,
    },
    /// Reads the file of permissions.
    Permissions,
    /// Checks a text as the file of permissions.
    CheckPermissions {
        /// The text.
        text: String,
        /// An access to try with the file and with the text.
        tried: Option<AccessTried>,
    },
    /// Replaces the file of permissions.
    PutPermissions {
        /// The text.
        text: String,
        /// Tag of the replaced content.
        etag: String,
    },
}

/// Answers to [`AuthAsk`].
pub enum AuthTold {
    /// Answer to [`AuthAsk::Users`].
    Users(UsersFound),
    /// Answer to the changes: the file is written.
    Written {
        /// Tag of the file's new content.
        etag: String,
        /// Whether the user is new.
        is_new: bool,
        /// Form of the user's hash.
        hash: Option<&'static str>,
    },
    /// Answer to [`AuthAsk::Permissions`].
    Permissions(PermissionsFile),
    /// Answer to [`AuthAsk::CheckPermissions`].
    Checked(PermissionsChecked),
}

/// Receives an answer.
pub type AuthAnswer = Box<dyn FnOnce(Result<AuthTold, ReloadRefused>) + Send>;

/// A user of a password file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UserOfFile {
    /// Name of the user.
    pub name: String,
    /// Form of the password's hash: `argon2id`, `sha512`, `pbkdf2` or `scram`.
    #[schema(example = "argon2id")]
    pub hash: &'static str,
}

/// Users of a password file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsersFound {
    /// Path of the file.
    pub file: String,
    /// Tag of its content.
    pub etag: String,
    /// Number of users in the file.
    pub total: usize,
    /// Lines with mistakes, because of which the file is not used.
    pub mistakes: Vec<String>,
    /// Users, in the order of the file.
    pub users: Vec<UserOfFile>,
    /// Cursor of the next page; null: this is the last page.
    pub next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UsersQuery {
    /// Only users with this text in their name.
    search: Option<String>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UserQuery {
    /// Tag of the changed content, from the list of users; if left out, any content is changed.
    etag: Option<String>,
}

/// A user's password. It is in no log, event or answer, so this is not `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserToPut {
    /// The password.
    password: String,
    /// Form of its hash: `argon2id`, `sha512` (for passwords of 32 characters and more, which are quick to check), `pbkdf2` or `scram`. Left out: the form
    /// of the user's previous password, else the form that most users of the file have.
    hash: Option<String>,
}

/// Result of a change of a file.
#[derive(Debug, Serialize, ToSchema)]
struct FileChanged {
    /// Tag of the file's new content.
    etag: String,
    /// Form of the user's hash; null: no password was set.
    hash: Option<&'static str>,
    /// Effect of applying the file; null: the file is written and not in force yet: `not_in_force` has the reason.
    reloaded: Option<Reloaded>,
    /// Why the file is not in force yet. The service checks its files every 30 seconds.
    not_in_force: Option<String>,
}

/// The file of permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PermissionsFile {
    /// Path of the file.
    pub file: String,
    /// Content of the file.
    pub text: String,
    /// Tag of the content.
    pub etag: String,
    /// Content before the last change by the API; null: unknown.
    pub previous: Option<String>,
}

/// An access of a client, to try permissions with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTried {
    /// The user; `None`: an anonymous client.
    pub user: Option<String>,
    /// Client identifier.
    pub client_id: String,
    /// The client's action.
    pub action: TriedAction,
    /// Topic or topic filter.
    pub topic: String,
}

/// Action of a client in a trial of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TriedAction {
    /// Publish to a topic.
    #[default]
    Publish,
    /// Subscribe to a topic filter.
    Subscribe,
    /// Subscribe to a topic filter with replay of past messages.
    Replay,
}

/// Result of checking a text as the file of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PermissionsChecked {
    /// Mistakes; empty: the text can be used.
    pub mistakes: Vec<Mistake>,
    /// Number of rules.
    pub rules: usize,
    /// Parts of the text that are probably not intended.
    pub warnings: Vec<String>,
    /// Lines that differ from the file; empty: none.
    pub difference: String,
    /// Decision of the file about the tried access; null: none was tried, or the file cannot be used.
    pub says_now: Option<String>,
    /// Decision of the text about the tried access; null: none was tried, or the text cannot be used.
    pub would_say: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TryQuery {
    /// A topic to try; with `action=subscribe` or `replay` a topic filter.
    topic: Option<String>,
    /// With `topic`: `publish`, `subscribe`, or `replay`, which needs the right to subscribe as well.
    #[param(default = "publish", value_type = Option<String>)]
    action: Option<TriedAction>,
    /// With `topic`: the user; without it the client is anonymous.
    user: Option<String>,
    /// With `topic`: the client identifier.
    client_id: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PermissionsQuery {
    /// Tag of the replaced content.
    etag: String,
}

/// Every `[auth.NAME]` with its files.
#[utoipa::path(get, path = "/api/v1/auth", tag = "users", responses((status = 200, body = AuthList)))]
async fn auths(State(view): State<Arc<View>>) -> Json<AuthList> {
    Json(AuthList { auth: view.described.auth.clone() })
}

/// Users of the password file, in its order: this needs the role write. Passwords and hashes are not shown.
#[utoipa::path(get, path = "/api/v1/auth/{name}/users", tag = "users", security(("token" = [])),
    params(("name" = String, Path, description = "NAME of the `[auth.NAME]`"), UsersQuery), responses(
    (status = 200, body = UsersFound),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such `[auth.NAME]`, or it has no password file"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The file cannot be read, or the service is still starting"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn users(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Named(name): Named,
    Asked(UsersQuery { search, limit, cursor }): Asked<UsersQuery>,
) -> Result<Json<UsersFound>, Problem> {
    may_read_messages(&view, &grant)?;
    let limit = rows_of_page(limit)?;
    let from = cursor.map_or(Ok(0), |cursor| cursor.parse().map_err(|_| super::pages::not_a_cursor()))?;
    match told(&view, name, AuthAsk::Users { search, from, limit }).await? {
        AuthTold::Users(found) => Ok(Json(found)),
        _ => Err(stopping()),
    }
}

/// Adds a user to the password file, or changes its password, and applies the file. Clients connected with another password are disconnected.
#[utoipa::path(put, path = "/api/v1/auth/{name}/users/{user}", tag = "users",
    params(("name" = String, Path, description = "NAME of the `[auth.NAME]`"), ("user" = String, Path, description = "User name"), UserQuery),
    request_body = UserToPut, responses(
    (status = 200, body = FileChanged, description = "The user has another password"),
    (status = 201, body = FileChanged, description = "The user is new"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such `[auth.NAME]`, or it has no password file"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The file cannot be read or written"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "The file has another content than the tag says"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The name or the password cannot be used, or lines of the file are wrong"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn put_user(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Named((name, user)): Named<(String, String)>,
    Asked(UserQuery { etag }): Asked<UserQuery>,
    SentQuietly(wanted): SentQuietly<UserToPut>,
) -> Result<(StatusCode, Json<FileChanged>), Problem> {
    let password = Zeroizing::new(wanted.password);
    let ask = AuthAsk::PutUser { user: user.clone(), password, hash: wanted.hash, etag };
    let (is_new, done) = change(&view, (name, "put_user"), Some(user), token, ask).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(done)))
}

/// Removes a user from the password file, and applies the file. The user's clients are disconnected, and their kept sessions end.
#[utoipa::path(delete, path = "/api/v1/auth/{name}/users/{user}", tag = "users",
    params(("name" = String, Path, description = "NAME of the `[auth.NAME]`"), ("user" = String, Path, description = "User name"), UserQuery), responses(
    (status = 200, body = FileChanged),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such `[auth.NAME]` or user"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The file cannot be read or written"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "The file has another content than the tag says"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "Lines of the file are wrong"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn remove_user(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Named((name, user)): Named<(String, String)>,
    Asked(UserQuery { etag }): Asked<UserQuery>,
) -> Result<Json<FileChanged>, Problem> {
    let ask = AuthAsk::RemoveUser { user: user.clone(), etag };
    change(&view, (name, "remove_user"), Some(user), token, ask).await.map(|(_, done)| Json(done))
}

/// The file of permissions: this needs the role write.
#[utoipa::path(get, path = "/api/v1/auth/{name}/permissions", tag = "users", security(("token" = [])),
    params(("name" = String, Path, description = "NAME of the `[auth.NAME]`")), responses(
    (status = 200, body = PermissionsFile),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The token has the role read"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such `[auth.NAME]`, or it has no such file"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The file cannot be read or is longer than 1 MiB, or the service is still starting"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn permissions(
    State(view): State<Arc<View>>,
    Extension(grant): Extension<Grant>,
    Named(name): Named,
) -> Result<Json<PermissionsFile>, Problem> {
    may_read_messages(&view, &grant)?;
    match told(&view, name, AuthAsk::Permissions).await? {
        AuthTold::Permissions(file) => Ok(Json(file)),
        _ => Err(stopping()),
    }
}

/// Checks a text as the file of permissions: its mistakes, or the lines that differ; and the decision about an access. Permissions granted by tokens are
/// not considered. Nothing is changed.
#[utoipa::path(post, path = "/api/v1/auth/{name}/permissions/check", tag = "users",
    params(("name" = String, Path, description = "NAME of the `[auth.NAME]`"), TryQuery),
    request_body(content = String, content_type = "text/plain", description = "The text, 1 MiB at most"), responses(
    (status = 200, body = PermissionsChecked),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such `[auth.NAME]`, or it has no such file"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The file cannot be read, or the service is still starting"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "What is tried is no topic or topic filter"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn check_permissions(
    State(view): State<Arc<View>>,
    Named(name): Named,
    Asked(TryQuery { topic, action, user, client_id }): Asked<TryQuery>,
    SentText(text): SentText,
) -> Result<Json<PermissionsChecked>, Problem> {
    let (action, client_id) = (action.unwrap_or_default(), client_id.unwrap_or_default());
    let tried = topic.map(|topic| AccessTried { user, client_id, action, topic });
    match told(&view, name, AuthAsk::CheckPermissions { text, tried }).await? {
        AuthTold::Checked(checked) => Ok(Json(checked)),
        _ => Err(stopping()),
    }
}

/// Replaces the file of permissions and applies it, to connected clients as well. The previous content is kept beside the file, with `.bak` appended to its
/// name.
#[utoipa::path(put, path = "/api/v1/auth/{name}/permissions", tag = "users",
    params(("name" = String, Path, description = "NAME of the `[auth.NAME]`"), PermissionsQuery),
    request_body(content = String, content_type = "text/plain", description = "The text, 1 MiB at most"), responses(
    (status = 200, body = FileChanged),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such `[auth.NAME]`, or it has no such file"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The file cannot be read or written"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "The file has another content than the tag says: `detail` has the lines in which it differs from the text"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The text has mistakes: `detail` has a line for each; nothing was changed"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn put_permissions(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Named(name): Named,
    Asked(PermissionsQuery { etag }): Asked<PermissionsQuery>,
    SentText(text): SentText,
) -> Result<Json<FileChanged>, Problem> {
    let ask = AuthAsk::PutPermissions { text, etag };
    change(&view, (name, "put_permissions"), None, token, ask).await.map(|(_, done)| Json(done))
}

async fn told(view: &View, name: String, ask: AuthAsk) -> Result<AuthTold, Problem> {
    let told = asked(|answer: AuthAnswer| view.reloads.auth_files(name, ask, answer))?.await;
    told.map_err(|_| stopping())?.map_err(refused)
}

/// Changes a file, records the event, and applies the file. Returns whether a user is new, and the result.
async fn change(
    view: &View,
    (name, action): (String, &'static str),
    user: Option<String>,
    token: Option<String>,
    ask: AuthAsk,
) -> Result<(bool, FileChanged), Problem> {
    let event = Event::now(Kind::AdminAction).with(Field::Action, action).with(Field::Auth, name.clone());
    let AuthTold::Written { etag, is_new, hash } = told(view, name, ask).await? else { return Err(stopping()) };
    view.journal.say(event.maybe(Field::User, user).maybe(Field::Token, token));
    let (reloaded, not_in_force) = match outcome(view, Wanted::Files, false).await {
        Ok(Ok(reloaded)) => (Some(reloaded), None),
        Ok(Err(why)) => (None, Some(why.to_string())),
        Err(problem) => (None, Some(problem.detail().to_owned())),
    };
    Ok((is_new, FileChanged { etag, hash, reloaded, not_in_force }))
}
