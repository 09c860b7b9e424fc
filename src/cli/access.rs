//! `forebay access`: whether a client may touch a topic, and which rule says so.

use crate::auth::Policy;
use crate::auth::acl::{Action, Client, Subscription};
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
    decide(&policy, options)
}

fn decide(policy: &Policy, options: &AccessArgs) -> Result<String, String> {
    let AccessArgs { user, client, action, topic, .. } = options;
    let client = Client { identity: user.as_deref(), client_id: client };
    let who = match user {
        Some(name) => format!("user {name:?}, client ID {:?}", client.client_id),
        None => format!("anonymous, client ID {:?}", client.client_id),
    };
    let Some(acl) = policy.acl() else {
        return Ok(format!("granted: auth {} has no acl_file ({who})\n", policy.name()));
    };
    let file = policy.settings().acl_file.as_deref().unwrap_or_else(|| std::path::Path::new("")).display();
    if action == "subscribe" {
        if !topic::valid_filter(topic) {
            return Err(format!("{topic:?} is not a valid topic filter"));
        }
        return Ok(match acl.subscription(client, topic) {
            Subscription::Granted => {
                format!("granted: every topic that {topic:?} matches may be read, by {file} ({who})\n")
            }
            Subscription::Checked => {
                format!("granted in part: some topics that {topic:?} matches may be read, by {file} ({who})\n")
            }
            Subscription::Refused => {
                format!("denied: no topic that {topic:?} matches may be read, by {file} ({who})\n")
            }
        });
    }
    if !topic::valid_name(topic) {
        return Err(format!("{topic:?} is not a valid topic name"));
    }
    let decision = acl.decide(client, Action::Publish, topic);
    let verdict = if decision.is_granted { "granted" } else { "denied" };
    Ok(match decision.by {
        Some(rule) => format!("{verdict} by {file}:{}: {} ({who})\n", rule.line, rule.text),
        None => format!("{verdict}: no rule in {file} grants it ({who})\n"),
    })
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
            "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'anonymous'\nacl_file = '{}'\n",
            acl.display()
        );
        std::fs::write(&config, text).unwrap();
        let ask = |user: Option<&str>, action: &str, topic: &str| {
            access(&AccessArgs {
                from: FromArgs { config: Some(config.clone()), kafka: None },
                auth: None,
                user: user.map(str::to_owned),
                client: "d1".into(),
                action: action.into(),
                topic: topic.into(),
            })
        };
        for (user, action, topic, said) in [
            (Some("ada"), "publish", "plant/1", "granted by "),
            (Some("ada"), "publish", "plant/1", "acl:2: topic write plant/# (user \"ada\", client ID \"d1\")"),
            (Some("ada"), "publish", "plant/secret", "acl:3: topic deny plant/secret"),
            (Some("bob"), "publish", "plant/1", "denied: no rule in "),
            (None, "subscribe", "dev/d1/#", "granted: every topic"),
            (None, "subscribe", "dev/#", "granted in part"),
            (None, "subscribe", "plant/#", "denied: no topic"),
        ] {
            let answer = ask(user, action, topic).unwrap();
            assert!(answer.contains(said), "{answer}");
        }
        assert!(ask(None, "publish", "a/#").is_err_and(|why| why.contains("not a valid topic name")));
    }
}
