//! `forebay access`: whether a client may touch a topic, and which rule says so.

use std::path::Path;

use crate::auth::acl::{Action, Client, Grants, Subscription, Wanted};
use crate::auth::{Basis, Policy};
use crate::mqtt::packet::QoS;
use crate::mqtt::topic;

use super::args::AccessArgs;

/// The decision, for people.
///
/// # Errors
/// What is wrong with the configuration, its files, or the question.
pub fn access(options: &AccessArgs) -> Result<String, String> {
    let config = options.from.load().map_err(|problems| problems.to_string())?;
    let names: Vec<_> = config.auth.iter().map(|auth| auth.name.as_str()).collect();
    let wanted = match (&options.auth, &config.auth[..]) {
        (_, []) => return Err("the configuration has no [auth.NAME]: everything is granted".to_owned()),
        (Some(name), all) => all.iter().find(|auth| auth.name == *name),
        (None, [only]) => Some(only),
        (None, _) => return Err(format!("which one? --auth names one of {}", names.join(", "))),
    };
    let settings =
        wanted.ok_or_else(|| format!("there is no such auth; the configuration has {}", names.join(", ")))?;
    let policy = Policy::load(settings).map_err(|problems| problems.join("\n"))?;
    decide(&policy, &Asker::of(options), options)
}

/// Who asks, and what it brings along.
struct Asker {
    identity: Option<String>,
    client_id: String,
    grants: Option<Grants>,
}

impl Asker {
    fn of(options: &AccessArgs) -> Self {
        let AccessArgs { user, client, role, .. } = options;
        let roles = || role.iter().map(|role| role.as_str().into()).collect();
        let grants = (!role.is_empty()).then(|| Grants::default().with_roles(roles()));
        Self { identity: user.clone(), client_id: client.clone(), grants }
    }

    fn client(&self) -> Client<'_> {
        Client { identity: self.identity.as_deref(), client_id: &self.client_id }
    }

    fn words(&self) -> String {
        let roles: Vec<&str> = self.grants.iter().flat_map(Grants::roles).collect();
        let roles = if roles.is_empty() { String::new() } else { format!(", roles {}", roles.join(", ")) };
        match &self.identity {
            Some(name) => format!("user {name:?}, client ID {:?}{roles}", self.client_id),
            None => format!("anonymous, client ID {:?}{roles}", self.client_id),
        }
    }
}

fn decide(policy: &Policy, asker: &Asker, options: &AccessArgs) -> Result<String, String> {
    let AccessArgs { action, topic, .. } = options;
    let (grants, who) = (asker.grants.as_ref(), asker.words());
    if action == "subscribe" {
        if !topic::valid_filter(topic) {
            return Err(format!("{topic:?} is not a valid topic filter"));
        }
        let (outcome, by) = policy.subscription(grants, asker.client(), topic);
        let by = by.map_or_else(|| "no rule grants it".to_owned(), |by| words(policy, by));
        return Ok(match outcome {
            Subscription::Granted => format!("granted: every topic that {topic:?} matches may be read: {by} ({who})\n"),
            Subscription::Checked => {
                format!("granted in part: some topics that {topic:?} matches may be read: {by} ({who})\n")
            }
            Subscription::Refused => format!("denied: no topic that {topic:?} matches may be read: {by} ({who})\n"),
        });
    }
    if !topic::valid_name(topic) {
        return Err(format!("{topic:?} is not a valid topic name"));
    }
    let wanted = Wanted { action: Action::Publish, topic, qos: QoS::AtLeastOnce, retain: false };
    let permission = policy.permission(grants, asker.client(), wanted);
    let verdict = if permission.is_granted { "granted" } else { "denied" };
    Ok(format!("{verdict} by {} ({who})\n", words(policy, permission.by)))
}

/// What decides.
fn words(policy: &Policy, by: Basis<'_>) -> String {
    let file = || policy.settings().acl_file.as_deref().unwrap_or_else(|| Path::new("")).display();
    match by {
        Basis::Claim(Some(number)) => format!("rule {number} of the token's claim of permissions"),
        Basis::Claim(None) => "the token's claim of permissions, which does not grant it".to_owned(),
        Basis::Role(role, rule) => format!("role {role}: {}", rule.text),
        Basis::Line(Some(rule)) => format!("{}:{}: {}", file(), rule.line, rule.text),
        Basis::Line(None) => format!("{}: no rule in it grants it", file()),
        Basis::NoList => format!("auth {}, which has no acl_file", policy.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::FromArgs;

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
        let ask_as = |user: Option<&str>, roles: &[&str], action: &str, topic: &str| {
            access(&AccessArgs {
                from: FromArgs { config: Some(config.clone()), kafka: None },
                auth: None,
                user: user.map(str::to_owned),
                role: roles.iter().map(ToString::to_string).collect(),
                client: "d1".into(),
                action: action.into(),
                topic: topic.into(),
            })
        };
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
        ] {
            let answer = ask(user, action, topic).unwrap();
            assert!(answer.contains(said), "{answer}");
        }
        let said = ask_as(Some("bob"), &["unknown", "sensor"], "publish", "own/d1").unwrap();
        assert_eq!(
            said,
            "granted by role sensor: publish own/%c (user \"bob\", client ID \"d1\", roles unknown, sensor)\n"
        );
        let said = ask_as(None, &["unknown"], "publish", "own/d1").unwrap();
        assert!(said.starts_with("denied by "), "{said}");
        let said = ask_as(None, &["sensor"], "subscribe", "commands/d1").unwrap();
        assert!(
            said.ends_with(
                "may be read: role sensor: subscribe commands/%c (anonymous, client ID \"d1\", roles sensor)\n"
            ),
            "{said}"
        );
        assert!(ask(None, "publish", "a/#").is_err_and(|why| why.contains("not a valid topic name")));
    }
}
