//! Tokens by client credentials (RFC 6749, section 4.4): an identity provider issues them for an ID and a secret.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::http::{self, Bounds, Request};
use super::sasl::token_of;
use super::{Secret, Url};

const BOUNDS: Bounds = Bounds { step: Duration::from_secs(5), whole: Duration::from_secs(20), body: 128 << 10 };
/// The lifetime of a token without one in the answer, in seconds.
const LIFE_DEFAULT_S: u64 = 60;
/// The longest time for which a token is used, in seconds.
const LIFE_MAX_S: u64 = 24 * 3_600;
/// The longest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 4 << 10;
/// Error codes of RFC 6749, section 5.2. Other texts of a server are not repeated: it could send the secret back.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// The endpoint that issues tokens, and the client ID for its requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenEndpoint {
    /// The URL of the endpoint.
    pub url: Url,
    /// Our client ID.
    pub client_id: String,
    /// The file of the secret, read at each fetch.
    pub secret_file: PathBuf,
    /// The scope of the token; `None`: the provider's default.
    pub scope: Option<String>,
    /// The CAs of the endpoint's certificate; `None`: those of this machine.
    pub ca_file: Option<PathBuf>,
}

/// A token, and its lifetime from the time of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The token.
    pub token: Secret,
    /// The lifetime of the token.
    pub life: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// A lifetime in seconds; some providers write the number as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl TokenEndpoint {
    /// Requests a token, and waits for it: up to 20 seconds.
    ///
    /// # Errors
    /// Why there is none, in words that name the URL and never a secret.
    pub fn fetch(&self) -> Result<Granted, String> {
        self.granted().map_err(|why| format!("no token from {}: {why}", self.url))
    }

    fn granted(&self) -> Result<Granted, String> {
        let secret = self.secret()?;
        // RFC 6749, section 2.3.1: every provider has to support HTTP Basic.
        let mut pair = Zeroizing::new(escaped(self.client_id.as_bytes()).to_string());
        pair.push(':');
        pair.push_str(&escaped(secret.expose()));
        let authorization = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(pair.as_bytes()))));
        let fields = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "application/json"),
        ];
        let mut body = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            body.push_str("&scope=");
            body.push_str(&escaped(scope.as_bytes()));
        }
        let request = Request { url: &self.url, path: "", fields: &fields, body: Some(body.as_bytes()) };
        let answer = http::ask(&request, self.ca_file.as_ref(), BOUNDS)?;
        if (400..=499).contains(&answer.status)
            && let Some(why) = answer.body.as_ref().ok().and_then(|body| refusal(body))
        {
            return Err(format!("it refuses: {why} ({})", answer.status));
        }
        read(&answer.ok()?)
    }

    fn secret(&self) -> Result<Secret, String> {
        let file = self.secret_file.display();
        let failed = |why: &str| format!("the secret in {file} cannot be read: {why}");
        let length = std::fs::metadata(&self.secret_file).map_err(|error| failed(&error.to_string()))?.len();
        if length > SECRET_BYTES_MAX {
            return Err(failed("it is longer than 4 KiB"));
        }
        let secret = std::fs::read(&self.secret_file).map_err(|error| failed(&error.to_string()))?;
        let secret = Secret::of_file(secret);
        if secret.expose().is_empty() { Err(failed("it is empty")) } else { Ok(secret) }
    }
}

/// Percent-encodes all but unreserved characters.
fn escaped(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(3 * bytes.len()));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
    text
}

fn refusal(body: &[u8]) -> Option<&'static str> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    ERRORS.into_iter().find(|known| *known == refusal.error)
}

/// Reads the answer (RFC 6749, section 5.1).
fn read(body: &[u8]) -> Result<Granted, String> {
    // The parser's error might repeat the token.
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "its answer is no JSON that has a token")?;
    if answer.token_type.is_some_and(|of| !of.eq_ignore_ascii_case("bearer")) {
        return Err("the token that it gives is no bearer token".to_owned());
    }
    let token = answer.access_token.and_then(|token| token_of(token.into_bytes()));
    let token = token.ok_or("its answer has no access_token that can be used")?;
    let life = match answer.expires_in {
        None => Some(LIFE_DEFAULT_S),
        Some(Seconds::Number(number)) => whole_seconds(number),
        Some(Seconds::Text(text)) => text.parse().ok().and_then(whole_seconds),
    };
    let life = life.ok_or("its expires_in is not a number of seconds above 0")?;
    Ok(Granted { token, life: Duration::from_secs(life.min(LIFE_MAX_S)) })
}

fn whole_seconds(number: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded one line above")]
    (1.0..=1e15).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn what_is_a_token() {
        let life = |text: &str| {
            let granted = read(format!(r#"{{"access_token":"t.o.k","token_type":"Bearer"{text}}}"#).as_bytes());
            granted.map(|granted| granted.life.as_secs())
        };
        assert_eq!(life(""), Ok(LIFE_DEFAULT_S));
        assert_eq!(life(r#","expires_in":3600,"scope":"a""#), Ok(3_600));
        assert_eq!(life(r#","expires_in":"299""#), Ok(299));
        assert_eq!(life(r#","expires_in":1e14"#), Ok(LIFE_MAX_S));
        for bad in ["0", "-1", "0.5", "1e300", "\"x\"", "\"NaN\"", "\"\"", "\"inf\""] {
            assert!(life(&format!(r#","expires_in":{bad}"#)).is_err(), "{bad}");
        }
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a b"}"#,
            r#"{"access_token":"s3cret"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":"s3cret","token_type":"mac"}"#,
        ] {
            let why = read(bad.as_bytes()).expect_err(bad);
            assert!(!why.contains("s3cret"), "{why}");
        }
    }

    #[test]
    fn a_refusal_in_other_words_is_not_repeated() {
        assert_eq!(refusal(br#"{"error":"invalid_client","error_description":"s3cret"}"#), Some("invalid_client"));
        assert_eq!(refusal(br#"{"error":"s3cret"}"#), None);
        assert_eq!(refusal(b"s3cret"), None);
    }

    /// A provider that gives this answer to its only connection, and writes the request to the file `asked`.
    fn provider(answer: &str, dir: &std::path::Path) -> TokenEndpoint {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let (answer, asked) = (answer.to_owned(), dir.join("asked"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut text = Vec::new();
            while !text.ends_with(b"scope=a%20b") {
                let mut bytes = [0; 512];
                let count = stream.read(&mut bytes).expect("a request");
                text.extend_from_slice(&bytes[..count]);
            }
            std::fs::write(asked, text).expect("written");
            stream.write_all(answer.as_bytes()).expect("an answer");
        });
        TokenEndpoint {
            url: Url::parse(&url).expect("a URL"),
            client_id: "for:ebay".to_owned(),
            secret_file: dir.join("secret"),
            scope: Some("a b".to_owned()),
            ca_file: None,
        }
    }

    #[test]
    fn a_provider_gives_a_token_or_says_why_not() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("secret"), "s3cret\n").expect("written");
        let ask = |answer: &str| {
            provider(answer, dir.path()).fetch().map_err(|why| {
                assert!(why.starts_with("no token from http://127.0.0.1:") && !why.contains("s3cret"), "{why}");
                why
            })
        };
        let good = r#"{"access_token":"abc","token_type":"bearer","expires_in":60}"#;
        let granted = ask(&format!("HTTP/1.1 200 OK\r\n\r\n{good}")).expect("a token");
        assert_eq!((granted.token, granted.life.as_secs()), (Secret::new(b"abc".to_vec()), 60));
        let asked = std::fs::read_to_string(dir.path().join("asked")).expect("asked");
        let basic = STANDARD.encode("for%3Aebay:s3cret");
        assert!(asked.contains(&format!("\r\nAuthorization: Basic {basic}\r\n")), "{asked}");
        assert!(asked.ends_with("\r\n\r\ngrant_type=client_credentials&scope=a%20b"), "{asked}");
        for (answer, why) in [
            ("HTTP/1.1 401 No\r\n\r\n{\"error\":\"invalid_client\"}", "it refuses: invalid_client (401)"),
            ("HTTP/1.1 401 No\r\n\r\n{\"error\":\"s3cret\"}", "it answers 401"),
            ("HTTP/1.1 307 x\r\nLocation: https://other.example/\r\n\r\n", "redirects are not followed"),
            ("HTTP/1.1 503 x\r\n\r\n", "it answers 503"),
            ("HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"s3cret", "is no JSON that has a token"),
            ("HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"s3cret token\"}", "no access_token that can be used"),
        ] {
            let said = ask(answer).expect_err(answer);
            assert!(said.contains(why), "{answer}: {said}");
        }
        std::fs::write(dir.path().join("secret"), "\n").expect("written");
        assert!(ask("").expect_err("no secret").contains("it is empty"));
    }

    #[test]
    fn what_has_to_be_escaped_is() {
        assert_eq!(&*escaped(b"aZ0-._~"), "aZ0-._~");
        assert_eq!(&*escaped("a:b c+%/é".as_bytes()), "a%3Ab%20c%2B%25%2F%C3%A9");
    }
}
