//! Logins to Kafka by SASL: PLAIN, SCRAM and OAUTHBEARER as exchanges of bytes, sans-I/O. The transport of the bytes, and Kafka's
//! error codes, are not known here.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::scram::{Challenge, Derivation, Expected, First, Hash, Keys};
use super::{Secret, TokenEndpoint};

/// The most derived keys that are remembered: more than the clusters and users of any process.
const KEYS_MAX: usize = 64;
/// The longest token that is read, in bytes.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User name and password, as they are.
    Plain,
    /// A proof that the password is known.
    Scram(Hash),
    /// A token of an issuer that the broker trusts.
    OauthBearer,
}

impl Mechanism {
    /// The mechanism's name on the wire and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// The mechanism of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512), Self::OauthBearer];
        all.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Whether the mechanism sends the secret in the clear, so that anyone who can read the connection can log in.
    #[must_use]
    pub const fn shows_the_secret(self) -> bool {
        !matches!(self, Self::Scram(_))
    }
}

/// The credentials of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The SASL mechanism.
    pub mechanism: Mechanism,
    /// User name; empty with OAUTHBEARER.
    pub user: String,
    /// Password; empty with OAUTHBEARER.
    pub password: Secret,
    /// The source of the token, with OAUTHBEARER.
    pub token: Option<TokenFrom>,
    /// SASL extensions of OAUTHBEARER.
    pub extensions: Vec<(String, String)>,
}

/// The source of OAUTHBEARER's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFrom {
    /// A file, which is read at each login.
    File(PathBuf),
    /// An identity provider.
    Endpoint(Arc<TokenEndpoint>),
}

/// Work that takes too long for a thread that serves devices: for [`Helper`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// The keys of a password.
    Derive(Derivation),
    /// Get the token. `is_refused`: the last login was refused, so a new token is better than the last.
    Token {
        /// The source.
        from: TokenFrom,
        /// Whether the last login was refused.
        is_refused: bool,
    },
}

/// The result of a [`Task`].
#[derive(Clone, Debug)]
pub enum Prepared {
    /// The keys.
    Keys(Arc<Keys>),
    /// The token.
    Token(Secret),
}

/// The next step of an exchange.
#[derive(Debug)]
pub enum Next {
    /// Send these bytes, and give the answer to [`Exchange::answered`].
    Send(Vec<u8>),
    /// Have this task done, and give the result to [`Exchange::prepared`].
    Prepare(Task),
    /// The login is complete, and the server has proved itself where the mechanism can.
    Done,
}

/// One login.
#[derive(Debug)]
pub struct Exchange {
    credentials: Arc<Credentials>,
    step: Step,
    /// The login before this one was refused.
    is_refused: bool,
    /// An OAUTHBEARER server's reason for refusing a token.
    refusal: Option<String>,
}

#[derive(Debug)]
enum Step {
    New,
    AwaitsToken,
    AwaitsServerFirst(First),
    AwaitsKeys(Challenge),
    AwaitsServerFinal(Expected),
    /// One more answer is awaited; its contents do not matter.
    AwaitsAnswer,
    Over,
}

impl Exchange {
    /// A login that has not begun.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, step: Step::New, is_refused: false, refusal: None }
    }

    /// A login after one that was refused, or was not.
    #[must_use]
    pub fn again(credentials: Arc<Credentials>, is_refused: bool) -> Self {
        Self { is_refused, ..Self::new(credentials) }
    }

    /// The credentials.
    #[must_use]
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// The server's reason for refusing the token, beside its error.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Begins: the server has agreed to the mechanism.
    ///
    /// # Errors
    /// This machine has no random numbers.
    pub fn begin(&mut self) -> Result<Next, String> {
        let of = &self.credentials;
        let (step, next) = match of.mechanism {
            Mechanism::Plain => (Step::AwaitsAnswer, Next::Send(plain(of))),
            Mechanism::Scram(hash) => {
                let mut random = [0; 24];
                SystemRandom::new().fill(&mut random).map_err(|_| "no random numbers".to_owned())?;
                let (first, message) = First::new(hash, &of.user, STANDARD_NO_PAD.encode(random));
                (Step::AwaitsServerFirst(first), Next::Send(message.into_bytes()))
            }
            Mechanism::OauthBearer => {
                let from = of.token.clone().ok_or("no token is configured")?;
                (Step::AwaitsToken, Next::Prepare(Task::Token { from, is_refused: self.is_refused }))
            }
        };
        self.step = step;
        Ok(next)
    }

    /// Takes the result of a task.
    ///
    /// # Errors
    /// The task failed, or none was pending.
    pub fn prepared(&mut self, prepared: Result<Prepared, String>) -> Result<Next, String> {
        let (step, message) = match (std::mem::replace(&mut self.step, Step::Over), prepared?) {
            (Step::AwaitsKeys(challenge), Prepared::Keys(keys)) => {
                let (expected, message) = challenge.answer(&keys);
                (Step::AwaitsServerFinal(expected), message.into_bytes())
            }
            (Step::AwaitsToken, Prepared::Token(token)) => {
                (Step::AwaitsAnswer, bearer(&token, &self.credentials.extensions))
            }
            _ => return Err("nothing was to be prepared".to_owned()),
        };
        self.step = step;
        Ok(Next::Send(message))
    }

    /// Takes the server's answer, which is not an error.
    ///
    /// # Errors
    /// What is wrong with the answer, in words.
    pub fn answered(&mut self, message: &[u8]) -> Result<Next, String> {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::AwaitsServerFirst(first) => {
                let challenge = first.server_first(message)?;
                let task = Task::Derive(challenge.derivation(&self.credentials.password));
                self.step = Step::AwaitsKeys(challenge);
                Ok(Next::Prepare(task))
            }
            Step::AwaitsServerFinal(expected) => expected.server_final(message).map(|()| Next::Done),
            // RFC 7628, section 3.2.3: the server gives its reason, and refuses when that is acknowledged.
            Step::AwaitsAnswer if self.credentials.mechanism == Mechanism::OauthBearer && !message.is_empty() => {
                if self.refusal.is_some() {
                    return Err("the broker neither takes the token nor refuses it".to_owned());
                }
                self.refusal = Some(String::from_utf8_lossy(&message[..message.len().min(256)]).into_owned());
                self.step = Step::AwaitsAnswer;
                Ok(Next::Send(vec![1]))
            }
            // After a refusal the login fails, whatever the next answer is.
            Step::AwaitsAnswer if self.refusal.is_none() => Ok(Next::Done),
            _ => Err("the broker says something that is not its turn to say".to_owned()),
        }
    }
}

/// The message of PLAIN (RFC 4616).
fn plain(of: &Credentials) -> Vec<u8> {
    [b"\0", of.user.as_bytes(), b"\0", of.password.expose()].concat()
}

/// The message of OAUTHBEARER (RFC 7628), with KIP-342's extensions.
fn bearer(token: &Secret, extensions: &[(String, String)]) -> Vec<u8> {
    let mut message = [b"n,,\x01auth=Bearer ", token.expose(), b"\x01"].concat();
    for (name, value) in extensions {
        message.extend_from_slice(format!("{name}={value}\x01").as_bytes());
    }
    message.push(1);
    message
}

/// Does [`Task`]s, on an ordinary thread, and remembers derived keys.
#[derive(Debug, Default)]
pub struct Helper {
    /// Derived keys, the most recently used first.
    known: VecDeque<(Derivation, Arc<Keys>)>,
}

impl Helper {
    /// Does a task, and waits for as long as that takes.
    ///
    /// # Errors
    /// Why it cannot be done, in words that name the file.
    pub fn run(&mut self, task: &Task) -> Result<Prepared, String> {
        match task {
            Task::Derive(derivation) => Ok(Prepared::Keys(self.keys(derivation))),
            Task::Token { from: TokenFrom::File(path), .. } => read_token(path).map(Prepared::Token),
            Task::Token { from: TokenFrom::Endpoint(endpoint), .. } => {
                endpoint.fetch().map(|granted| Prepared::Token(granted.token))
            }
        }
    }

    fn keys(&mut self, derivation: &Derivation) -> Arc<Keys> {
        let place = self.known.iter().position(|(known, _)| known == derivation);
        let entry = place.and_then(|place| self.known.remove(place));
        let (derivation, keys) = entry.unwrap_or_else(|| (derivation.clone(), Arc::new(derivation.keys())));
        self.known.truncate(KEYS_MAX - 1);
        self.known.push_front((derivation, Arc::clone(&keys)));
        keys
    }
}

fn read_token(path: &Path) -> Result<Secret, String> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("the token in {name} cannot be read: {error}"))?;
    let bytes = zeroize::Zeroizing::new(bytes);
    let wrong = || format!("{name} does not hold a token: one line of printable ASCII, at most 64 KiB");
    token_of(bytes.trim_ascii().to_vec()).ok_or_else(wrong)
}

/// The bytes as a token, if they can be sent as one.
pub(super) fn token_of(bytes: Vec<u8>) -> Option<Secret> {
    let is_token = !bytes.is_empty() && bytes.len() <= TOKEN_BYTES_MAX && bytes.iter().all(u8::is_ascii_graphic);
    is_token.then(|| Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(mechanism: Mechanism) -> Arc<Credentials> {
        let extensions = vec![("logicalCluster".to_owned(), "lkc-1".to_owned())];
        let (user, password) = ("user".to_owned(), Secret::new(b"pencil".to_vec()));
        Arc::new(Credentials {
            mechanism,
            user,
            password,
            token: Some(TokenFrom::File("/no/such/token".into())),
            extensions,
        })
    }

    fn sent(next: Result<Next, String>) -> Vec<u8> {
        match next {
            Ok(Next::Send(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// X61: PLAIN.
    #[test]
    fn plain_is_two_names_and_a_password() {
        let mut exchange = Exchange::new(credentials(Mechanism::Plain));
        assert_eq!(sent(exchange.begin()), b"\0user\0pencil");
        assert!(matches!(exchange.answered(b""), Ok(Next::Done)));
        assert!(exchange.answered(b"").is_err(), "it is over");
    }

    /// X61: OAUTHBEARER.
    #[test]
    fn a_bearer_sends_its_token_and_acknowledges_a_refusal() {
        let mut exchange = Exchange::new(credentials(Mechanism::OauthBearer));
        assert!(matches!(
            exchange.begin(),
            Ok(Next::Prepare(Task::Token { from: TokenFrom::File(_), is_refused: false }))
        ));
        let message = sent(exchange.prepared(Ok(Prepared::Token(Secret::new(b"abc".to_vec())))));
        assert_eq!(message, b"n,,\x01auth=Bearer abc\x01logicalCluster=lkc-1\x01\x01");
        assert_eq!(sent(exchange.answered(b"{\"status\":\"invalid_token\"}")), b"\x01");
        assert_eq!(exchange.refusal(), Some("{\"status\":\"invalid_token\"}"));
        assert!(exchange.answered(b"").is_err(), "a refused token logs nobody in");
    }

    /// X62: keys are derived on a helper thread and remembered.
    #[test]
    fn scram_by_a_helper_that_remembers() {
        let mut exchange = Exchange::new(credentials(Mechanism::Scram(Hash::Sha256)));
        let first = String::from_utf8(sent(exchange.begin())).expect("text");
        let nonce = first.strip_prefix("n,,n=user,r=").expect("a first message");
        assert_eq!(nonce.len(), 32);
        let task = exchange.answered(format!("r={nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").as_bytes());
        let Ok(Next::Prepare(task)) = task else { panic!("{task:?}") };
        let mut helper = Helper::default();
        let Ok(Prepared::Keys(keys)) = helper.run(&task) else { panic!("no keys") };
        let Ok(Prepared::Keys(again)) = helper.run(&task) else { panic!("no keys") };
        assert!(Arc::ptr_eq(&keys, &again), "derived once");
        assert!(!sent(exchange.prepared(Ok(Prepared::Keys(keys)))).is_empty());
        assert!(exchange.answered(b"v=AAAA").is_err(), "a wrong signature");
        let mut other = Exchange::new(credentials(Mechanism::Scram(Hash::Sha256)));
        assert_ne!(sent(other.begin()), first.as_bytes(), "a nonce is never used twice");
    }

    /// X63: `token_file` is read at each login.
    #[test]
    fn a_token_is_read_at_each_login() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let from = TokenFrom::File(path.clone());
        let read = || Helper::default().run(&Task::Token { from: from.clone(), is_refused: false });
        assert!(read().expect_err("none yet").contains("token"));
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).expect("written");
            assert!(matches!(read(), Ok(Prepared::Token(read)) if read == Secret::new(token.into())));
        }
        for wrong in ["", "\n", "two words", "b\u{e4}d"] {
            std::fs::write(&path, wrong).expect("written");
            assert!(read().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_nobody_waits_for_is_refused() {
        let mut exchange = Exchange::new(credentials(Mechanism::Plain));
        assert!(exchange.answered(b"").is_err());
        let mut exchange = Exchange::new(credentials(Mechanism::Scram(Hash::Sha256)));
        let _ = exchange.begin();
        assert!(exchange.prepared(Ok(Prepared::Token(Secret::new(Vec::new())))).is_err());
    }
}
