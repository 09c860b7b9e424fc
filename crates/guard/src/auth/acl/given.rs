//! Rules in a token, in the two forms of EMQX: lists of granted filters, `{"pub": […], "sub": […], "all": […]}`, with a
//! `"replay"` of our own, and a list of rules with permission, action and topic, of which the first match decides.

use serde_json::{Map, Value, json};

use super::matching::{Names, covers, matches, overlaps};
use super::{Action, Client, Coverage, Grant, Rule};
use forebay_mqtt::packet::QoS;
use forebay_mqtt::topic;

/// The most rules in one token.
const RULES_MAX: usize = 256;

/// An action that a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The action.
    pub action: Action,
    /// The topic.
    pub topic: &'a str,
    /// The QoS.
    pub qos: QoS,
    /// Whether RETAIN is set.
    pub retain: bool,
}

/// One rule of a token.
#[derive(Debug)]
struct Given {
    is_allowed: bool,
    /// The topic, and the actions that the rule covers.
    rule: Rule,
    /// `eq`: the topic is literal, wildcards included.
    is_literal: bool,
    /// One bit per QoS, from QoS 0 on.
    qos: u8,
    retain: Option<bool>,
}

/// A token's rules (see the module), and the names of the bearer's roles.
#[derive(Debug, Default)]
pub struct Grants {
    rules: Vec<Given>,
    /// Whether an action that no rule matches is denied; otherwise roles and the access control list are asked.
    is_all: bool,
    roles: Vec<Box<str>>,
    bytes: usize,
}

impl Grants {
    /// Reads a claim. `None`: some of it is not understood.
    #[must_use]
    pub fn read(claim: &Value) -> Option<Self> {
        let mut rules = Vec::new();
        let is_all = match claim {
            Value::Object(lists) => {
                for (name, topics) in lists {
                    let grant = match name.as_str() {
                        "pub" => Grant::Write,
                        "sub" => Grant::Read,
                        "all" => Grant::ReadWrite,
                        "replay" => Grant::Replay,
                        _ => return None,
                    };
                    for topic in topics.as_array()? {
                        rules.push(Given::new(true, grant, topic.as_str()?, ALL_QOS, None)?);
                    }
                }
                true
            }
            Value::Array(all) => {
                for rule in all {
                    rules.push(Given::read(rule.as_object()?)?);
                }
                false
            }
            _ => return None,
        };
        let bytes = rules.iter().map(|given| size_of::<Given>() + given.rule.filter.len()).sum();
        (rules.len() <= RULES_MAX).then_some(Self { rules, is_all, roles: Vec::new(), bytes })
    }

    /// Adds the bearer's roles.
    #[must_use]
    pub fn with_roles(mut self, roles: Vec<Box<str>>) -> Self {
        self.bytes += roles.iter().map(|role| size_of::<Box<str>>() + role.len()).sum::<usize>();
        self.roles = roles;
        self
    }

    /// The names of the bearer's roles; they need not be configured.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(AsRef::as_ref)
    }

    /// Whether the rules allow an action, and the number of the rule that decides, from 1; `None`: no rule decides.
    #[must_use]
    pub fn decide(&self, client: Client<'_>, wanted: Wanted<'_>) -> Option<(bool, Option<usize>)> {
        let names = Names::of(client);
        let fitting = self.rules.iter().zip(1..).find(|(given, _)| given.fits(names, wanted));
        fitting.map(|(given, number)| (given.is_allowed, Some(number))).or(self.is_all.then_some((false, None)))
    }

    /// Adds the rules' part of an action with a filter to `coverage`. Returns whether no other rules need be asked.
    pub fn cover<B>(
        &self,
        client: Client<'_>,
        (action, filter): (Action, &str),
        coverage: &mut Coverage<B>,
        by: impl Fn(usize) -> B,
    ) -> bool {
        let names = Names::of(client);
        for (given, number) in self.rules.iter().zip(1..).filter(|(given, _)| given.rule.grant.allows(action)) {
            let is_same = given.is_literal && *given.rule.filter == *filter;
            let overlaps = is_same || !given.is_literal && overlaps(&given.rule, names, filter);
            let covers = is_same || !given.is_literal && covers(&given.rule, names, filter);
            if given.is_allowed {
                coverage.grant(covers && given.is_of_topic(), overlaps, || by(number));
            } else {
                coverage.deny(covers && given.is_of_topic(), overlaps);
            }
        }
        self.is_all
    }

    /// Whether the rules depend on the topic alone.
    #[must_use]
    pub fn is_of_topic(&self) -> bool {
        self.rules.iter().all(Given::is_of_topic)
    }

    /// The memory that the grants take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The grants as JSON for another instance, which [`Grants::restored`] reads.
    #[must_use]
    pub fn saved(&self) -> Value {
        let rules: Vec<Value> = self.rules.iter().map(Given::saved).collect();
        json!({ "rules": rules, "all": self.is_all, "roles": self.roles })
    }

    /// Reads the output of [`Grants::saved`]. `None`: some of it is not understood.
    #[must_use]
    pub fn restored(saved: &Value) -> Option<Self> {
        let saved = saved.as_object().filter(|saved| saved.len() == 3)?;
        let roles = saved.get("roles")?.as_array()?.iter().map(|role| Some(role.as_str()?.into()));
        let grants = Self::read(saved.get("rules").filter(|rules| rules.is_array())?)?;
        let is_all = saved.get("all")?.as_bool()?;
        Some(Self { is_all, ..grants }.with_roles(roles.collect::<Option<_>>()?))
    }
}

const ALL_QOS: u8 = 0b111;

impl Given {
    fn new(is_allowed: bool, grant: Grant, topic: &str, qos: u8, retain: Option<bool>) -> Option<Self> {
        let (is_literal, topic) = topic.strip_prefix("eq ").map_or((false, topic), |topic| (true, topic));
        if !topic::valid_filter(topic) {
            return None;
        }
        // A level as in a pattern of the access control list, compared with one level.
        let level = |level: &str| match level {
            "${clientid}" => Some("%c".to_owned()),
            "${username}" => Some("%u".to_owned()),
            "%c" | "%u" => Some(level.to_owned()),
            level if level.contains("${") || level.contains("%c") || level.contains("%u") => None,
            level => Some(level.to_owned()),
        };
        let filter = if is_literal {
            topic.to_owned()
        } else {
            topic.split('/').map(level).collect::<Option<Vec<_>>>()?.join("/")
        };
        let rule = Rule { grant, filter: filter.into(), is_pattern: true, line: 0, text: "".into() };
        Some(Self { is_allowed, rule, is_literal, qos, retain })
    }

    fn read(rule: &Map<String, Value>) -> Option<Self> {
        const KNOWN: [&str; 5] = ["permission", "action", "topic", "qos", "retain"];
        // An unknown condition would not be obeyed.
        if rule.keys().any(|name| !KNOWN.contains(&name.as_str())) {
            return None;
        }
        let text = |name: &str| rule.get(name)?.as_str();
        let is_allowed = match text("permission")? {
            "allow" => true,
            "deny" => false,
            _ => return None,
        };
        let grant = match text("action")? {
            "publish" => Grant::Write,
            "subscribe" => Grant::Read,
            "all" => Grant::ReadWrite,
            "replay" => Grant::Replay,
            _ => return None,
        };
        let qos = match rule.get("qos") {
            None => ALL_QOS,
            Some(Value::Array(levels)) => levels.iter().try_fold(0, |all, level| {
                let level = level.as_u64().filter(|level| *level <= 2)?;
                Some(all | 1 << level)
            })?,
            Some(_) => return None,
        };
        let retain = match rule.get("retain") {
            None => None,
            Some(retain) => Some(retain.as_bool()?),
        };
        Self::new(is_allowed, grant, text("topic")?, qos, retain)
    }

    /// The rule in the form of a claim.
    fn saved(&self) -> Value {
        let action = match self.rule.grant {
            Grant::Write => "publish",
            Grant::Read => "subscribe",
            Grant::Replay => "replay",
            Grant::ReadWrite | Grant::Deny => "all",
        };
        let prefix = if self.is_literal { "eq " } else { "" };
        let qos: Vec<u8> = (0..=2).filter(|level| self.qos & 1 << level != 0).collect();
        let mut rule = json!({
            "permission": if self.is_allowed { "allow" } else { "deny" },
            "action": action,
            "topic": format!("{prefix}{}", self.rule.filter),
            "qos": qos,
        });
        if let Some(retain) = self.retain {
            rule["retain"] = retain.into();
        }
        rule
    }

    fn is_of_topic(&self) -> bool {
        self.qos == ALL_QOS && self.retain.is_none()
    }

    fn fits(&self, names: Names<'_>, wanted: Wanted<'_>) -> bool {
        let is_meant = self.rule.grant.allows(wanted.action)
            && self.qos & 1 << wanted.qos as u8 != 0
            && self.retain.is_none_or(|retain| retain == wanted.retain);
        let is_topic = || {
            if self.is_literal { &*self.rule.filter == wanted.topic } else { matches(&self.rule, names, wanted.topic) }
        };
        is_meant && is_topic()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CLIENT: Client<'_> = Client { identity: Some("ada"), client_id: "c1" };

    fn decide(claim: &Value, topic: &str) -> Option<bool> {
        said(claim, CLIENT, Wanted { action: Action::Publish, topic, qos: QoS::AtLeastOnce, retain: false })
    }

    fn said(claim: &Value, client: Client<'_>, wanted: Wanted<'_>) -> Option<bool> {
        let grants = Grants::read(claim).unwrap_or_else(|| panic!("{claim}"));
        grants.decide(client, wanted).map(|(is_allowed, _)| is_allowed)
    }

    /// X40: EMQX's `pub`, `sub` and `all`.
    #[test]
    fn lists_of_what_is_granted_are_all_that_is_granted() {
        let claim = json!({ "pub": ["a/#", "dev/${clientid}/up", "user/%u"], "sub": ["s"], "all": ["both/+"] });
        for (topic, granted) in [
            ("a", true),
            ("a/b/c", true),
            ("dev/c1/up", true),
            ("dev/c2/up", false),
            ("user/ada", true),
            ("user/${username}", false),
            ("both/x", true),
            ("s", false),
            ("$SYS/x", false),
        ] {
            assert_eq!(decide(&claim, topic), Some(granted), "{topic}");
        }
        let receive = |topic| Wanted { action: Action::Receive, topic, qos: QoS::AtMostOnce, retain: false };
        assert_eq!(said(&claim, CLIENT, receive("s")), Some(true));
        assert_eq!(said(&claim, CLIENT, receive("a")), Some(false));
        assert_eq!(decide(&json!({}), "a"), Some(false), "nothing is granted");
    }

    /// X40: EMQX's list of rules.
    #[test]
    fn the_first_rule_that_fits_decides_and_the_rest_is_left_open() {
        let rule = |permission: &str, action: &str, topic: &str| json!({ "permission": permission, "action": action, "topic": topic });
        let claim = json!([
            rule("deny", "all", "a/secret"),
            rule("allow", "publish", "a/#"),
            rule("deny", "publish", "a/b"),
            rule("allow", "publish", "eq x/+"),
            rule("allow", "subscribe", "s"),
            { "permission": "allow", "action": "publish", "topic": "q", "qos": [0, 2], "retain": false },
        ]);
        for (topic, verdict) in [
            ("a/secret", Some(false)),
            ("a/b", Some(true)),
            ("x/y", None),
            ("s", None),
            ("elsewhere", None),
            ("q", None),
        ] {
            assert_eq!(decide(&claim, topic), verdict, "{topic}");
        }
        let publish = |qos, retain| Wanted { action: Action::Publish, topic: "q", qos, retain };
        assert_eq!(said(&claim, CLIENT, publish(QoS::AtMostOnce, false)), Some(true));
        assert_eq!(said(&claim, CLIENT, publish(QoS::ExactlyOnce, true)), None);
        assert!(!Grants::read(&claim).unwrap().is_of_topic());
        assert!(Grants::read(&json!([rule("deny", "all", "a")])).unwrap().is_of_topic());
    }

    /// X39, X40: CVE-2017-7650: a name that is a wildcard is that name.
    #[test]
    fn a_name_is_compared_and_not_put_in() {
        let claim = json!({ "pub": ["dev/${clientid}/up", "${username}"] });
        let wanted = |topic| Wanted { action: Action::Publish, topic, qos: QoS::AtMostOnce, retain: false };
        for client_id in ["+", "#", "c/d"] {
            let client = Client { identity: Some("#"), client_id };
            for topic in ["dev/c1/up", "dev/c/d/up", "anything"] {
                assert_eq!(said(&claim, client, wanted(topic)), Some(false), "{client_id} {topic}");
            }
        }
        let nobody = Client { identity: None, client_id: "c1" };
        assert_eq!(said(&claim, nobody, wanted("${username}")), Some(false));
    }

    /// Grants that were saved and restored are the same.
    #[test]
    fn another_instance_gets_the_same_rules() {
        let rule = |topic: &str| json!({ "permission": "deny", "action": "subscribe", "topic": topic });
        let claims = [
            json!({ "pub": ["a/#", "dev/${clientid}/up", "user/%u"], "sub": ["s"], "all": ["both/+"] }),
            json!({ "replay": ["a/#"] }),
            json!([{ "permission": "allow", "action": "replay", "topic": "a/#" }]),
            json!([rule("a"), rule("eq ${clientid}/+"), { "permission": "allow", "action": "all", "topic": "q", "qos": [0, 2], "retain": false }]),
            json!([{ "permission": "allow", "action": "publish", "topic": "eq eq x", "qos": [], "retain": true }]),
            json!({}),
            json!([]),
        ];
        for claim in claims {
            for roles in [vec![], vec!["reader".into(), "".into()]] {
                let grants = Grants::read(&claim).unwrap().with_roles(roles);
                let restored = Grants::restored(&grants.saved()).unwrap_or_else(|| panic!("{claim}"));
                assert_eq!(format!("{restored:?}"), format!("{grants:?}"));
            }
        }
        for other in [
            json!(null),
            json!([]),
            json!({ "rules": {}, "all": true, "roles": [] }),
            json!({ "rules": [], "all": true }),
        ] {
            assert!(Grants::restored(&other).is_none(), "{other}");
        }
    }

    /// X40: an unknown field refuses the token.
    #[test]
    fn what_is_not_understood_is_no_claim() {
        let with = |name: &str, value: Value| {
            let mut rule = json!({ "permission": "allow", "action": "publish", "topic": "a" });
            rule[name] = value;
            json!([rule])
        };
        assert!(Grants::read(&with("qos", json!([]))).is_some());
        for claim in [
            json!(null),
            json!("a"),
            json!([1]),
            json!({ "pub": "a" }),
            json!({ "pub": [1] }),
            json!({ "publish": ["a"] }),
            json!({ "pub": ["a/#/b"] }),
            json!({ "pub": ["dev-${clientid}"] }),
            json!({ "pub": ["${peerhost}"] }),
            json!([{ "permission": "allow", "action": "publish" }]),
            with("permission", json!("maybe")),
            with("action", json!("pub")),
            with("qos", json!(1)),
            with("qos", json!([3])),
            with("retain", json!("yes")),
            with("ipaddr", json!("192.0.2.0/24")),
            with("clientid_re", json!("^c")),
        ] {
            assert!(Grants::read(&claim).is_none(), "{claim}");
        }
        let many = |count: usize| json!({ "pub": vec!["a"; count] });
        assert!(Grants::read(&many(RULES_MAX)).is_some() && Grants::read(&many(RULES_MAX + 1)).is_none());
    }
}
