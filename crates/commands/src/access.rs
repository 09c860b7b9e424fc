//! `forebay access`: whether a client may touch a topic, and the rule that decides.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use forebay_guard::auth::acl::{Action, Client, Grants, Subscription, Wanted};
use forebay_guard::auth::jwt::{Source, Token};
use forebay_guard::auth::{Claim, Judgement, Policy, Refusal};
use forebay_mqtt::packet::QoS;
use forebay_mqtt::topic;

use super::args::AccessArgs;

/// The most bytes that are read of a file with a token.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The decision about a client and a topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Decided {
    /// The decision and its grounds, as text.
    pub text: String,
    /// Whether the action is granted, at least in part.
    pub is_granted: bool,
}

/// Decides whether a client may touch a topic.
///
/// # Errors
/// Everything that is wrong with the configuration, its files, or the question.
pub fn access(options: &AccessArgs) -> Result<Decided, String> {
    let config = options.from.load().map_err(|problems| problems.to_string())?;
    let names: Vec<_> = config.auth.iter().map(|auth| auth.name.as_str()).collect();
    let wanted = match (&options.auth, &config.auth[..]) {
        (None, []) => {
            let text = "granted: the configuration has no [auth.NAME], so everything is\n".to_owned();
            return Ok(Decided { text, is_granted: true });
        }
        (Some(_), []) => return Err("there is no such auth; the configuration has no [auth.NAME]".to_owned()),
        (Some(name), all) => all.iter().find(|auth| auth.name == *name),
        (None, [only]) => Some(only),
        (None, _) => return Err(format!("which one? --auth names one of {}", names.join(", "))),
    };
    let settings =
        wanted.ok_or_else(|| format!("there is no such auth; the configuration has {}", names.join(", ")))?;
    let policy = Policy::load(settings).map_err(|problems| problems.join("\n"))?;
    let policy = Arc::new(policy);
    let asker = match &options.token {
        None => Asker::of(options),
        Some(file) => match bearer(&policy, &read(file)?, options)? {
            Ok(asker) => asker,
            Err(why) => return Ok(Decided { text: format!("refused: {why}\n"), is_granted: false }),
        },
    };
    decide(&policy, &asker, options)
}

/// The token in a file, without spaces around it.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut token = Zeroizing::new(Vec::new());
    let opened: io::Result<Box<dyn Read>> = if file == Path::new("-") {
        Ok(Box::new(io::stdin()))
    } else {
        File::open(file).map(|file| Box::new(file) as _)
    };
    // A longer file is refused as a token.
    let all = opened.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut token));
    all.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Zeroizing::new(token.trim_ascii().to_vec()))
}

/// The client that brings the token, judged as a CONNECT with it is; or why it is refused.
///
/// # Errors
/// The token cannot be judged.
fn bearer(policy: &Arc<Policy>, token: &[u8], options: &AccessArgs) -> Result<Result<Asker, String>, String> {
    let tokens = policy
        .tokens()
        .ok_or_else(|| format!("auth {} takes no tokens: \"jwt\" is not in its chain", policy.name()))?;
    if Token::read(token).is_none() {
        return Err(
            "that is no token: it has not three parts in base64url, of which the first is a JSON object".to_owned()
        );
    }
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let mut claim = Claim { wall_ms: i64::try_from(wall_ms).unwrap_or(i64::MAX), ..Claim::default() };
    if tokens.are_usernames() {
        claim.username = std::str::from_utf8(token).ok();
    } else {
        claim.password = Some(token);
    }
    let judged = match policy.judge(claim) {
        Judgement::Admit(admission) => Ok(admission),
        Judgement::Refuse(refusal) => Err(refusal),
        Judgement::Ask(question) => question.answer(),
    };
    let admission = match judged {
        Ok(admission) => admission,
        Err(Refusal::Token(fault)) => return Ok(Err(format!("{}{}", fault.words(), not_fetched(policy)))),
        Err(other) => return Ok(Err(format!("{other:?}"))),
    };
    let given = Some(options.client.as_str()).filter(|id| !id.is_empty());
    let client_id = given.or_else(|| admission.client_id()).unwrap_or_default().to_owned();
    if !client_id.is_empty() && !admission.allows_client_id(&client_id) {
        return Ok(Err(format!("this token is not for the client ID {client_id:?}")));
    }
    Ok(Ok(Asker { identity: admission.identity.map(Into::into), client_id, grants: admission.grants }))
}

/// A hint where there are no keys yet.
fn not_fetched(policy: &Policy) -> String {
    let is_empty = policy.tokens().is_some_and(|tokens| tokens.keys().is_empty());
    match policy.settings().jwt.as_ref().map(|jwt| &jwt.keys) {
        Some(Source::JwksUrl(remote)) if is_empty => {
            format!("; the key set of {} has not been fetched yet, which the running service does", remote.url)
        }
        _ => String::new(),
    }
}

/// The client in question, with its identity and grants.
struct Asker {
    identity: Option<String>,
    client_id: String,
    grants: Option<Arc<Grants>>,
}

impl Asker {
    fn of(options: &AccessArgs) -> Self {
        let AccessArgs { user, client, role, .. } = options;
        let roles = || role.iter().map(|role| role.as_str().into()).collect();
        let grants = (!role.is_empty()).then(|| Arc::new(Grants::default().with_roles(roles())));
        Self { identity: user.clone(), client_id: client.clone(), grants }
    }

    fn client(&self) -> Client<'_> {
        Client { identity: self.identity.as_deref(), client_id: &self.client_id }
    }

    /// A hint for an action that nothing grants.
    fn hint(&self) -> String {
        self.client().is_in_no_pattern().map(|why| format!("; {why}")).unwrap_or_default()
    }

    fn words(&self) -> String {
        let roles: Vec<&str> = self.grants.iter().flat_map(|grants| grants.roles()).collect();
        let roles = if roles.is_empty() { String::new() } else { format!(", roles {}", roles.join(", ")) };
        match &self.identity {
            Some(name) => format!("user {name:?}, client ID {:?}{roles}", self.client_id),
            None => format!("anonymous, client ID {:?}{roles}", self.client_id),
        }
    }
}

fn decide(policy: &Policy, asker: &Asker, options: &AccessArgs) -> Result<Decided, String> {
    let AccessArgs { action, topic, .. } = options;
    let (grants, who) = (asker.grants.as_deref(), asker.words());
    let of_filter = match action.as_str() {
        "subscribe" => Some((Action::Receive, "read")),
        "replay" => Some((Action::Replay, "replayed")),
        _ => None,
    };
    if let Some((action, done)) = of_filter {
        if !topic::valid_filter(topic) {
            return Err(format!("{topic:?} is not a valid topic filter"));
        }
        let (outcome, by) = policy.subscription(grants, asker.client(), (action, topic));
        let refused = || format!("no rule grants it{}", asker.hint());
        let by = by.map_or_else(refused, |by| policy.words(by));
        let text = match outcome {
            Subscription::Granted => {
                format!("granted: every topic that {topic:?} matches may be {done}: {by} ({who})\n")
            }
            Subscription::Checked => {
                format!("granted in part: some topics that {topic:?} matches may be {done}: {by} ({who})\n")
            }
            Subscription::Refused => format!("denied: no topic that {topic:?} matches may be {done}: {by} ({who})\n"),
        };
        return Ok(Decided { text, is_granted: outcome != Subscription::Refused });
    }
    if !topic::valid_name(topic) {
        return Err(format!("{topic:?} is not a valid topic name"));
    }
    let wanted = Wanted { action: Action::Publish, topic, qos: QoS::AtLeastOnce, retain: false };
    let permission = policy.permission(grants, asker.client(), wanted);
    let (verdict, hint) = if permission.is_granted { ("granted", String::new()) } else { ("denied", asker.hint()) };
    let text = format!("{verdict} by {}{hint} ({who})\n", policy.words(permission.by));
    Ok(Decided { text, is_granted: permission.is_granted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::FromArgs;

    /// X46: rule, file and line.
    #[test]
    fn the_deciding_rule_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (acl, config) = (dir.path().join("acl"), dir.path().join("forebay.toml"));
        std::fs::write(&acl, "user ada\ntopic write plant/#\ntopic deny plant/secret\npattern read dev/%c/#\n")
            .unwrap();
        let text = format!(
            "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'anonymous'\nacl_file = '{}'\n\
             [auth.a.role.sensor]\npublish = 'own/%c'\nsubscribe = ['commands/%c']\n",
            acl.display()
        );
        std::fs::write(&config, text).unwrap();
        let ask_from = |client: &str, user: Option<&str>, roles: &[&str], action: &str, topic: &str| {
            access(&AccessArgs {
                from: FromArgs { config: Some(config.clone()), kafka: None },
                auth: None,
                user: user.map(str::to_owned),
                token: None,
                role: roles.iter().map(ToString::to_string).collect(),
                client: client.into(),
                action: action.into(),
                topic: topic.into(),
            })
        };
        let ask_as =
            |user: Option<&str>, roles: &[&str], action: &str, topic: &str| ask_from("d1", user, roles, action, topic);
        let ask = |user: Option<&str>, action: &str, topic: &str| ask_as(user, &[], action, topic);
        for (user, action, topic, said) in [
            (Some("ada"), "publish", "plant/1", "granted by "),
            (Some("ada"), "publish", "plant/1", "acl:2: topic write plant/# (user \"ada\", client ID \"d1\")"),
            (Some("ada"), "publish", "plant/secret", "acl:3: topic deny plant/secret"),
            (Some("bob"), "publish", "plant/1", "acl: no rule in it grants it (user"),
            (None, "subscribe", "dev/d1/#", "granted: every topic that \"dev/d1/#\" matches may be read: "),
            (None, "subscribe", "dev/d1/#", "acl:4: pattern read dev/%c/#"),
            (None, "subscribe", "dev/#", "granted in part"),
            (None, "subscribe", "plant/#", "denied: no topic"),
            (None, "replay", "dev/d1/#", "denied: no topic that \"dev/d1/#\" matches may be replayed: "),
        ] {
            let Decided { text, is_granted } = ask(user, action, topic).unwrap();
            assert!(text.contains(said), "{text}");
            assert_eq!(is_granted, text.starts_with("granted"), "{text}");
        }
        let said = ask_as(Some("bob"), &["unknown", "sensor"], "publish", "own/d1").unwrap().text;
        assert_eq!(
            said,
            "granted by role sensor: publish own/%c (user \"bob\", client ID \"d1\", roles unknown, sensor)\n"
        );
        let said = ask_as(None, &["unknown"], "publish", "own/d1").unwrap().text;
        assert!(said.starts_with("denied by "), "{said}");
        let said = ask_as(None, &["sensor"], "subscribe", "commands/d1").unwrap().text;
        assert!(
            said.ends_with(
                "may be read: role sensor: subscribe commands/%c (anonymous, client ID \"d1\", roles sensor)\n"
            ),
            "{said}"
        );
        // Finding M5: the output says why a pattern does not grant the action.
        for action in ["publish", "subscribe"] {
            let said = ask_from("ada/1", Some("ada"), &[], action, "dev/ada/1/up").unwrap().text;
            assert!(said.starts_with("denied") && said.contains("; its client ID contains /, + or #"), "{said}");
            let said = ask_from("d2", Some("a/b"), &[], action, "home/a/b").unwrap().text;
            assert!(said.contains("; its user name contains /, + or #"), "{said}");
            assert!(!ask(Some("bob"), action, "plant/2").unwrap().text.contains("contains"));
        }
        assert!(ask(None, "publish", "a/#").is_err_and(|why| why.contains("not a valid topic name")));
    }
}
