//! A client's permissions, and their source: its token's claim, then its roles, then the access control list.

use std::path::Path;

use super::acl::{Action, Client, Coverage, Grants, Rule, Subscription, Wanted};
use super::policy::Policy;

/// Whether a client may do something, and why.
#[derive(Clone, Copy, Debug)]
pub struct Permission<'a> {
    /// Whether the client may do it.
    pub is_granted: bool,
    /// The rule that decides.
    pub by: Basis<'a>,
}

/// The source of a decision.
#[derive(Clone, Copy, Debug)]
pub enum Basis<'a> {
    /// The rule of this number in the token's claim, from 1; `None`: the claim's lists, which do not have the topic.
    Claim(Option<usize>),
    /// A rule of this role.
    Role(&'a str, &'a Rule),
    /// A line of the access control list; `None`: no line grants the action.
    Line(Option<&'a Rule>),
    /// There is no access control list.
    NoList,
}

impl Policy {
    /// Whether a client may do something. Without an access control list everything is granted, except to a client with a token
    /// that lists its grants: it gets no more than these.
    #[must_use]
    pub fn permission<'a>(
        &'a self,
        grants: Option<&'a Grants>,
        client: Client<'_>,
        wanted: Wanted<'_>,
    ) -> Permission<'a> {
        let said = |is_granted, by| Permission { is_granted, by };
        if let Some(grants) = grants {
            if let Some((is_allowed, number)) = grants.decide(client, wanted) {
                return said(is_allowed, Basis::Claim(number));
            }
            let by = |role| Some((role, self.role(role)?.grant(client, wanted.action, wanted.topic)?));
            if let Some((role, rule)) = grants.roles().find_map(by) {
                return said(true, Basis::Role(role, rule));
            }
        }
        let Some(acl) = self.acl() else { return said(grants.is_none(), Basis::NoList) };
        let decision = acl.decide(client, wanted.action, wanted.topic);
        said(decision.is_granted, Basis::Line(decision.by))
    }

    /// The source of the decision whether a client may do something, for people.
    #[must_use]
    pub fn decides(&self, grants: Option<&Grants>, client: Client<'_>, wanted: Wanted<'_>) -> String {
        self.words(self.permission(grants, client, wanted).by)
    }

    /// The source of a decision, for people.
    #[must_use]
    pub fn words(&self, by: Basis<'_>) -> String {
        let file = || self.settings().acl_file.as_deref().unwrap_or_else(|| Path::new("")).display();
        match by {
            Basis::Claim(Some(number)) => format!("rule {number} of the token's claim of permissions"),
            Basis::Claim(None) => "the token's claim of permissions, which does not grant it".to_owned(),
            Basis::Role(role, rule) => format!("role {role}: {}", rule.text),
            Basis::Line(Some(rule)) => format!("{}:{}: {}", file(), rule.line, rule.text),
            Basis::Line(None) => format!("{}: no rule in it grants it", file()),
            Basis::NoList => format!("auth {}, which has no acl_file", self.name()),
        }
    }

    /// Whether a client may do something with the topics that a filter matches, and the source of the grant of all or some of them.
    #[must_use]
    pub fn subscription<'a>(
        &'a self,
        grants: Option<&'a Grants>,
        client: Client<'_>,
        wanted: (Action, &str),
    ) -> (Subscription, Option<Basis<'a>>) {
        let mut coverage = Coverage::default();
        if let Some(grants) = grants {
            if grants.cover(client, wanted, &mut coverage, |number| Basis::Claim(Some(number))) {
                return coverage.end();
            }
            for (name, role) in grants.roles().filter_map(|name| Some((name, self.role(name)?))) {
                role.cover(client, wanted, &mut coverage, |rule| Basis::Role(name, rule));
            }
        }
        match self.acl() {
            Some(acl) => acl.cover(client, wanted, &mut coverage, |rule| Basis::Line(Some(rule))),
            None if grants.is_none() => return (Subscription::Granted, Some(Basis::NoList)),
            None => {}
        }
        coverage.end()
    }

    /// [`Self::permission`] without the reason.
    #[must_use]
    pub fn allows(&self, grants: Option<&Grants>, client: Client<'_>, wanted: Wanted<'_>) -> bool {
        self.permission(grants, client, wanted).is_granted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::policy::{Method, Role, Settings};
    use super::*;
    use forebay_mqtt::packet::QoS;

    fn policy(acl: Option<&str>) -> Arc<Policy> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, acl.unwrap_or_default()).unwrap();
        let role = |name: &str, publish: &[&str], subscribe: &[&str]| {
            let [publish, subscribe] = [publish, subscribe].map(|all| all.iter().map(ToString::to_string).collect());
            let replay = vec!["commands/#".to_owned()];
            Role {
                name: name.to_owned(),
                publish,
                subscribe,
                replay: if name == "sensor" { replay } else { Vec::new() },
            }
        };
        let roles = vec![role("sensor", &["plant/%c/#", "user/%u"], &["commands/%c"]), role("none", &[], &[])];
        let acl_file = acl.map(|_| file.path().to_owned());
        let settings = Settings { acl_file, roles, ..Settings::new("a", &[Method::Anonymous]) };
        Arc::new(Policy::load(&settings).unwrap())
    }

    fn with_roles(claim: Option<serde_json::Value>, roles: &[&str]) -> Grants {
        let grants = claim.map_or_else(Grants::default, |claim| Grants::read(&claim).unwrap());
        grants.with_roles(roles.iter().map(|role| (*role).into()).collect())
    }

    fn said(policy: &Policy, grants: &Grants, client_id: &str, action: Action, topic: &str) -> String {
        let client = Client { identity: Some("ada"), client_id };
        let wanted = Wanted { action, topic, qos: QoS::AtMostOnce, retain: false };
        let permission = policy.permission(Some(grants), client, wanted);
        let by = match permission.by {
            Basis::Claim(number) => format!("claim {number:?}"),
            Basis::Role(role, rule) => format!("{role}: {}", rule.text),
            Basis::Line(rule) => format!("line {:?}", rule.map(|rule| rule.line)),
            Basis::NoList => "no list".to_owned(),
        };
        format!("{} {by}", permission.is_granted)
    }

    /// X40: roles.
    #[test]
    fn a_role_grants_what_it_names_and_unknown_ones_nothing() {
        let policy = policy(None);
        let grants = with_roles(None, &["unknown", "none", "sensor"]);
        let publish = |client_id, topic| said(&policy, &grants, client_id, Action::Publish, topic);
        assert_eq!(publish("c1", "plant/c1/x"), "true sensor: publish plant/%c/#");
        assert_eq!(publish("c1", "user/ada"), "true sensor: publish user/%u");
        for topic in ["plant/c2/x", "plant/%c/x", "user/%u", "commands/c1", "elsewhere"] {
            assert_eq!(publish("c1", topic), "false no list", "{topic}");
        }
        assert_eq!(said(&policy, &grants, "c1", Action::Receive, "commands/c1"), "true sensor: subscribe commands/%c");
        // CVE-2017-7650.
        for client_id in ["+", "#", "a/#"] {
            assert_eq!(publish(client_id, "plant/c1/x"), "false no list", "{client_id}");
            let own = format!("plant/{client_id}/x");
            assert_eq!(said(&policy, &grants, client_id, Action::Publish, &own), "false no list", "{client_id}");
        }
        for roles in [&[][..], &["unknown"], &["none"], &["Sensor"]] {
            let grants = with_roles(None, roles);
            assert_eq!(said(&policy, &grants, "c1", Action::Publish, "plant/c1/x"), "false no list", "{roles:?}");
        }
    }

    /// X40: the token's rules, its roles, the file.
    #[test]
    fn the_claim_comes_first_and_the_list_last() {
        let policy = policy(Some("user ada\ntopic write listed\ntopic deny plant/c1/secret\n"));
        let rule = |permission: &str, topic: &str| json!({ "permission": permission, "action": "all", "topic": topic });
        let grants = with_roles(Some(json!([rule("allow", "x"), rule("deny", "plant/c1/deny")])), &["sensor"]);
        let publish = |grants: &Grants, topic| said(&policy, grants, "c1", Action::Publish, topic);
        for (topic, decision) in [
            ("x", "true claim Some(1)"),
            ("plant/c1/deny", "false claim Some(2)"),
            ("plant/c1/y", "true sensor: publish plant/%c/#"),
            // Roles are asked before the list.
            ("plant/c1/secret", "true sensor: publish plant/%c/#"),
            ("listed", "true line Some(2)"),
            ("elsewhere", "false line None"),
        ] {
            assert_eq!(publish(&grants, topic), decision, "{topic}");
        }
        // Lists in a token grant all that it has.
        let grants = with_roles(Some(json!({ "pub": ["x"] })), &["sensor"]);
        assert_eq!(publish(&grants, "plant/c1/y"), "false claim None");
    }

    /// X40, X42: a filter, by token, roles and file together.
    #[test]
    fn a_subscription_is_granted_as_far_as_all_of_it_say() {
        let policy = policy(Some("user ada\ntopic read listed/#\ntopic deny listed/secret\n"));
        let rule =
            |permission: &str, topic: &str| json!({ "permission": permission, "action": "subscribe", "topic": topic });
        let claim = json!([rule("deny", "x/secret"), rule("allow", "x/#"), rule("allow", "eq y/+"),
            { "permission": "allow", "action": "subscribe", "topic": "q", "qos": [0] }]);
        let said = |grants: Option<&Grants>, client_id, filter| {
            let (outcome, by) =
                policy.subscription(grants, Client { identity: Some("ada"), client_id }, (Action::Receive, filter));
            let by = match by {
                Some(Basis::Claim(Some(number))) => format!(" {number}"),
                Some(Basis::Role(role, _)) => format!(" {role}"),
                Some(Basis::Line(Some(rule))) => format!(" line {}", rule.line),
                Some(_) => " ?".to_owned(),
                None => String::new(),
            };
            format!("{outcome:?}{by}")
        };
        let grants = with_roles(Some(claim), &["unknown", "sensor"]);
        for (filter, outcome) in [
            ("x/a", "Granted 2"),
            ("x/#", "Checked 2"),
            ("y/+", "Granted 3"),
            ("y/a", "Refused"),
            ("q", "Checked 4"),
            ("commands/c1", "Granted sensor"),
            ("commands/+", "Checked sensor"),
            ("commands/c2", "Refused"),
            ("listed/a", "Granted line 2"),
            ("listed/+", "Checked line 2"),
        ] {
            assert_eq!(said(Some(&grants), "c1", filter), outcome, "{filter}");
        }
        assert_eq!(said(Some(&grants), "+", "commands/+"), "Refused");
        let lists = with_roles(Some(json!({ "sub": ["x"] })), &["sensor"]);
        assert_eq!(said(Some(&lists), "c1", "commands/c1"), "Refused");
        assert_eq!(said(None, "c1", "commands/c1"), "Refused");
        assert_eq!(said(None, "c1", "listed/a"), "Granted line 2");
    }

    /// The past is granted by `replay`, and where everything is granted.
    #[test]
    fn the_past_is_granted_where_it_is_named() {
        let said = |policy: &Policy, grants: Option<&Grants>, filter: &str| {
            policy.subscription(grants, Client { identity: Some("ada"), client_id: "c1" }, (Action::Replay, filter)).0
        };
        let of_file = policy(Some("user ada\ntopic readwrite #\ntopic replay listed/#\ntopic deny listed/secret\n"));
        for (filter, outcome) in [
            ("listed/a", Subscription::Granted),
            ("listed/#", Subscription::Checked),
            ("#", Subscription::Checked),
            ("listed/secret", Subscription::Refused),
            ("other", Subscription::Refused),
        ] {
            assert_eq!(said(&of_file, None, filter), outcome, "{filter}");
        }
        let wanted = Wanted { action: Action::Receive, topic: "listed/x", qos: QoS::AtMostOnce, retain: false };
        let client = Client { identity: Some("bob"), client_id: "c1" };
        let replay_alone = policy(Some("user bob\ntopic replay listed/#\n"));
        assert!(!replay_alone.allows(None, client, wanted), "who may replay may not read for that");
        assert_eq!(said(&policy(None), None, "#"), Subscription::Granted, "without a list everything is granted");
        let sensor = with_roles(None, &["sensor"]);
        assert_eq!(said(&policy(None), Some(&sensor), "commands/c1"), Subscription::Granted);
        assert_eq!(said(&policy(None), Some(&sensor), "plant/c1/x"), Subscription::Refused);
        let lists = with_roles(Some(json!({ "all": ["x/#"], "replay": ["x/y"] })), &[]);
        assert_eq!(said(&policy(None), Some(&lists), "x/y"), Subscription::Granted);
        assert_eq!(said(&policy(None), Some(&lists), "x/z"), Subscription::Refused);
        let rule = |action: &str| json!([{ "permission": "allow", "action": action, "topic": "x" }]);
        for (action, outcome) in [("replay", Subscription::Granted), ("all", Subscription::Refused)] {
            let grants = with_roles(Some(rule(action)), &[]);
            assert_eq!(said(&policy(None), Some(&grants), "x"), outcome, "{action}");
        }
    }
}
