//! `forebay check`: would the service work? Reads the configuration, does everything that `forebay run` does before serving,
//! connects to each cluster and looks at each sink's topic: one line each. Creates no topic and removes the files that it writes.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{fmt, fs};

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};

use serde_json::{Value, json};

use super::admin::Admin;
use super::args::CheckArgs;
use super::out::complain;
use super::{
    EXIT_DONE, EXIT_FAILED, EXIT_USAGE, bindings, check_bridges, check_broker, check_host, check_instances,
    check_modes, check_sources, check_spool, check_start, source_trial, topics,
};
use crate::config::{Acknowledge, Bridge, Cluster, Compression, Config, EMBEDDED, Problems, Sink, Source};
use crate::runtime::Bind;
use crate::service::dead_letters;
use crate::shard;

/// Bits of a topic's authorized operations: by Kafka's numbers of its ACL operations.
pub(super) const WRITE: i32 = 1 << 4;
/// The operations of a broker that does not return them.
pub(super) const NOT_TOLD: i32 = i32::MIN;
pub(super) const UNKNOWN_TOPIC: i16 = 3;
/// A topic that the cluster is asked to create, with validation only, for its answer.
const PROBE: &str = "forebay-check";
/// Bytes of a request besides one batch, at most.
const REQUEST_HEAD_BYTES: u64 = 1024;
pub(super) const TOPIC_FORBIDDEN: i16 = 29;

/// Settings of a broker that decide how the cluster creates topics.
const AUTO_CREATE: &str = "auto.create.topics.enable";
const PARTITIONS: &str = "num.partitions";
const FACTOR: &str = "default.replication.factor";
const IN_SYNC: &str = "min.insync.replicas";
/// The setting of a broker with the largest request that it takes, in bytes.
const REQUEST_BYTES_MAX: &str = "socket.request.max.bytes";
/// Settings that `check` asks one broker for, in one request.
const BROKER_SETTINGS: [&str; 5] = [AUTO_CREATE, PARTITIONS, FACTOR, IN_SYNC, REQUEST_BYTES_MAX];

/// The cure for an address with a listening process.
const IN_USE: &str =
    "is in use: by this service if it is running, otherwise by another process; `bind` sets the address";

/// The verdict at the beginning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// The check passed.
    Ok,
    /// The check passed, or may have; the operator should look at it.
    Warning,
    /// The check failed.
    Problem,
}

/// A line of the result.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) verdict: Verdict,
    /// The subject: `kafka.main` or `sink telemetry`.
    pub(super) about: String,
    pub(super) text: String,
}

impl Verdict {
    /// The verdict's name in JSON.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        write!(f, "{verdict:<8} {}: {}", self.about, self.text)
    }
}

/// The handling of a missing topic by a cluster.
enum Making {
    Makes(String),
    /// The cluster would try to create the topic, and fail, or no client could write to it.
    Fails(String),
    Refuses,
    NotTold,
}

/// The result, as the command prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The text for standard output.
    pub text: String,
    /// The exit status. 0: it would work, 1: it would not, 2: the configuration is wrong.
    pub status: u8,
}

/// Runs the checks. Warnings do not count as failure.
#[must_use]
pub fn run(args: &CheckArgs) -> Checked {
    let config = match args.load() {
        Ok(config) => config,
        Err(problems) => return wrong(&problems, args.json),
    };
    let mut lines = Vec::new();
    check_host::of_log(&config, &mut lines);
    of_memory(&config, &mut lines);
    check_sources::of_sources(&config, &mut lines);
    of_rules(&config, &mut lines);
    bindings::check(&config, &mut lines);
    if !args.offline {
        check_host::of_host(&config, &mut lines);
        check_modes::of_modes(&config, &mut lines);
        check_start::of_start(&config, &mut lines);
        for (index, cluster) in config.clusters.iter().enumerate() {
            let sinks: Vec<&Sink> = config.sinks.iter().filter(|sink| sink.cluster == index).collect();
            let sources: Vec<&Source> = config.sources.iter().filter(|source| source.cluster == index).collect();
            of_cluster(&config, cluster, (&sinks, &sources), &mut lines);
            check_broker::of_broker(&config, index, &mut lines);
            check_instances::of_instances(&config, index, &mut lines);
        }
        check_bridges::of_bridges(&config, &mut lines);
        of_files(&config, &mut lines);
        super::certificates::check(&config, &mut lines);
        super::edge::check_auth(&config, &mut lines);
        check_spool::of_spool(&config, &mut lines);
        of_addresses(&config, &mut lines);
        check_start::of_rest(&config, &mut lines);
    }
    let (sources, rules, bridges) = (config.sources.len(), config.rules.len(), config.bridges.len());
    let counts = [config.listeners.len(), config.clusters.len(), config.sinks.len(), sources, rules, bridges];
    let names = ["listener", "Kafka cluster", "sink", "source", "rule", "bridge"].into_iter().zip(counts);
    // Most configurations have none of these.
    let names = names.filter(|(name, n)| !matches!(*name, "source" | "rule" | "bridge") || *n > 0);
    let counted: Vec<_> = names.map(|(name, n)| format!("{n} {name}{}", if n == 1 { "" } else { "s" })).collect();
    let without = if args.offline { "; host, Kafka and remotes of bridges were not checked (--offline)" } else { "" };
    let text = format!("valid: {}{without}", counted.join(", "));
    lines.insert(0, Line { verdict: Verdict::Ok, about: "configuration".to_owned(), text });
    let works = lines.iter().all(|line| line.verdict < Verdict::Problem);
    let text = if args.json { as_json(&config, &lines, works) } else { as_text(&config, &lines) };
    Checked { text, status: if works { EXIT_DONE } else { EXIT_FAILED } }
}

/// Reports the inputs and destinations of each rule, and the parts of it that can fail.
fn of_rules(config: &Config, lines: &mut Vec<Line>) {
    for rule in &config.rules {
        let Some(program) = rule.program.as_deref() else { continue };
        let filters: Vec<String> = program.from().collect();
        let sinks =
            if rule.sinks.is_empty() { "no sink".to_owned() } else { format!("sinks {}", rule.sinks.join(", ")) };
        let mut text = format!("from {} to {sinks}", filters.join(", "));
        let explanation = program.explain();
        let failing = explanation.failing.iter().map(|(clause, _)| clause.as_str());
        let failing: Vec<&str> = failing.collect();
        if !failing.is_empty() {
            text += &format!("; {} can fail: on_error is \"{}\"", failing.join(" and "), rule.on_error.as_str());
        }
        if !rule.enabled {
            text += "; it is not enabled";
        }
        lines.push(Line { verdict: Verdict::Ok, about: format!("rule {}", rule.name), text });
    }
}

fn as_text(config: &Config, lines: &[Line]) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        text += &format!("{line}\n");
        if at == 0 {
            config.warnings.0.iter().for_each(|warning| text += &format!("{:<8} {warning}\n", "warning"));
        }
    }
    text
}

fn as_json(config: &Config, lines: &[Line], works: bool) -> String {
    let line = |line: &Line| json!({ "verdict": line.verdict.as_str(), "about": line.about, "text": line.text });
    let warnings: Vec<Value> = config.warnings.0.iter().map(crate::config::Problem::as_json).collect();
    let checks: Vec<Value> = lines.iter().map(line).collect();
    format!("{:#}\n", json!({ "works": works, "problems": [], "warnings": warnings, "checks": checks }))
}

/// The result when the configuration is wrong: nothing else can be checked.
fn wrong(problems: &Problems, json: bool) -> Checked {
    if !json {
        complain(format_args!("{problems}"));
        return Checked { text: String::new(), status: EXIT_USAGE };
    }
    let problems: Vec<Value> = problems.0.iter().map(crate::config::Problem::as_json).collect();
    let text = json!({ "works": false, "problems": problems, "warnings": [], "checks": [] });
    Checked { text: format!("{text:#}\n"), status: EXIT_USAGE }
}

/// Checks how much of `buffer_bytes` is for records.
fn of_memory(config: &Config, lines: &mut Vec<Line>) {
    for (index, cluster) in config.clusters.iter().enumerate() {
        let (limit, reserved) = shard::memory_of_shard(config, index);
        let (records, kib) = (limit - reserved, |bytes: usize| bytes >> 10);
        let mut text = format!(
            "buffer_bytes: a shard has {} KiB, {} KiB of it for records; {} KiB are reserved for batches that are split, placed or read back",
            kib(limit),
            kib(records),
            kib(reserved)
        );
        let mut verdict = Verdict::Ok;
        if records < reserved {
            verdict = Verdict::Warning;
            text += "; for more, raise buffer_bytes, or lower batch_bytes and record_bytes_max";
        }
        lines.push(Line { verdict, about: format!("kafka.{}", cluster.name), text });
    }
}

fn of_cluster(config: &Config, cluster: &Cluster, (sinks, sources): (&[&Sink], &[&Source]), lines: &mut Vec<Line>) {
    let about = format!("kafka.{}", cluster.name);
    let embedded = cluster.name == EMBEDDED;
    let mut push = |verdict, about: &str, text: String| lines.push(Line { verdict, about: about.to_owned(), text });
    let letters = dead_letter_topics(config, cluster, (sinks, sources));
    let topics = sinks.iter().filter_map(|sink| sink.topic.as_literal());
    let mut topics: Vec<&str> = topics.chain(letters.iter().map(|(_, topic)| *topic)).collect();
    topics.sort_unstable();
    topics.dedup();
    let asked = Admin::connect(cluster).and_then(|mut admin| match admin.metadata(&topics) {
        Ok(metadata) => Ok((admin, metadata)),
        Err(why) => Err(vec![admin.sasl_missing(cluster, why)]),
    });
    let (mut admin, metadata) = match asked {
        Ok(asked) => asked,
        Err(_) if embedded => {
            push(Verdict::Ok, &about, "the embedded log; it is part of the service, which is not running".to_owned());
            for sink in sinks {
                let Some(embedded) = &config.embedded else { continue };
                let (verdict, text) = check_host::topic_at_rest(sink, embedded);
                push(verdict, &sink_name(sink), text);
            }
            for source in sources {
                push(Verdict::Ok, &source_name(source), "reads the embedded log, which is not running".to_owned());
            }
            return;
        }
        Err(why) => {
            let hint = if why.iter().any(|why| why.contains("the login of")) {
                format!("[kafka.{}.sasl] has user, password and mechanism", cluster.name)
            } else if cluster.tls.is_some() && why.iter().all(|why| why.contains("TLS")) {
                format!("[kafka.{}.tls] has CAs, certificate and names", cluster.name)
            } else {
                format!("bootstrap of [kafka.{}] lists the brokers", cluster.name)
            };
            push(Verdict::Problem, &about, format!("cannot connect: {}; {hint}", why.join("; ")));
            for name in sinks.iter().map(|sink| sink_name(sink)).chain(sources.iter().map(|source| source_name(source)))
            {
                push(Verdict::Problem, &name, format!("cannot be checked: cannot connect to {about}"));
            }
            return;
        }
    };
    push(Verdict::Ok, &about, format!("connected to {}; {}", admin.broker, brokers(&metadata)));
    for why in silent(cluster, &metadata, &admin.broker) {
        push(Verdict::Warning, &about, format!("a bootstrap broker does not answer: {why}"));
    }
    for (broker, why) in unreachable(cluster, &metadata, &admin.broker) {
        let text = format!(
            "broker {broker} advertises an address that cannot be reached from here ({why}); set advertised.listeners of that broker \
             to an address that this machine can reach"
        );
        push(Verdict::Problem, &about, text);
    }
    let told = metadata.brokers.first().and_then(|broker| admin.broker_settings(broker.node_id.0, &BROKER_SETTINGS));
    let told = told.unwrap_or_default();
    let making = match config.embedded.as_ref().filter(|_| embedded) {
        Some(embedded) if embedded.auto_create_topics => Making::Makes("as [embedded] says".to_owned()),
        Some(_) => Making::Refuses,
        None => making(cluster, &told),
    };
    let request_bytes_max: Option<u64> = told.get(REQUEST_BYTES_MAX).and_then(|max| max.parse().ok());
    for sink in sinks {
        let found = metadata.topics.iter().find(|topic| {
            topic.name.as_ref().map(|name| name.0.as_str()) == sink.topic.as_literal()
                && sink.topic.as_literal().is_some()
        });
        let is_made = |topic: &str| config.broker.as_ref().is_some_and(|broker| broker.makes(topic));
        let (verdict, text) = match sink.topic.as_literal().filter(|topic| is_made(topic)) {
            Some(topic) if found.is_some_and(|found| found.error_code == UNKNOWN_TOPIC) => {
                (Verdict::Ok, format!("topic {topic} is missing; the start creates it"))
            }
            _ => of_sink(sink, found, &making),
        };
        push(verdict, &sink_name(sink), text);
        if let Some(text) = found.filter(|_| sink.acks == -1).and_then(|found| too_few_in_sync(&mut admin, found)) {
            push(Verdict::Problem, &sink_name(sink), text);
        }
        if let Some(text) =
            found.filter(|_| verdict == Verdict::Ok).and_then(|found| too_large(&mut admin, sink, found))
        {
            push(Verdict::Warning, &sink_name(sink), text);
        }
        if let Some(text) = request_bytes_max.and_then(|max| beyond_a_request(sink, max)) {
            push(Verdict::Warning, &sink_name(sink), text);
        }
    }
    for (about, topic) in letters {
        let named = |found: &&MetadataResponseTopic| found.name.as_ref().is_some_and(|name| name.0.as_str() == topic);
        let found = metadata.topics.iter().find(named);
        let (verdict, text) = of_fixed(topic, found, &making, false);
        push(verdict, &about, text);
        if let Some(text) = found.and_then(|found| too_few_in_sync(&mut admin, found)) {
            push(Verdict::Problem, &about, text);
        }
    }
    for source in sources {
        for (verdict, text) in source_trial::try_source(config, source).lines {
            push(verdict, &source_name(source), text);
        }
    }
}

fn source_name(source: &Source) -> String {
    format!("source {}", source.name)
}

/// The dead-letter topics of the sinks, sources and bridges of a cluster, each after the name of its owner.
fn dead_letter_topics<'a>(
    config: &'a Config,
    cluster: &Cluster,
    (sinks, sources): (&'a [&Sink], &'a [&Source]),
) -> Vec<(String, &'a str)> {
    let of_bridge = |bridge: &'a Bridge| {
        let topic = bridge.dead_letters.as_ref()?.topic.as_deref()?;
        let is_here = config.clusters[bridge.cluster].name == cluster.name;
        is_here.then(|| (format!("dead letters of bridge {}", bridge.name), topic))
    };
    let of_sink = |sink: &&'a Sink| Some((dead_letters_of(sink), sink.dead_letters.as_ref()?.topic.as_deref()?));
    let of_source = |source: &&'a Source| {
        let topic = source.dead_letters_topic.as_deref()?;
        Some((format!("dead letters of {}", source_name(source)), topic))
    };
    let of_bridges = config.bridges.iter().filter_map(of_bridge);
    sinks.iter().filter_map(of_sink).chain(sources.iter().filter_map(of_source)).chain(of_bridges).collect()
}

fn dead_letters_of(sink: &Sink) -> String {
    format!("dead letters of sink {}", sink.name)
}

/// Checks whether dead-letter files could be written.
fn of_files(config: &Config, lines: &mut Vec<Line>) {
    let sinks = config.sinks.iter().map(|sink| (dead_letters_of(sink), &sink.dead_letters));
    let of_bridge = |bridge: &Bridge| format!("dead letters of bridge {}", bridge.name);
    let bridges = config.bridges.iter().map(|bridge| (of_bridge(bridge), &bridge.dead_letters));
    for (about, dead) in sinks.chain(bridges) {
        let Some(file) = dead.as_ref().and_then(|dead| dead.file.as_ref()) else { continue };
        let path = file.path.display();
        let (verdict, text) = match dead_letters::may_write(&file.path) {
            Ok(()) => (Verdict::Ok, format!("file {path} is writable")),
            Err(why) => (Verdict::Problem, format!("file {path}: {why}; dead_letters_file names the file")),
        };
        lines.push(Line { verdict, about, text });
    }
}

/// Reports addresses that could not be listened on. The service itself may be using them.
fn of_addresses(config: &Config, lines: &mut Vec<Line>) {
    let listeners = config.listeners.iter().map(|listener| ("listener", listener.bind.clone()));
    let control = config.control.bind.map(|bind| ("control", Bind::Tcp(bind)));
    let embedded = config.embedded.as_ref().map(|log| ("embedded log", Bind::Tcp(log.bind)));
    for (about, bind) in listeners.chain(control).chain(embedded) {
        let address = match &bind {
            Bind::Tcp(address) => *address,
            Bind::Unix(path) => {
                let Some((verdict, text)) = of_path(path) else { continue };
                lines.push(Line { verdict, about: format!("{about} {bind}"), text });
                continue;
            }
        };
        let Err(error) = TcpListener::bind(address) else { continue };
        let (verdict, text) = if error.kind() == ErrorKind::AddrInUse {
            (Verdict::Warning, IN_USE.to_owned())
        } else {
            (Verdict::Problem, format!("cannot listen: {error}; `bind` must be an address of this machine"))
        };
        lines.push(Line { verdict, about: format!("{about} {address}"), text });
    }
}

/// The problem with the path of a Unix socket, if there is one.
fn of_path(path: &Path) -> Option<(Verdict, String)> {
    if UnixStream::connect(path).is_ok() {
        return Some((Verdict::Warning, IN_USE.to_owned()));
    }
    match fs::symlink_metadata(path) {
        // A leftover socket of a process that ended: the service replaces it.
        Ok(there) if there.file_type().is_socket() => None,
        Ok(_) => Some((Verdict::Problem, "cannot listen: there is a file that is not a socket".to_owned())),
        Err(_) => {
            let why = dead_letters::may_write(path).err()?;
            let text = format!("cannot listen: {why}; the directory has to exist and to be writable");
            Some((Verdict::Problem, text))
        }
    }
}

fn sink_name(sink: &Sink) -> String {
    format!("sink {}", sink.name)
}

fn brokers(metadata: &MetadataResponse) -> String {
    let named = |broker: &MetadataResponseBroker| format!("{} at {}", broker.node_id.0, address(broker));
    let brokers: Vec<_> = metadata.brokers.iter().map(named).collect();
    format!("{} {}: {}", brokers.len(), if brokers.len() == 1 { "broker" } else { "brokers" }, brokers.join(", "))
}

/// Why bootstrap brokers do not answer. The brokers that the cluster names are tried by their own names.
fn silent(cluster: &Cluster, metadata: &MetadataResponse, answered: &str) -> Vec<String> {
    let named: Vec<_> = metadata.brokers.iter().map(address).collect();
    let others = cluster.bootstrap.iter().filter(|broker| *broker != answered && !named.contains(broker));
    others.filter_map(|broker| Admin::connect_to(cluster, broker).err()).collect()
}

/// The address that a broker advertises.
pub(super) fn address(broker: &MetadataResponseBroker) -> String {
    let (host, port) = (broker.host.as_str(), broker.port);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Brokers that the cluster advertises at addresses where they do not answer; produce requests would go to them.
fn unreachable(cluster: &Cluster, metadata: &MetadataResponse, answered: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for broker in &metadata.brokers {
        let address = address(broker);
        if address == answered {
            continue;
        }
        if let Err(why) = Admin::connect_to(cluster, &address) {
            found.push((broker.node_id.0.to_string(), why));
        }
    }
    found
}

/// The way in which a cluster creates topics, by the settings of one of its brokers.
fn making(cluster: &Cluster, told: &HashMap<String, String>) -> Making {
    let value = |name: &str| told.get(name).map_or("?", String::as_str);
    match value(AUTO_CREATE) {
        "true" => {
            let how = format!("partitions {}, replication factor {}", value(PARTITIONS), value(FACTOR));
            if let Some(why) = topics::cannot_create(cluster, PROBE) {
                return Making::Fails(format!("{how}: {why}"));
            }
            let [factor, in_sync] = [FACTOR, IN_SYNC].map(|name| value(name).parse::<u32>().ok());
            if factor.zip(in_sync).is_some_and(|(factor, in_sync)| factor < in_sync) {
                return Making::Fails(format!(
                    "{how}, but min.insync.replicas {}: no record is accepted",
                    value(IN_SYNC)
                ));
            }
            Making::Makes(how)
        }
        "false" => Making::Refuses,
        _ => Making::NotTold,
    }
}

/// The sizes of a sink, in bytes, that are above a limit, and whether a record's is one of them; `None`: no size is.
fn beyond(sink: &Sink, max: u64) -> Option<(bool, String)> {
    let keys = [("record_bytes_max", sink.record_bytes_max), ("batch_bytes", sink.batch_bytes)];
    let beyond: Vec<_> = keys.iter().filter(|(_, bytes)| *bytes as u64 > max).collect();
    let is_record = beyond.first()?.0 == "record_bytes_max";
    let keys: Vec<_> = beyond.iter().map(|(key, bytes)| format!("{key} {bytes}")).collect();
    Some((is_record, keys.join(", ")))
}

/// The size of a sink's request that no broker would take, if there is one.
fn beyond_a_request(sink: &Sink, max: u64) -> Option<String> {
    let (is_record, keys) = beyond(sink, max.saturating_sub(REQUEST_HEAD_BYTES))?;
    let what = if is_record {
        "a larger record is sent again and again"
    } else {
        "larger batches are split after some attempts"
    };
    Some(format!(
        "brokers accept requests of at most {max} bytes (socket.request.max.bytes), less than {keys}: {what}; raise the one or lower the other"
    ))
}

/// Why no record of a topic is accepted at acks=all. Every partition of it needs `min.insync.replicas` replicas in sync.
fn too_few_in_sync(admin: &mut Admin, found: &MetadataResponseTopic) -> Option<String> {
    let topic = found.name.as_ref().filter(|_| found.error_code == 0)?.0.as_str();
    let in_sync_min = usize::try_from(admin.topic_setting(topic, "min.insync.replicas")?).ok()?;
    let replicas = found.partitions.iter().map(|partition| partition.replica_nodes.len()).min()?;
    if replicas < in_sync_min {
        return Some(format!(
            "topic {topic} has replication factor {replicas} and min.insync.replicas {in_sync_min}: no record is accepted; raise the one or lower the other"
        ));
    }
    let below = found.partitions.iter().filter(|partition| partition.isr_nodes.len() < in_sync_min).count();
    let partitions = found.partitions.len();
    (below > 0).then(|| {
        format!(
            "topic {topic}: {below} of {partitions} partitions have fewer replicas in sync than min.insync.replicas, {in_sync_min}; \
             their messages wait until more brokers are back"
        )
    })
}

fn of_sink(sink: &Sink, found: Option<&MetadataResponseTopic>, making: &Making) -> (Verdict, String) {
    let Some(topic) = sink.topic.as_literal() else {
        let text = match making {
            Making::Makes(how) => format!("the cluster creates missing topics ({how})"),
            Making::Fails(how) => {
                let text = format!("the cluster cannot create missing topics ({how})");
                return (Verdict::Problem, format!("the topic depends on the message; {text}"));
            }
            Making::Refuses => {
                "the cluster does not create topics: each must exist before its first message".to_owned()
            }
            Making::NotTold => "whether the cluster creates missing topics is unknown".to_owned(),
        };
        let verdict = if matches!(making, Making::Makes(_)) { Verdict::Ok } else { Verdict::Warning };
        return (verdict, format!("the topic depends on the message; {text}"));
    };
    of_fixed(topic, found, making, matches!(sink.acknowledge, Acknowledge::Replicated | Acknowledge::Stored))
}

/// Checks a topic with a fixed name; `safe`: its records have to survive the loss of a disk.
fn of_fixed(topic: &str, found: Option<&MetadataResponseTopic>, making: &Making, safe: bool) -> (Verdict, String) {
    let named = format!("topic {topic}");
    let Some(found) = found else {
        return (Verdict::Warning, format!("{named}: the cluster did not report it"));
    };
    match (found.error_code, making) {
        (0, _) => of_topic(topic, found, safe),
        (UNKNOWN_TOPIC, Making::Makes(how)) => {
            (Verdict::Ok, format!("{named} is missing; the cluster creates it with its first message ({how})"))
        }
        (UNKNOWN_TOPIC, Making::Fails(how)) => (
            Verdict::Problem,
            format!(
                "{named} is missing, and the cluster cannot create it ({how}); correct the cluster's defaults, or create it"
            ),
        ),
        (UNKNOWN_TOPIC, Making::Refuses) => (
            Verdict::Problem,
            format!("{named} is missing, and the cluster does not create topics; `forebay topics create` creates it"),
        ),
        (UNKNOWN_TOPIC, Making::NotTold) => (
            Verdict::Warning,
            format!(
                "{named} is missing, and whether its first message creates it is unknown; `forebay topics create` \
                 creates it"
            ),
        ),
        (TOPIC_FORBIDDEN, _) => (
            Verdict::Problem,
            format!("{named}: this client is not authorized to describe it; {}", allow(topic, "DESCRIBE and WRITE")),
        ),
        (error, _) => (Verdict::Problem, format!("{named}: the cluster answered with error {error}")),
    }
}

fn of_topic(topic: &str, found: &MetadataResponseTopic, safe: bool) -> (Verdict, String) {
    let named = format!("topic {topic}");
    let partitions = found.partitions.len();
    let leaderless = found.partitions.iter().filter(|partition| partition.leader_id.0 < 0).count();
    let operations = found.topic_authorized_operations;
    if operations != NOT_TOLD && operations & WRITE == 0 {
        return (
            Verdict::Problem,
            format!("{named}: this client is not authorized to write it; {}", allow(topic, "WRITE")),
        );
    }
    if leaderless > 0 {
        let text = format!(
            "{named}: {leaderless} of {partitions} partitions have no leader; their messages wait until their \
             brokers are back"
        );
        return (Verdict::Problem, text);
    }
    let replicas = found.partitions.iter().map(|partition| partition.replica_nodes.len()).min().unwrap_or(0);
    let write = if operations == NOT_TOLD { "write authorization unknown" } else { "writable" };
    let text = format!("{named}: partitions {partitions}, replication factor {replicas}, {write}");
    if safe && replicas == 1 {
        return (Verdict::Ok, format!("{text}; with one replica, a lost disk loses the records"));
    }
    (Verdict::Ok, text)
}

/// The size of a sink's batches or records that the topic would not take, if there is one. The size of compressed batches cannot
/// be known beforehand.
fn too_large(admin: &mut Admin, sink: &Sink, found: &MetadataResponseTopic) -> Option<String> {
    if found.error_code != 0 || sink.compression != Compression::None {
        return None;
    }
    let topic = sink.topic.as_literal()?;
    let max = admin.topic_setting(topic, "max.message.bytes")?;
    let (is_record, keys) = beyond(sink, max)?;
    let what = if is_record {
        "Kafka refuses larger messages, and larger batches are split and sent again"
    } else {
        "larger batches are refused, split and sent again"
    };
    Some(format!(
        "topic {topic} accepts batches of at most {max} bytes (max.message.bytes), less than {keys}: {what}; raise the one or lower the other"
    ))
}

/// The command that allows these operations.
fn allow(topic: &str, operations: &str) -> String {
    format!("grant it {operations}, as in kafka-acls.sh --add --allow-principal User:… --producer --topic {topic}")
}
