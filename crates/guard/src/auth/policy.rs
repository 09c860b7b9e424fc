//! `[auth.NAME]`: a chain of methods, the contents of its files, and its judgement of a CONNECT.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::secure::{CertificateId, IdentityField, identify};

use super::acl::{Acl, Grants, RoleRules};
use super::decoys::Key;
use super::jwt::{self, Source, Tokens};
use super::limits::Limits;
use super::password::Stored;
use super::question::Question;
use super::users::Users;

/// The default of the longest password in bytes.
const PASSWORD_BYTES_DEFAULT: usize = 1 << 10;
/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A way for a client to prove its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The client certificate.
    Certificate,
    /// A token signed by a trusted issuer.
    Jwt,
    /// User name and password, by the password file.
    Password,
    /// A proof that the client knows its password, by the password file.
    Scram,
    /// Neither user name nor password.
    Anonymous,
}

/// The client identifiers that an identity may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientIds {
    /// Any.
    Any,
    /// The identity itself.
    Identity,
    /// The identity, or the identity, `/` or `:`, and more.
    Prefix,
}

/// What happens to a kept session that belongs to another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Takeover {
    /// The session ends, its will is sent, and the new client begins without one.
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
    /// The field of a client certificate with the identity.
    pub certificate_identity: IdentityField,
    /// The accepted tokens.
    pub jwt: Option<jwt::Settings>,
    /// Users and the hashes of their passwords.
    pub password_file: Option<PathBuf>,
    /// The longest password that is compared, in bytes.
    pub password_bytes_max: usize,
    /// The file of the key for the answers to unknown users; `None`, or the file does not exist: a new key each time.
    pub decoy_key: Option<PathBuf>,
    /// The file of the permissions; `None`: everything is granted.
    pub acl_file: Option<PathBuf>,
    /// The roles that tokens can name.
    pub roles: Vec<Role>,
    /// The client identifiers that an identity may use.
    pub client_ids: ClientIds,
    /// What happens to a kept session that belongs to another identity.
    pub foreign_takeover: Takeover,
    /// Whether a 3.x client's publish without permission is acknowledged and dropped; otherwise its connection is closed.
    pub is_denial_acknowledged: bool,
    /// Whether a client gets no hint that an action was denied for lack of permission.
    pub hides_denials: bool,
    /// The limits of one user.
    pub limits: Limits,
}

/// `[auth.NAME.role.ROLE]`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    /// ROLE.
    pub name: String,
    /// Filters of topics that may be published to.
    pub publish: Vec<String>,
    /// Filters that may be subscribed to.
    pub subscribe: Vec<String>,
    /// Filters of topics with messages of the past that the role may ask for, if `subscribe` grants the topics.
    pub replay: Vec<String>,
}

/// The credentials in a CONNECT.
#[derive(Clone, Copy, Default)]
pub struct Claim<'a> {
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// The client certificate in DER, verified.
    pub certificate: Option<&'a [u8]>,
    /// The time, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// The identity and grants of an admitted connection.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The settings and files by which the client was admitted.
    pub policy: Arc<Policy>,
    /// The identity; `None`: the client is anonymous.
    pub identity: Option<Box<str>>,
    /// The only client identifier that the client may use.
    pub client_id: Option<Box<str>>,
    /// The end of the admission, in seconds since 1970.
    pub expires_s: Option<u64>,
    /// The grants of the client's token.
    pub grants: Option<Arc<Grants>>,
    /// The credential by which the client was admitted.
    pub by: By,
    /// The server's last message of an exchange, for CONNACK.
    pub data: Option<Box<[u8]>>,
}

/// The credential by which a client was admitted, as far as it can be withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// None: the client is anonymous.
    Nothing,
    /// A line of the password file.
    Line(u64),
    /// A line of the password file, in an exchange.
    Scram(u64),
    /// A certificate.
    Certificate(Arc<CertificateId>),
    /// A token that was signed by the key of this print.
    Token(u64),
    /// The control plane, which ends the connection itself.
    Operator,
}

impl Settings {
    /// An auth without files and with the default of every key.
    #[must_use]
    pub fn new(name: &str, chain: &[Method]) -> Self {
        Self {
            name: name.to_owned(),
            chain: chain.to_vec(),
            certificate_identity: IdentityField::CommonName,
            jwt: None,
            password_file: None,
            password_bytes_max: PASSWORD_BYTES_DEFAULT,
            decoy_key: None,
            acl_file: None,
            roles: Vec::new(),
            client_ids: ClientIds::Any,
            foreign_takeover: Takeover::Replace,
            is_denial_acknowledged: false,
            hides_denials: false,
            limits: Limits::default(),
        }
    }
}

impl Admission {
    /// The admission of a client without credentials.
    #[must_use]
    pub fn anonymous(policy: Arc<Policy>) -> Self {
        Self { policy, identity: None, client_id: None, expires_s: None, grants: None, by: By::Nothing, data: None }
    }

    /// Whether the client may use a client identifier.
    #[must_use]
    pub fn allows_client_id(&self, client_id: &str) -> bool {
        let is_own = self.client_id.as_deref().is_none_or(|only| only == client_id);
        is_own && self.policy.allows_client_id(self.identity.as_deref(), client_id)
    }

    /// The client identifier for a client that sends none, if it may use only one.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref().or_else(|| self.policy.client_id_of(self.identity.as_deref()))
    }

    /// The limits of the client's user.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.policy.settings.limits
    }

    /// Whether the client is refused if a session of its client identifier belongs to another identity.
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
    /// The client has no credentials, and needs some.
    NoCredentials,
    /// Its certificate has no usable identity: why.
    Certificate(&'static str),
    /// Its Authentication Method is not accepted.
    Method,
    /// A message of its exchange is wrong: why.
    Exchange(&'static str),
    /// Its token is not accepted.
    Token(jwt::Fault),
}

/// The judgement of a policy.
#[derive(Debug)]
pub enum Judgement {
    /// The client is admitted.
    Admit(Admission),
    /// The client is not admitted.
    Refuse(Refusal),
    /// The decision takes a while: the answer to the question is the decision.
    Ask(Question),
}

/// Settings with the contents of their files. Read-only, shared by all shards, replaced as a whole.
pub struct Policy {
    settings: Settings,
    tokens: Option<Tokens>,
    users: Option<Users>,
    acl: Option<Acl>,
    roles: HashMap<String, RoleRules>,
    /// A hash of settings and files, by which a reload finds changes; and one without the name.
    print: u64,
    nameless_print: u64,
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
        Settings { name: String::new(), ..settings.clone() }.hash(&mut print);
        let keys = settings.jwt.as_ref().filter(|_| settings.chain.contains(&Method::Jwt));
        let tokens = keys.and_then(|jwt| match &jwt.keys {
            Source::JwksUrl(remote) => Some(fetched(jwt, &remote.file, &mut print)),
            keys => {
                let keys_of = |bytes: &[u8]| Tokens::new(jwt, bytes).map_err(|why| vec![why]);
                file(Some(keys.file()), keys_of, &mut print, &mut problems)
            }
        });
        let users = |bytes: &[u8]| Users::parse(text(bytes)?, Key::of(settings.decoy_key.as_deref()));
        let acl = |bytes: &[u8]| Acl::parse(text(bytes)?);
        let users = file(settings.password_file.as_deref(), users, &mut print, &mut problems);
        let acl = file(settings.acl_file.as_deref(), acl, &mut print, &mut problems);
        let role = |role: &Role| (role.name.clone(), RoleRules::new(&role.publish, &role.subscribe, &role.replay));
        let roles = settings.roles.iter().map(role).collect();
        if problems.is_empty() {
            let nameless_print = print.finish();
            settings.name.hash(&mut print);
            let print = print.finish();
            Ok(Self { settings: settings.clone(), tokens, users, acl, roles, print, nameless_print })
        } else {
            Err(problems)
        }
    }

    /// NAME.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The accepted tokens, if any.
    #[must_use]
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// The users of the password file, if there is one.
    #[must_use]
    pub fn users(&self) -> Option<&Users> {
        self.users.as_ref()
    }

    /// Whether settings and files are the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.print == other.print
    }

    /// Whether two policies differ in the name at most.
    #[must_use]
    pub fn is_same_but_for_the_name(&self, other: &Self) -> bool {
        self.nameless_print == other.nameless_print
    }

    /// Judges a client by its credentials. Each method admits, refuses, or does not apply; the first that applies decides, and if
    /// none does the client is refused.
    #[must_use]
    pub fn judge(self: &Arc<Self>, claim: Claim<'_>) -> Judgement {
        let admission = |identity: Option<&str>, by| Admission {
            identity: identity.map(Into::into),
            by,
            ..Admission::anonymous(Arc::clone(self))
        };
        let ask = |question: Question| {
            if question.is_quick() {
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
                (Method::Jwt, ..) => {
                    let Some(tokens) = &self.tokens else { continue };
                    let Some(token) = tokens.find(claim.username, claim.password) else { continue };
                    return match tokens.keys_for(&token) {
                        Ok(keys) => ask(Question::token(self, &token, keys, claim.wall_ms)),
                        Err(fault) => Judgement::Refuse(Refusal::Token(fault)),
                    };
                }
                (Method::Password, Some(name), Some(users)) => {
                    let Some(user) = users.get(name) else {
                        decoy = users.decoys().password(name).zip(claim.password);
                        continue;
                    };
                    let Some(password) = claim.password else { return Judgement::Refuse(Refusal::Credentials) };
                    let admission = admission(Some(name), By::Line(user.print));
                    return ask(self.password(Some(admission), &user.stored, password));
                }
                // A user that was removed from the file does not become anonymous.
                (Method::Anonymous, None, _) if claim.password.is_none() => {
                    return Judgement::Admit(admission(None, By::Nothing));
                }
                _ => {}
            }
        }
        match (decoy, claim.username) {
            (Some((stored, password)), _) => ask(self.password(None, stored, password)),
            (None, Some(_)) => Judgement::Refuse(Refusal::Credentials),
            (None, None) => Judgement::Refuse(Refusal::NoCredentials),
        }
    }

    /// The question whether a password is right. One that is too long is wrong, after the same work, and is not stored for it.
    fn password(self: &Arc<Self>, admission: Option<Admission>, stored: &Arc<Stored>, password: &[u8]) -> Question {
        if password.len() > self.settings.password_bytes_max {
            return Question::password(self, None, stored, &[]);
        }
        Question::password(self, admission, stored, password)
    }

    /// Whether a client that was admitted by an earlier state of this auth would still be admitted. Revoked certificates are the
    /// listener's to check.
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
            (Some(_), By::Token(key)) => self.tokens.as_ref().is_some_and(|tokens| tokens.keys().has(*key)),
            (Some(_), By::Operator) => true,
            (None, By::Nothing) => is_in(Method::Anonymous),
            _ => false,
        }
    }

    /// Whether an identity was a user of the password file and is not any more, so that no client can connect as it. `by`: its
    /// credential; `None`: not known, as its client has not connected since this process began. A client admitted by a
    /// certificate or a token, or possibly so, can come with another one.
    #[must_use]
    pub fn has_removed(&self, identity: Option<&str>, by: Option<&By>) -> bool {
        let is_in = |method| self.settings.chain.contains(&method);
        let was_in_file = match by {
            Some(By::Line(_) | By::Scram(_)) => true,
            Some(By::Nothing | By::Certificate(_) | By::Token(_) | By::Operator) => false,
            None => !is_in(Method::Certificate) && !is_in(Method::Jwt),
        };
        let has_file = is_in(Method::Password) || is_in(Method::Scram);
        let is_user = |name: &str| self.users.as_ref().is_some_and(|users| users.get(name).is_some());
        has_file && was_in_file && identity.is_some_and(|name| !is_user(name))
    }

    /// Whether an identity may use a client identifier. A name with one of the separators would be the prefix of another.
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

    /// The client identifier for a client that sends none, if it may use only one.
    #[must_use]
    pub fn client_id_of<'a>(&self, identity: Option<&'a str>) -> Option<&'a str> {
        identity.filter(|_| self.settings.client_ids != ClientIds::Any)
    }

    /// The access control list, if there is one.
    #[must_use]
    pub fn acl(&self) -> Option<&Acl> {
        self.acl.as_ref()
    }

    /// The rules of a role; `None`: it is not configured.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&RoleRules> {
        self.roles.get(name)
    }
}

/// The keys of a fetched set, from its copy: there may be none yet, or one that is too old. A damaged copy counts as none: the
/// next fetch, with which a process begins, brings a good one.
fn fetched(jwt: &jwt::Settings, copy: &Path, print: &mut DefaultHasher) -> Tokens {
    if !copy.exists() {
        return Tokens::without_keys(jwt);
    }
    let tokens = read(copy).and_then(|bytes| {
        bytes.hash(print);
        Tokens::new(jwt, &bytes)
    });
    tokens.unwrap_or_else(|why| {
        tracing::warn!(file = %copy.display(), why, "the copy of a key set cannot be used: no token is accepted until it is fetched again");
        Tokens::without_keys(jwt)
    })
}

/// Reads a file, if one is configured. Its problems go to `problems`.
fn file<T>(
    path: Option<&Path>,
    parse: impl Fn(&[u8]) -> Result<T, Vec<String>>,
    print: &mut DefaultHasher,
    problems: &mut Vec<String>,
) -> Option<T> {
    let path = path?;
    let parsed = read(path).map_err(|why| vec![why]).and_then(|bytes| {
        bytes.hash(print);
        parse(&bytes)
    });
    let named = |why: String| format!("{}: {why}", path.display());
    parsed.map_err(|all| problems.extend(all.into_iter().map(named))).ok()
}

fn text(bytes: &[u8]) -> Result<&str, Vec<String>> {
    std::str::from_utf8(bytes).map_err(|_| vec!["is not UTF-8".to_owned()])
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if file.len() > FILE_BYTES_MAX {
        return Err(format!("is larger than {} MiB", FILE_BYTES_MAX >> 20));
    }
    std::fs::read(path).map(Zeroizing::new).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
