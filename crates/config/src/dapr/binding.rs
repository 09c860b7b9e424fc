//! A component `bindings.mqtt` or `bindings.mqtt3` as bridges: one for both ways, or one for each, as Dapr connects.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use super::secrets::{Secrets, variable};
use super::{Component, Metadata};
use crate::keys::Section;
use crate::problem::{Fault, did_you_mean};
use crate::reader::{Source, Spot, Table};
use crate::resolved::{Bridge, BridgeIn, BridgeOut, Dapr, Feed};
use crate::setting::Settings as _;
use crate::yaml::{Node, Value};
use crate::{Overrides, outgoing_tls};
use forebay_bridge::{In, Out, Retained, Url, Versions};
use forebay_dapr::{Binding, Gives, OnFailure, Takes};
use forebay_guard::secure::{Authorities, Outgoing, OutgoingSettings, OwnCertificate, Secret};
use forebay_mqtt::packet::QoS;
use forebay_mqtt::{STRING_MAX, topic};
use forebay_rule::template::{Fixed, Template};

/// The types that become bridges.
pub(super) const TYPES: [&str; 2] = ["bindings.mqtt", "bindings.mqtt3"];
/// The names of metadata: those of Dapr, and after them our own.
const NAMES: [&str; 17] = [
    "url",
    "topic",
    "consumerID",
    "qos",
    "retain",
    "cleanSession",
    "caCert",
    "clientCert",
    "clientKey",
    "backOffMaxRetries",
    "direction",
    "route",
    "version",
    "onFailure",
    "maxConcurrency",
    "deadLetterTopic",
    "feeds",
];
/// Names of Dapr that have no effect, as they have none there for this type.
const WITHOUT_EFFECT: [&str; 2] = ["ttlInSeconds", "rawPayload"];
/// The most calls at a time.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(16).unwrap();
const CONCURRENCY_MAX: usize = 1_024;

/// `Maker` makes bridges of components.
pub(super) struct Maker<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) dapr: &'a Dapr,
    pub(super) secrets: &'a Secrets,
    pub(super) overrides: &'a Overrides,
}

/// A value of a component.
struct Given {
    text: String,
    /// Whether the document has the value verbatim.
    is_plain: bool,
    line: usize,
}

/// The directions of a component.
#[derive(Clone, Copy)]
struct Ways {
    input: bool,
    output: bool,
    /// Whether the application is asked if it is an input.
    is_asked: bool,
}

/// The component that is read.
struct Reading<'a> {
    maker: &'a Maker<'a>,
    component: &'a Component,
    metadata: Metadata<'a>,
    /// `auth.secretStore`
    store: Option<&'a str>,
    /// The value of `{uuid}`.
    uuid: String,
}

impl Maker<'_> {
    /// The bridges of a component. All of its problems are reported.
    pub(super) fn bridges(&self, component: &Component) -> Vec<Bridge> {
        let is_mqtt3 = component.kind() == TYPES[1];
        let ends: &[&str] = if is_mqtt3 { &["-consumer", "-producer"] } else { &[""] };
        let mut bridges = Vec::new();
        for (at, end) in ends.iter().enumerate() {
            let name = format!("{}{end}", component.name());
            let store = component.document.get("auth").and_then(|of| of.text("secretStore"));
            let uuid = self.overrides.identity.uuid(&name);
            let metadata = Metadata::of(&component.document);
            let reading = Reading { maker: self, component, metadata, store, uuid };
            let before = self.source.problem_count();
            if at == 0 {
                reading.check_names(is_mqtt3);
            }
            let mut ways = reading.ways(at == 0);
            if is_mqtt3 {
                let is_consumer = at == 0;
                (ways.input, ways.output) = (ways.input && is_consumer, ways.output && !is_consumer);
            }
            if ways.input || ways.output {
                bridges.push(reading.bridge(name, ways, end));
            }
            // The other connection has the same errors.
            if self.source.problem_count() > before {
                break;
            }
        }
        bridges
    }
}

impl Reading<'_> {
    fn key(&self, field: &str) -> String {
        format!("{}: {field}", self.component.name())
    }

    fn report(&self, line: usize, field: &str, fault: Fault) {
        self.maker.source.report_in(&self.component.file, (line, &self.key(field)), fault);
    }

    fn warn(&self, line: usize, field: &str, fault: Fault) {
        self.maker.source.warn_in(&self.component.file, (line, &self.key(field)), fault);
    }

    fn check_names(&self, is_mqtt3: bool) {
        let document = &self.component.document;
        let all = self.metadata.0.iter();
        for (at, (name, item)) in all.enumerate() {
            let is = |known: &&str| known.eq_ignore_ascii_case(name);
            if self.metadata.0[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                self.report(item.line, name, Fault::new("is given twice").hint("leave one out"));
            } else if WITHOUT_EFFECT.iter().any(is) {
                self.warn(item.line, name, Fault::new("has no effect for this type, as in Dapr"));
            } else if is_mqtt3 && name.eq_ignore_ascii_case("qos") {
                self.warn(item.line, name, Fault::new("has no effect for bindings.mqtt3, which is always at QoS 1"));
            } else if !NAMES.iter().any(is) {
                let known =
                    NAMES.iter().copied().find(|known| did_you_mean(name, [known.to_lowercase().as_str()]).is_some());
                let fault = Fault::new("is unknown, and has no effect");
                let hint = known.map(|known| format!("did you mean \"{known}\"?"));
                self.warn(item.line, name, Fault { hint, ..fault });
            }
        }
        let metadata = document.get("spec").and_then(|of| of.get("metadata"));
        if metadata.is_some_and(|of| !matches!(of.value, Value::List(_) | Value::Null)) {
            self.report(document.line, "spec.metadata", Fault::new("must be a list of `name` and `value`"));
        }
        for item in metadata.map(Node::items).unwrap_or_default().iter().filter(|item| item.text("name").is_none()) {
            self.report(item.line, "spec.metadata", Fault::new("an entry has no `name`"));
        }
    }

    /// A value, if it is given and not empty.
    fn find(&self, field: &str) -> Option<Given> {
        let item = self.metadata.find(field)?;
        let found = self.value(item);
        let given = found.map_err(|fault| self.report(item.line, field, fault)).ok()?;
        Some(given).filter(|given| !given.text.is_empty())
    }

    fn value(&self, item: &Node) -> Result<Given, Fault> {
        let line = item.line;
        let secret = |name: &str, key: &str| {
            self.maker
                .secrets
                .find(self.store, name, key)
                .map_err(|why| Fault::new(format!("the key {key:?} of the secret {name:?} is not found: {why}")))
        };
        if let Some(reference) = item.get("secretKeyRef") {
            let Some(name) = reference.text("name").filter(|name| !name.is_empty()) else {
                return Err(Fault::new("secretKeyRef has no `name`"));
            };
            let key = reference.text("key").filter(|key| !key.is_empty()).unwrap_or(name);
            return Ok(Given { text: secret(name, key)?, is_plain: false, line });
        }
        if let Some(name) = item.text("envRef") {
            return Ok(Given { text: variable(name).map_err(Fault::new)?, is_plain: false, line });
        }
        let text = match item.get("value").map(|node| &node.value) {
            Some(Value::Text(text)) => text,
            Some(Value::Null) | None => "",
            Some(_) => return Err(Fault::new("must be a text, a number or true or false")),
        };
        if self.component.is_brought {
            // The sidecar has filled them in.
            return Ok(Given { text: text.to_owned(), is_plain: false, line });
        }
        let filled = self.tags(text)?;
        let (mut text, mut rest, mut is_plain) = (String::new(), &*filled, true);
        while let Some((before, behind)) = rest.split_once("${{") {
            let Some((name, behind)) = behind.split_once("}}") else { break };
            text.push_str(before);
            text.push_str(&secret(name.trim(), name.trim())?);
            (rest, is_plain) = (behind, false);
        }
        text.push_str(rest);
        Ok(Given { text, is_plain, line })
    }

    /// Fills in Dapr's placeholders.
    fn tags(&self, text: &str) -> Result<String, Fault> {
        let [pod, namespace, _] = &self.maker.overrides.identity.variables;
        let app_id = self.maker.dapr.app_id.as_deref();
        let mut text = text.replace("{uuid}", &self.uuid);
        let is_missing = |tag: &str, what: &str| {
            Fault::new(format!("`{tag}` is {what}, which is not set")).hint(format!("set {what} before the start"))
        };
        if text.contains("{podName}") {
            let pod = pod.as_deref().ok_or_else(|| is_missing("{podName}", "POD_NAME"))?;
            text = text.replace("{podName}", pod);
        }
        if text.contains("{appID}") {
            text = text.replace("{appID}", app_id.ok_or_else(|| is_missing("{appID}", "app_id of [dapr]"))?);
        }
        if text.contains("{namespace}") {
            let app_id = app_id.ok_or_else(|| is_missing("{namespace}", "app_id of [dapr]"))?;
            let namespace = namespace.as_ref().map_or_else(|| app_id.to_owned(), |of| format!("{of}.{app_id}"));
            text = text.replace("{namespace}", &namespace);
        }
        Ok(text)
    }

    /// A value that `read` accepts, or its default. `expected`: the accepted values.
    fn read<T>(&self, field: &str, expected: &str, default: T, read: impl Fn(&str) -> Option<T>) -> T {
        let Some(given) = self.find(field) else { return default };
        read(given.text.trim()).unwrap_or_else(|| {
            // The value that a reference stands for is not shown.
            let shown = if given.is_plain { format!("{:?}", given.text) } else { "its value".to_owned() };
            self.report(given.line, field, Fault::new(format!("{shown} is not {expected}")));
            default
        })
    }

    fn flag(&self, field: &str, default: bool) -> bool {
        self.read(field, "true or false", default, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        })
    }

    fn ways(&self, says: bool) -> Ways {
        let has_app = self.component.is_brought || self.maker.dapr.app.is_some();
        let Some(given) = self.find("direction") else {
            return Ways { input: has_app, output: true, is_asked: !self.component.is_brought };
        };
        let words: Vec<_> = given.text.split(',').map(str::trim).collect();
        if let Some(word) = words.iter().find(|word| !matches!(**word, "input" | "output")) {
            let fault = Fault::new(format!("{word:?} is no direction"))
                .hint("write \"input\", \"output\" or \"input, output\"");
            self.report(given.line, "direction", fault);
        }
        let (input, output) = (words.contains(&"input"), words.contains(&"output"));
        if input && !has_app && says {
            let fault = Fault::new("names input, and there is no application to call").hint("set app in [dapr]");
            self.warn(given.line, "direction", fault);
        }
        Ways { input: input && has_app, output, is_asked: false }
    }

    fn bridge(&self, name: String, ways: Ways, end: &str) -> Bridge {
        let (source, empty) = (self.maker.source, DeTable::new());
        let mut bridge = Bridge::read(&Table::new(source, Section::Bridge, &empty, Spot::nowhere("bridge")));
        let is_mqtt3 = !end.is_empty();
        let kind = TYPES[usize::from(is_mqtt3)];
        bridge.name = name;
        bridge.description = Some(format!("The component {} ({kind})", self.component.name()));
        self.url(&mut bridge);
        bridge.client_id = self.client_id(end);
        bridge.version = self.read("version", "\"3.1.1\", \"5.0\" or \"auto\"", Versions::V311, |text| match text {
            "3.1.1" => Some(Versions::V311),
            "5.0" => Some(Versions::V5),
            "auto" => Some(Versions::Any),
            _ => None,
        });
        // An application gets its own publishes.
        (bridge.try_private, bridge.via) = (false, false);
        bridge.clean_start = self.flag("cleanSession", !is_mqtt3);
        if bridge.clean_start {
            bridge.session_expiry = Duration::ZERO;
        }
        bridge.tls = self.tls(&bridge);
        let asked = self.read("qos", "0, 1 or 2", 0, |text| text.parse().ok().filter(|qos| *qos <= 2));
        let qos = if is_mqtt3 { 1 } else { asked };
        let filter = self.topic();
        let retain = self.flag("retain", false);
        let gives =
            ways.output.then(|| Gives { topic: filter.clone().filter(|of| topic::valid_name(of)), qos, retain });
        let takes = ways.input.then(|| self.takes(ways.is_asked));
        let fixed = Fixed { metadata: &[], environment: &BTreeMap::new() };
        let template = |text: &str| Template::parse_with(text, &fixed).unwrap_or_default();
        if let (Some(filter), true) = (filter, takes.is_some()) {
            let (share, filter) = match topic::split_shared(&filter) {
                Some((share, filter)) => (Some(share.to_owned()), filter),
                None => (None, &*filter),
            };
            let topic = template("${topic}");
            let takes = In { filters: vec![filter.into()], topic, retained: Retained::All, keeps_retain: false };
            let qos = QoS::from_bits(qos).unwrap_or(QoS::AtMostOnce);
            bridge.ins.push(BridgeIn { name: "app".to_owned(), qos, share, takes, feeds: self.feeds() });
        }
        let has_letters = takes.as_ref().is_some_and(|of| matches!(of.on_failure, OnFailure::Topic(_)));
        if gives.is_some() || has_letters {
            let gives = Out {
                topic: template("${topic}"),
                qos: template("${qos}"),
                retain: template("${retain}"),
                payload: template("${payload}"),
            };
            bridge.outs.push(BridgeOut { name: "create".to_owned(), filters: Vec::new(), gives });
        }
        let component = self.component.name().to_owned();
        let is_brought = self.component.is_brought;
        bridge.binding = Some(Arc::new(Binding { component, kind, is_brought, gives, takes }));
        bridge
    }

    /// The destinations of the messages besides the application.
    fn feeds(&self) -> Vec<Feed> {
        const EXPECTED: &str = "\"sinks\", \"rules\", \"subscribers\", or some of them with commas between";
        let word =
            |word: &str| [Feed::Sinks, Feed::Rules, Feed::Subscribers].into_iter().find(|of| of.as_str() == word);
        self.read("feeds", EXPECTED, Vec::new(), |text| text.split(',').map(|part| word(part.trim())).collect())
    }

    fn url(&self, bridge: &mut Bridge) {
        let Some(given) = self.find("url") else {
            if self.metadata.find("url").is_none_or(|item| self.value(item).is_ok()) {
                self.report(
                    self.component.document.line,
                    "url",
                    Fault::new("is required").hint("as in tcp://HOST:1883"),
                );
            }
            return;
        };
        match Url::parse(&given.text) {
            Ok(mut url) => {
                (bridge.username, bridge.password) = (url.username.take(), url.password.take());
                if bridge.password.is_some() && given.is_plain {
                    let fault = Fault::new("has a password that everyone can read who can read the document");
                    self.warn(
                        given.line,
                        "url",
                        fault.hint("take it from a secret store: secretKeyRef in the place of value"),
                    );
                }
                bridge.url = url;
            }
            Err(why) => self.report(given.line, "url", Fault::new(why)),
        }
    }

    fn client_id(&self, end: &str) -> String {
        let given = self.find("consumerID").map(|given| given.text).or_else(|| self.maker.dapr.app_id.clone());
        let Some(client_id) = given else {
            let fault = Fault::new("is required, as there is no app_id in [dapr]");
            self.report(self.component.document.line, "consumerID", fault.hint("set one of the two"));
            return String::new();
        };
        let client_id = format!("{client_id}{end}");
        if client_id.len() > STRING_MAX || client_id.contains('\0') {
            let fault = Fault::new("is no client ID: at most 65535 bytes, without NUL");
            self.report(self.component.document.line, "consumerID", fault);
        }
        client_id
    }

    fn topic(&self) -> Option<String> {
        let Some(given) = self.find("topic") else {
            if self.metadata.find("topic").is_none_or(|item| self.value(item).is_ok()) {
                self.report(self.component.document.line, "topic", Fault::new("is required"));
            }
            return None;
        };
        let filter = topic::split_shared(&given.text).map_or(&*given.text, |(_, filter)| filter);
        if !topic::valid_filter(filter) || given.text.len() > STRING_MAX {
            let fault = Fault::new(format!("{:?} is no topic and no topic filter", given.text));
            self.report(given.line, "topic", fault);
            return None;
        }
        Some(given.text)
    }

    fn takes(&self, is_asked: bool) -> Takes {
        let route = self.find("route").map_or_else(|| self.component.name().to_owned(), |given| given.text);
        let retries = self.read("backOffMaxRetries", "a number of retries, or -1", Some(0), |text| {
            let retries: i64 = text.parse().ok()?;
            if retries == -1 { Some(None) } else { u32::try_from(retries).ok().map(Some) }
        });
        let concurrency = self.read("maxConcurrency", "a number from 1 to 1024", CONCURRENCY, |text| {
            text.parse().ok().filter(|of: &NonZeroUsize| of.get() <= CONCURRENCY_MAX)
        });
        let letters = self.find("deadLetterTopic");
        let letters_topic = letters.as_ref().map(|given| given.text.clone());
        if let Some(given) = letters.as_ref().filter(|given| !topic::valid_name(&given.text)) {
            self.report(given.line, "deadLetterTopic", Fault::new("is no topic to publish to"));
        }
        let or_topic = || letters_topic.clone().map_or(OnFailure::File, OnFailure::Topic);
        let on_failure =
            self.read("onFailure", "\"dead-letter\", \"drop\" or \"keep\"", or_topic(), |text| match text {
                "dead-letter" => Some(or_topic()),
                "drop" => Some(OnFailure::Drop),
                "keep" => Some(OnFailure::Keep),
                _ => None,
            });
        if let Some(given) = letters.filter(|_| !matches!(on_failure, OnFailure::Topic(_))) {
            self.warn(given.line, "deadLetterTopic", Fault::new("has no effect with this onFailure"));
        }
        let is_path = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>');
        if !route.chars().all(is_path) {
            self.report(self.component.document.line, "route", Fault::new("is no path of a URL: plain ASCII"));
        }
        let route = route.trim_start_matches('/').to_owned();
        Takes { route, is_asked, retries, concurrency, on_failure }
    }

    fn tls(&self, bridge: &Bridge) -> Option<OutgoingSettings> {
        let [ca, certificate, key] = ["caCert", "clientCert", "clientKey"].map(|field| self.find(field));
        if bridge.url.host.is_empty() {
            return None;
        }
        if !bridge.url.transport.is_tls {
            for (field, given) in [("caCert", ca), ("clientCert", certificate), ("clientKey", key)] {
                let fault = Fault::new("has no effect: `url` is one without TLS").hint("write ssl:// in url");
                given.into_iter().for_each(|given| self.warn(given.line, field, Fault { ..fault.clone() }));
            }
            return None;
        }
        let lines = [&ca, &certificate].map(|given| given.as_ref().map_or(0, |given| given.line));
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                if key.is_plain {
                    let fault = Fault::new("is a private key that everyone can read who can read the document");
                    self.warn(key.line, "clientKey", fault.hint("take it from a secret store: secretKeyRef"));
                }
                let key = Secret::new(key.text.into_bytes());
                Some(OwnCertificate::Text { certificate: certificate.text, key })
            }
            (None, None) => None,
            (given, key) => {
                let (field, missing) =
                    if given.is_some() { ("clientCert", "clientKey") } else { ("clientKey", "clientCert") };
                // A reference to nothing has been reported.
                if self.metadata.find(missing).is_none_or(|item| self.value(item).is_ok()) {
                    let line = given.or(key).map_or(0, |given| given.line);
                    let fault = Fault::new(format!("has no effect without {missing}")).hint(format!("set {missing}"));
                    self.report(line, field, fault);
                }
                None
            }
        };
        let ca = ca.map_or(Authorities::System, |given| Authorities::Text(given.text));
        let settings = OutgoingSettings { ca, identity, ..outgoing_tls::DEFAULT };
        if settings.ca != Authorities::System || settings.identity.is_some() {
            for why in Outgoing::load(&settings).err().unwrap_or_default() {
                let (field, line) =
                    if why.contains("ca_certificates") { ("caCert", lines[0]) } else { ("clientCert", lines[1]) };
                self.report(line, field, Fault::new(why.replace("ca_certificates", "it")));
            }
        }
        Some(settings)
    }
}
