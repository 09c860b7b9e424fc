//! Errors as problem documents (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Time-out for the body of a request, after its head.
const BODY_MAX: Duration = Duration::from_secs(10);

/// Why a request was not carried out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status names the kind of problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Name of the status.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was wrong, and how to fix it.
    detail: String,
    /// Seconds after which a retry may succeed.
    #[serde(skip)]
    after: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into(), after: None }
    }

    /// Sets the time of a retry: `Retry-After`.
    pub(super) fn after(self, seconds: u64) -> Self {
        Self { after: Some(seconds), ..self }
    }

    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.status == status.as_u16()
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let after = self.after;
        let mut response = (status, Json(self)).into_response();
        if let Some(seconds) = after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        let kind = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The query's parameters. Mistakes in them are a problem document.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Self(asked)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// The body, JSON whatever its content type says. Mistakes are a problem document.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = received(request, state).await?;
        read(&body).map(Self)
    }
}

async fn received<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let body = tokio::time::timeout(BODY_MAX, Bytes::from_request(request, state)).await;
    let body = body.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long"))?;
    body.map_err(|error| Problem::new(error.status(), error.body_text()))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("the body is not as described: {error}")))
}

/// The body, JSON with a secret. Mistakes are a problem document without details.
pub(super) struct SentQuietly<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for SentQuietly<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = received(request, state).await?;
        let read = serde_json::from_slice(&body);
        read.map(Self).map_err(|_| Problem::bad_request("the body is not as described; what is in it is not shown"))
    }
}

/// The keys of a part of the configuration: JSON, or TOML as in the file if the content type says so. Mistakes are a problem document.
pub(super) struct SentKeys(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for SentKeys {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_toml = kind.is_some_and(|kind| kind.split(';').next().unwrap_or_default().trim() == "application/toml");
        let body = received(request, state).await?;
        if is_toml { toml_keys(&body).map(Self) } else { read(&body).map(Self) }
    }
}

/// Reads keys as the configuration file has them. Mistakes are reported with their place in the text.
fn toml_keys(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let text =
        std::str::from_utf8(body).map_err(|error| Problem::bad_request(format!("the body is no text: {error}")))?;
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("line {line}, column {column}: {}", error.message()))
    })
}

/// The body, optional. Mistakes are a problem document.
pub(super) struct SentIfAny<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for SentIfAny<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = received(request, state).await?;
        if body.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        read(&body).map(Self)
    }
}

/// Limit of a text's bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The body as text. Mistakes are a problem document.
pub(super) struct SentText(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for SentText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = received(request, state).await?;
        if body.len() > TEXT_BYTES_MAX {
            let detail = format!("the text has {} bytes, and may have {TEXT_BYTES_MAX}", body.len());
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let text = String::from_utf8(body.into());
        text.map(Self).map_err(|error| Problem::bad_request(format!("the body is no text: {error}")))
    }
}

/// The name in the path, or all names of the path. Mistakes are a problem document.
pub(super) struct Named<T = String>(pub(super) T);

impl<T: DeserializeOwned + Names + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name.read())).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// Names in a path.
pub(super) trait Names {
    /// Unescapes the names. `.` and `..` are steps of a path, which browsers and proxies remove from it, percent-encoded too (RFC 3986, 5.2.4; URL
    /// Standard, 4.1): such a name has a `~` before it, `~..`, and a name like `~..` another one.
    fn read(self) -> Self;
}

impl Names for String {
    fn read(self) -> Self {
        match self.strip_prefix('~') {
            Some(rest) if matches!(rest.trim_start_matches('~'), "." | "..") => rest.to_owned(),
            _ => self,
        }
    }
}

impl Names for (String, String) {
    fn read(self) -> Self {
        (self.0.read(), self.1.read())
    }
}

impl Names for (String, String, String, String) {
    fn read(self) -> Self {
        (self.0.read(), self.1.read(), self.2.read(), self.3.read())
    }
}

/// The problem of a path that does not exist.
pub(super) async fn no_such_path(uri: axum::http::Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}; /api/v1/openapi.json describes what there is", uri.path()))
}

/// The problem of a method that a path does not have.
pub(super) async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not support {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_path_can_have_have_a_tilde_before_them() {
        for (path, name) in [("~.", "."), ("~..", ".."), ("~~.", "~."), ("~~..", "~.."), (".", "."), ("..", "..")] {
            assert_eq!(path.to_owned().read(), name);
        }
        for as_it_is in ["", "~", "~~", "~...", "a", "~a", "~.a", "a~.", "~/..", ". "] {
            assert_eq!(as_it_is.to_owned().read(), as_it_is);
        }
    }

    #[test]
    fn mistakes_of_toml_have_their_place() {
        let keys = toml_keys(b"topic = \"t\"\nfilters = [\"a\", \"b\"]\nheaders = { site = \"x\" }\n").expect("keys");
        assert_eq!(
            Value::Object(keys),
            serde_json::json!({ "topic": "t", "filters": ["a", "b"], "headers": { "site": "x" } })
        );
        for (text, place) in [
            ("a = 1\n\nb = = 2\n", "line 3, column 5: "),
            ("a = 1\na = 2", "line 2, column 1: "),
            ("ä = 1", "line 1, column 1: "),
        ] {
            let problem = toml_keys(text.as_bytes()).expect_err(text);
            assert!(problem.detail().starts_with(place), "{}", problem.detail());
        }
        assert!(toml_keys(b"a = \"\xff\"").is_err());
    }
}
