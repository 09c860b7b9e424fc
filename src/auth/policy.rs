//! `[auth.NAME]`: a chain of methods, the files that it needs, and what it says to a CONNECT.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::secure::{CertificateId, IdentityField, Secret, identify};

use super::acl::{Acl, Action, Client, Decision};
use super::password::Stored;
use super::users::Users;

/// A file is not larger than so much.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A way to say who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The client certificate.
    Certificate,
    /// User name and password, by the password file.
    Password,
    /// A proof that the client knows its password, by the password file.
    Scram,
    /// Neither user name nor password.
    Anonymous,
}

/// Which client identifiers an identity may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientIds {
    /// Any.
    Any,
    /// The identity itself.
    Identity,
    /// The identity, or the identity, `/` or `:`, and more.
    Prefix,
}

/// What becomes of a kept session that belongs to another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Takeover {
    /// It ends, its will is sent, and the new client begins without one.
    Replace,
    /// The new client is refused.
    Refuse,
}

/// `[auth.NAME]`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// NAME.
    pub name: String,
    /// The methods, in the order in which they are tried.
    pub chain: Vec<Method>,
    /// The field of a client certificate that says who the client is.
    pub certificate_identity: IdentityField,
    /// Users and the hashes of their passwords.
    pub password_file: Option<PathBuf>,
    /// What may be touched; `None`: everything.
    pub acl_file: Option<PathBuf>,
    /// Which client identifiers an identity may use.
    pub client_ids: ClientIds,
    /// What becomes of a kept session that belongs to another identity.
    pub foreign_takeover: Takeover,
    /// A publish of a 3.x client that is not granted is acknowledged and dropped; otherwise its connection is closed.
    pub is_denial_acknowledged: bool,
}

/// What a CONNECT brings.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// The client certificate in DER, verified.
    pub certificate: Option<&'a [u8]>,
}

/// Who a client is: what its connection is admitted as.
#[derive(Clone, Debug)]
pub struct Admission {
    /// By which settings and files.
    pub policy: Arc<Policy>,
    /// `None`: it is anonymous.
    pub identity: Option<Box<str>>,
    /// What it was admitted by.
    pub by: By,
    /// What the server says last in an exchange, for CONNACK.
    pub data: Option<Box<[u8]>>,
}

/// What a client was admitted by, as far as that can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Nothing: it is anonymous.
    Nothing,
    /// A line of the password file.
    Line(u64),
    /// A line of the password file, in an exchange.
    Scram(u64),
    /// A certificate.
    Certificate(Arc<CertificateId>),
}

impl Settings {
    /// An auth without files and with the default of every key.
    #[must_use]
    pub fn new(name: &str, chain: &[Method]) -> Self {
        Self {
            name: name.to_owned(),
            chain: chain.to_vec(),
            certificate_identity: IdentityField::CommonName,
            password_file: None,
            acl_file: None,
            client_ids: ClientIds::Any,
            foreign_takeover: Takeover::Replace,
            is_denial_acknowledged: false,
        }
    }
}

impl Admission {
    /// Whether it is refused where there is a session of its client identifier that belongs to another identity.
    #[must_use]
    pub fn refuses_foreign_sessions(&self) -> bool {
        self.policy.settings.foreign_takeover == Takeover::Refuse
    }
}

/// Why a client is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// User name or password are wrong, or there is no such user.
    Credentials,
    /// It has none, and needs some.
    NoCredentials,
    /// Its certificate does not say who it is: why.
    Certificate(&'static str),
    /// Its Authentication Method is not accepted.
    Method,
    /// A message of its exchange is not what it must be: why.
    Exchange(&'static str),
}

/// What a policy says.
#[derive(Debug)]
pub enum Judgement {
    /// It is this client.
    Admit(Admission),
    /// The client is not admitted.
    Refuse(Refusal),
    /// That takes a while to find out: the answer to the question says.
    Ask(Question),
}

/// A password that has to be compared with a hash, on a thread that serves no devices.
pub struct Question {
    /// Who the client is if the password is right; `None`: an unknown user, refused when as much work has been done.
    admission: Option<Admission>,
    auth: Arc<Policy>,
    stored: Arc<Stored>,
    password: Secret,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("admission", &self.admission).finish_non_exhaustive()
    }
}

/// What came of a [`Question`].
pub type Answer = Result<Admission, Refusal>;

impl Question {
    /// Compares. Takes up to half a second.
    ///
    /// # Errors
    /// The password is wrong, or there is no such user.
    pub fn answer(self) -> Answer {
        let is_right = self.stored.matches(self.password.expose());
        self.admission.filter(|_| is_right).ok_or(Refusal::Credentials)
    }

    /// The same where it is known already that the password is right.
    ///
    /// # Errors
    /// There is no such user.
    pub fn answer_known(self) -> Answer {
        self.admission.ok_or(Refusal::Credentials)
    }

    /// All that the outcome depends on.
    pub(super) fn identify(&self, mut with: impl FnMut(&[u8])) {
        with(self.auth.name().as_bytes());
        self.stored.identify(&mut with);
        with(self.password.expose());
    }
}

/// Settings with what their files hold. Read-only, shared by all shards, replaced as a whole.
pub struct Policy {
    settings: Settings,
    users: Option<Users>,
    acl: Option<Acl>,
    /// Of settings and files: whether a reload brings something new.
    print: u64,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

impl Policy {
    /// Reads and checks all files.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, each with the file's name.
    pub fn load(settings: &Settings) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut print = DefaultHasher::new();
        settings.hash(&mut print);
        let users = file(settings.password_file.as_deref(), Users::parse, &mut print, &mut problems);
        let acl = file(settings.acl_file.as_deref(), Acl::parse, &mut print, &mut problems);
        if problems.is_empty() {
            Ok(Self { settings: settings.clone(), users, acl, print: print.finish() })
        } else {
            Err(problems)
        }
    }

    /// NAME.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The users of its password file, if it has one.
    #[must_use]
    pub fn users(&self) -> Option<&Users> {
        self.users.as_ref()
    }

    /// Whether settings and files are the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.print == other.print
    }

    /// What becomes of a client that brings this. Each method admits, refuses, or does not apply; the first that applies
    /// decides, and if none does the client is refused.
    #[must_use]
    pub fn judge(self: &Arc<Self>, claim: Claim<'_>) -> Judgement {
        let admission = |identity: Option<&str>, by| {
            let identity = identity.map(Into::into);
            Admission { policy: Arc::clone(self), identity, by, data: None }
        };
        let ask = |admission, stored: &Arc<Stored>, password: &[u8]| {
            let question = Question {
                admission,
                auth: Arc::clone(self),
                stored: Arc::clone(stored),
                password: Secret::new(password.to_vec()),
            };
            // A core does it in a microsecond.
            if question.stored.is_quick() {
                return match question.answer() {
                    Ok(admission) => Judgement::Admit(admission),
                    Err(refusal) => Judgement::Refuse(refusal),
                };
            }
            Judgement::Ask(question)
        };
        let mut decoy = None;
        for method in &self.settings.chain {
            match (method, claim.username, &self.users) {
                (Method::Certificate, ..) => {
                    let Some(certificate) = claim.certificate else { continue };
                    return match identify(certificate, self.settings.certificate_identity) {
                        Ok((name, id)) => Judgement::Admit(admission(Some(&name), By::Certificate(id))),
                        Err(why) => Judgement::Refuse(Refusal::Certificate(why)),
                    };
                }
                (Method::Password, Some(name), Some(users)) => {
                    let Some(user) = users.get(name) else {
                        decoy = users.decoy().zip(claim.password);
                        continue;
                    };
                    let Some(password) = claim.password else { return Judgement::Refuse(Refusal::Credentials) };
                    return ask(Some(admission(Some(name), By::Line(user.print))), &user.stored, password);
                }
                // A user that was removed from the file does not become anonymous.
                (Method::Anonymous, None, _) if claim.password.is_none() => {
                    return Judgement::Admit(admission(None, By::Nothing));
                }
                _ => {}
            }
        }
        match (decoy, claim.username) {
            (Some((stored, password)), _) => ask(None, stored, password),
            (None, Some(_)) => Judgement::Refuse(Refusal::Credentials),
            (None, None) => Judgement::Refuse(Refusal::NoCredentials),
        }
    }

    /// Whether a client that was admitted by an earlier state of this would still be admitted. Whether a certificate was revoked
    /// its listener knows.
    #[must_use]
    pub fn still_admits(&self, identity: Option<&str>, by: &By) -> bool {
        let is_in = |method| self.settings.chain.contains(&method);
        match (identity, by) {
            (Some(_), By::Certificate(_)) => is_in(Method::Certificate),
            (Some(name), By::Line(record) | By::Scram(record)) => {
                let method = if matches!(by, By::Line(_)) { Method::Password } else { Method::Scram };
                let user = self.users.as_ref().and_then(|users| users.get(name));
                is_in(method) && user.is_some_and(|user| user.print == *record)
            }
            (None, By::Nothing) => is_in(Method::Anonymous),
            _ => false,
        }
    }

    /// Whether an identity may use a client identifier. A name that has one of the separators would be the prefix of another.
    #[must_use]
    pub fn allows_client_id(&self, identity: Option<&str>, client_id: &str) -> bool {
        let Some(identity) = identity else { return self.settings.client_ids == ClientIds::Any };
        match self.settings.client_ids {
            ClientIds::Any => true,
            ClientIds::Identity => client_id == identity,
            ClientIds::Prefix => {
                let rest = client_id.strip_prefix(identity);
                let is_separated = |rest: &str| rest.is_empty() || rest.starts_with(['/', ':']);
                !identity.contains(['/', ':']) && rest.is_some_and(is_separated)
            }
        }
    }

    /// The client identifier of a client that brings none, where only one would do.
    #[must_use]
    pub fn client_id_of<'a>(&self, identity: Option<&'a str>) -> Option<&'a str> {
        identity.filter(|_| self.settings.client_ids != ClientIds::Any)
    }

    /// What its access control list says; without one everything is granted.
    #[must_use]
    pub fn decide(&self, client: Client<'_>, action: Action, topic: &str) -> Decision<'_> {
        let all = Decision { is_granted: true, by: None };
        self.acl.as_ref().map_or(all, |acl| acl.decide(client, action, topic))
    }

    /// Its access control list, if it has one.
    #[must_use]
    pub fn acl(&self) -> Option<&Acl> {
        self.acl.as_ref()
    }
}

/// What a file holds, if there is one. What is wrong with it goes to `problems`.
fn file<T>(
    path: Option<&Path>,
    parse: impl Fn(&str) -> Result<T, String>,
    print: &mut DefaultHasher,
    problems: &mut Vec<String>,
) -> Option<T> {
    let path = path?;
    let parsed = read(path).and_then(|text| {
        text.hash(print);
        parse(&text)
    });
    parsed.map_err(|why| problems.push(format!("{}: {why}", path.display()))).ok()
}

fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if file.len() > FILE_BYTES_MAX {
        return Err(format!("is larger than {} MiB", FILE_BYTES_MAX >> 20));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
