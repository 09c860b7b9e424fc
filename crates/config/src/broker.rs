//! `[broker]`: each Kafka topic that clients' messages go through is a sink, for publishes, and one source reads all of them for
//! subscribers. One more sink takes retained messages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::clusters::Target;
use super::keys::{self, Key, Section};
use super::problem::Fault;
use super::reader::{Table, defaults};
use super::resolve::Document;
use super::resolved::{
    Acknowledge, Broker, BrokerLink, BrokerRoute, Choice, Feed, LinkFiles, OfBroker, OffsetReset, OnRefuse,
    Partitioner, Rule, Sink, Source, Spool, Topics,
};
use super::setting::Settings as _;
use super::sources::check_mqtt_topic;
use super::{EMBEDDED, Overrides, sinks, values};
use forebay_base::limits::SLOTS;
use forebay_guard::secure::Pair;
use forebay_kafka::topic_name::kafka_topic;
use forebay_mqtt::route::filter;
use forebay_record::names::{CLIENT_ID, QOS, RETAIN};
use forebay_rule::record::RecordTemplate;
use forebay_rule::template::{Fixed, Template};

/// The beginning of the names of the broker's own sinks, and the name of its source.
pub const NAME: &str = "broker";
/// The hint for a shared subscription among the filters of a route.
const SHARED: &str = "a route gets each message once: leave out $share and the group";
/// Number of segments that a slot's log should have, and the largest size of a segment.
const SEGMENTS_WISHED: u64 = Spool::SEGMENTS_MIN;
const SEGMENT_BYTES_MAX: u64 = 16 * MIB;
const MIB: u64 = 1 << 20;
/// The topic of sessions by default.
const SESSIONS: &str = "mqtt-sessions";
/// The interval between commits of the broker's source.
const COMMIT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Reads `[broker]`, if the file has it.
pub(super) fn resolve(document: &Document<'_>, overrides: &Overrides, targets: &[Target]) -> Option<Broker> {
    if !document.has(Section::Broker) {
        return None;
    }
    let table = document.table(Section::Broker);
    let is_part = |key: &Key| table.has(key.name);
    if !keys::of(Section::Broker).any(is_part) && !document.source.has_header(NAME) {
        let fault = Fault::new("is on by a table within it, and there is no line `[broker]`");
        let hint = "write [broker] above it; without [broker] at all, messages of clients do not go through Kafka";
        document.source.warn(&document.spot(Section::Broker), fault.hint(hint));
    }
    let mut broker = Broker::read(&table);
    broker.name = table.read("name", values::name);
    let mut topics = HashMap::new();
    for (key, of) in
        [("messages", &mut broker.messages), ("retained", &mut broker.retained), ("sessions", &mut broker.sessions)]
    {
        let topic = table.read(key, values::non_empty);
        check_topic(&table, key, &topic, &mut topics);
        *of = topic;
    }
    for part in table.list_parts(Section::BrokerRoute) {
        let route = route(&part, overrides, &mut topics);
        let earlier = || broker.routes.iter().flat_map(|route| &route.filters);
        let is_taken = |filter: &String| earlier().any(|taken| filter::covers(taken, filter));
        if !route.filters.is_empty() && route.filters.iter().all(is_taken) {
            let fault = Fault::new("no message goes to this route: those before it take all of `filters`");
            part.source.warn(&part.spot("filters"), fault.hint("move it up"));
        }
        broker.routes.push(route);
    }
    broker.link = table.part(Section::BrokerLink).map(|table| link(&table));
    broker.server = table.find("server", host_port);
    let redirects = table.find("redirect", values::word).map(|word| word == "v5");
    broker.redirects = redirects.unwrap_or(broker.server.is_some());
    check_instance(&table, &broker);
    broker.cluster = sinks::target(&table, targets).unwrap_or_default();
    if targets.get(broker.cluster).is_none_or(|target| target.name == EMBEDDED) {
        let fault = Fault::new("needs a Kafka cluster: the embedded log does not compact topics");
        let hint = "add [kafka.NAME]; a broker without Kafka needs no [broker], and keeps its state in [spool]";
        table.source.report(&table.spot("kafka"), fault.hint(hint));
    }
    Some(broker)
}

/// Reads `HOST:PORT`.
fn host_port(key: &Key, value: &DeValue<'_>) -> Result<String, Fault> {
    values::broker(&values::text(key, value)?)
}

/// Reads `[broker.link]`.
fn link(table: &Table<'_>) -> BrokerLink {
    let file = |name: &str| table.find(name, values::non_empty).map(PathBuf::from);
    let bind = table.find("bind", values::address);
    let address = table.find("address", host_port);
    let tls = match (file("cert_file"), file("key_file"), file("ca_file")) {
        (Some(certificate), Some(key), Some(ca)) => Some(LinkFiles { own: Pair { certificate, key }, ca }),
        (None, None, None) => None,
        _ => {
            let fault = Fault::new("has some of cert_file, key_file and ca_file");
            table
                .source
                .report(&table.spot, fault.hint("TLS between instances needs all three; leave all out for none"));
            None
        }
    };
    let is_ip = |text: &String| text.parse::<SocketAddr>().is_ok();
    if tls.is_none() && address.as_ref().is_some_and(|address| !is_ip(address)) {
        let fault = Fault::new("is no IP address, and without TLS instances know each other by that");
        table
            .source
            .report(&table.spot("address"), fault.hint("set an IP address, or cert_file, key_file and ca_file"));
    }
    if address.is_none() && bind.is_some_and(|bind| bind.ip().is_unspecified()) {
        let fault = Fault::new("is required: `bind` is no address that others can connect to");
        table.source.report(&table.spot("address"), fault.hint("set the address of this machine, as others see it"));
    }
    BrokerLink { bind: bind.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))), address, tls }
}

/// Reports missing keys of one of several instances, and keys that a single instance has no use for.
fn check_instance(table: &Table<'_>, broker: &Broker) {
    if broker.link.is_some() {
        if !table.has("name") {
            let fault = Fault::new("is required with [broker.link]: each instance has a name of its own");
            table.source.report(&table.spot("name"), fault.hint("set one, or FOREBAY_BROKER_NAME"));
        }
        if broker.redirects && broker.server.is_none() {
            let fault = Fault::new("is \"v5\", and there is no `server` that clients could be told");
            table.source.report(&table.spot("redirect"), fault.hint("set server = \"HOST:PORT\""));
        }
        return;
    }
    for name in ["server", "redirect"] {
        if table.has(name) {
            let fault = Fault::new("has no effect without [broker.link]: there is one instance");
            table.source.report(&table.spot(name), fault.hint("add [broker.link], or remove it"));
        }
    }
}

/// Reports an invalid Kafka topic, and one that two keys name.
fn check_topic(table: &Table<'_>, key: &'static str, topic: &str, seen: &mut HashMap<String, String>) {
    let spot = table.spot(key);
    if let Err(error) = kafka_topic(topic.as_bytes()) {
        table.source.report(&spot, Fault::new(format!("\"{topic}\" is not a valid Kafka topic: it {error}")));
    }
    if let Some(earlier) = seen.insert(topic.to_owned(), spot.path.clone()) {
        let fault = Fault::new(format!("\"{topic}\" is the topic of {earlier}, too"));
        table.source.report(&spot, fault.hint("a topic is in one route; put all of its filters there"));
    }
}

fn route(table: &Table<'_>, overrides: &Overrides, topics: &mut HashMap<String, String>) -> BrokerRoute {
    let fixed = Fixed { metadata: &[], environment: &overrides.environment };
    let topic = table.find("topic", values::non_empty).unwrap_or_default();
    if !topic.is_empty() {
        check_topic(table, "topic", &topic, topics);
    }
    let mqtt_topic: RecordTemplate =
        table.read("mqtt_topic", |_: &Key, value: &DeValue<'_>| values::template_of(value, &fixed));
    check_mqtt_topic(table, &mqtt_topic, &table.spot("mqtt_topic"));
    BrokerRoute {
        filters: sinks::filters(table, "filters", SHARED).into_iter().map(|(filter, _)| filter).collect(),
        topic,
        by_client: table.read("partition_by", values::word) == "client",
        mqtt_topic,
    }
}

/// Reports sources and sinks that conflict with the broker's own: their names, or its topics, in which records would go round.
pub(super) fn check(document: &Document<'_>, broker: &Broker, (sinks, sources, rules): (&[Sink], &[Source], &[Rule])) {
    let is_ours = |name: &str| name == NAME || name.starts_with(&format!("{NAME}."));
    let topics = || broker.topics().map(|(topic, _)| topic).chain([&*broker.retained, &*broker.sessions]);
    for (at, sink) in sinks.iter().enumerate() {
        if is_ours(&sink.name) {
            let fault = Fault::new(format!("\"{}\" is a name of [broker]'s own", sink.name));
            document.source.report(&document.spot_in(Section::Sink, at, "name"), fault.hint("choose another one"));
        }
        let topic = sink.topic.as_literal();
        if sink.cluster == broker.cluster && topics().any(|known| Some(known) == topic) {
            let fault =
                Fault::new(format!("\"{}\" is a topic of [broker], which writes it", topic.unwrap_or_default()));
            document.source.report(&document.spot_in(Section::Sink, at, "topic"), fault.hint("remove the sink"));
        }
    }
    for (at, rule) in rules.iter().enumerate() {
        if rule.republish.iter().any(|made| made.is_direct) {
            let fault =
                Fault::new("has a message that goes past sinks, and with [broker] a sink is the way to subscribers");
            document.source.report(&document.spot_in(Section::Rule, at, "republish"), fault.hint("remove direct"));
        }
    }
    for (at, source) in sources.iter().enumerate() {
        if is_ours(&source.name) {
            let fault = Fault::new(format!("\"{}\" is a name of [broker]'s own", source.name));
            document.source.report(&document.spot_in(Section::Source, at, "name"), fault.hint("choose another one"));
        }
        let read = source.routes().find(|(topic, _)| topics().any(|known| known == *topic));
        if let Some((topic, _)) = read.filter(|_| source.cluster == broker.cluster) {
            let fault = Fault::new(format!("\"{topic}\" is a topic of [broker], which reads it"));
            document.source.report(&document.spot_in(Section::Source, at, "topic"), fault.hint("remove the source"));
        }
    }
}

impl Broker {
    /// The log of each of `slots` slots. The bound is for all of them together, whichever instance serves how many.
    #[must_use]
    pub fn session_log(&self, slots: usize) -> Spool {
        let bytes_max = self.sessions_bytes_max;
        let part = bytes_max / slots.max(1) as u64;
        let segment_bytes = match self.segment_bytes {
            0 => (part / SEGMENTS_WISHED / MIB * MIB).clamp(MIB, SEGMENT_BYTES_MAX),
            bytes => bytes,
        };
        let spool = defaults(Section::Spool, "spool", Spool::read);
        // Rows that arrive while a batch is under way form the next one.
        let sync_interval = std::time::Duration::ZERO;
        Spool { bytes_max, segment_bytes, share_is_computed: true, sync_interval, ..spool }.of_shards(slots)
    }

    /// Slots, each with a log of sessions: partitions of the topic.
    #[must_use]
    pub const fn slots(&self) -> u16 {
        if self.test_slots == 0 { SLOTS } else { self.test_slots }
    }

    /// The consumer group of the instance. Brokers on one Kafka are told apart by their topics of sessions, with which no name can be confused: it has no `@`.
    #[must_use]
    pub fn group(&self) -> String {
        let named = self.group_of_name();
        if self.sessions == SESSIONS { named } else { format!("{named}@{}", self.sessions) }
    }

    /// The group that earlier versions had, whatever the topic of sessions.
    #[must_use]
    pub fn group_of_name(&self) -> String {
        format!("forebay-{NAME}-{}", self.name)
    }

    /// The group of all instances of the broker.
    #[must_use]
    pub fn group_of_instances(&self) -> String {
        format!("forebay-{}", self.sessions)
    }

    /// The group of a shared subscription, of the instances that have members. `text`: `$share/NAME/FILTER`.
    #[must_use]
    pub fn group_of_share(&self, text: &str) -> String {
        format!("forebay-share-{:032x}", xxh3_128(format!("{}\n{text}", self.sessions).as_bytes()))
    }

    /// A hash of the settings that instances must have in common to be one broker: topics, routes, and the mapping of records to
    /// messages.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut text = format!("{}\n{}\n{}\n{}", self.messages, self.retained, self.sessions, self.qos);
        for route in &self.routes {
            let BrokerRoute { filters, topic, by_client, mqtt_topic } = route;
            text += &format!("\n{topic}\n{by_client}\n{mqtt_topic}\n{}", filters.join("\n"));
        }
        xxh3_64(text.as_bytes())
    }

    /// The Kafka topics that messages go through, each with the filters of its route; the last one takes messages of no route.
    pub fn topics(&self) -> impl Iterator<Item = (&str, Option<&BrokerRoute>)> {
        let routes = self.routes.iter().map(|route| (route.topic.as_str(), Some(route)));
        routes.chain([(self.messages.as_str(), None)])
    }

    /// Whether the service creates this topic when it starts, if it is missing.
    #[must_use]
    pub fn makes(&self, topic: &str) -> bool {
        self.create_topics
            && self.topics().map(|(topic, _)| topic).chain([self.retained.as_str()]).any(|made| made == topic)
    }

    /// The sinks of the topics, in their order, and that of retained messages, which is the last.
    pub(super) fn sinks(&self) -> Vec<Sink> {
        let mut taken: Vec<String> = Vec::new();
        let mut sinks: Vec<Sink> = Vec::new();
        for (topic, route) in self.topics() {
            let filters = route.map_or_else(|| vec!["#".to_owned()], |route| route.filters.clone());
            let meets = |earlier: &&String| filters.iter().any(|filter| filter::overlap(earlier, filter));
            let exclude = taken.iter().filter(meets).cloned().collect();
            taken.extend(filters.iter().cloned());
            let partitioner =
                if route.is_some_and(|route| route.by_client) { Partitioner::Client } else { Partitioner::Key };
            let headers =
                vec![of_message(QOS, "${qos}"), of_message(RETAIN, "${retain}"), of_message(CLIENT_ID, "${clientid}")];
            sinks.push(Sink {
                filters,
                exclude,
                partitioner,
                headers,
                of_broker: Some(OfBroker::Route),
                ..self.sink(topic)
            });
        }
        let headers = vec![of_message(QOS, "${qos}")];
        sinks.push(Sink {
            empty_is_null: true,
            headers,
            of_broker: Some(OfBroker::Retained),
            ..self.sink(&self.retained)
        });
        sinks
    }

    fn sink(&self, topic: &str) -> Sink {
        Sink {
            name: format!("{NAME}.{topic}"),
            cluster: self.cluster,
            topic: template(topic),
            key: Some(template("${topic}")),
            value: template("${payload}"),
            acknowledge: Acknowledge::Replicated,
            acks: -1,
            on_refuse: OnRefuse::Reject,
            no_dead_letters: true,
            drops_qos0: false,
            ..defaults(Section::Sink, NAME, Sink::read)
        }
    }

    /// The retained messages' topic as a source, which is read once, at a start.
    #[must_use]
    pub fn source_of_retained(&self) -> Source {
        let topics = Topics::One(vec![self.retained.clone()]);
        let mqtt_topic = RecordTemplate::parse("${key}").ok();
        Source { topics, mqtt_topic, retain: Choice::Fixed(true), ..self.source() }
    }

    /// The source of all topics.
    pub(super) fn source(&self) -> Source {
        let key = || RecordTemplate::parse("${key}").unwrap_or_default();
        let each = self
            .topics()
            .map(|(topic, route)| (topic.to_owned(), route.map_or_else(key, |route| route.mqtt_topic.clone())));
        let header = |name| RecordTemplate::parse(&format!("${{headers.{name}}}")).unwrap_or_default();
        Source {
            name: NAME.to_owned(),
            cluster: self.cluster,
            topics: Topics::Each(each.collect()),
            payload: RecordTemplate::parse("${value}").unwrap_or_default(),
            qos: Choice::Either(header(QOS), u8::try_from(self.qos).unwrap_or(1)),
            retain: Choice::Either(header(RETAIN), false),
            feeds: vec![Feed::Subscribers],
            group: self.group(),
            group_instance: Some(self.name.clone()),
            offset_reset: OffsetReset::Earliest,
            start_grace: std::time::Duration::ZERO,
            commit_interval: COMMIT_INTERVAL,
            is_of_broker: true,
            ..defaults(Section::Source, NAME, Source::read)
        }
    }
}

/// A header that is rendered from a message.
fn of_message(name: &str, text: &str) -> (String, Template) {
    (name.to_owned(), template(text))
}

/// A template of this text, which is one.
fn template(text: &str) -> Template {
    Template::parse(text).unwrap_or_default()
}
