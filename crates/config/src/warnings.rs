//! Warnings about keys that are legal and probably a mistake. The service starts nevertheless.

use std::collections::{HashMap, HashSet};

use super::keys::Section;
use super::problem::Fault;
use super::reader::Spot;
use super::resolve::Document;
use super::resolved::{Acknowledge, Config, Sink, ValueFormat};
use super::{EMBEDDED, Feed, SINKS_MAX};
use forebay_mqtt::route::filter;
use forebay_rule::template::{Template, VARIABLES};

/// Checks a configuration in which nothing is wrong.
pub(super) fn check(document: &Document<'_>, config: &Config) {
    paths(document, config);
    if document.has(Section::Telemetry) && config.telemetry.is_none() {
        let fault =
            Fault::new("has no effect without `otlp`").hint("add the URL of a collector, or remove the section");
        document.source.warn(&document.spot(Section::Telemetry), fault);
    }
    // Routes of `[broker]` have warnings of their own.
    let of_file = config.sinks.iter().filter(|sink| sink.of_broker.is_none());
    for (at, sink) in of_file.enumerate().take(SINKS_MAX) {
        let warn = |key: &str, fault: Fault| document.source.warn(&document.spot_in(Section::Sink, at, key), fault);
        if sink.topic.has_whole_topic() && sink.filters.iter().any(|filter| filter.contains(['/', '#'])) {
            let what = "the MQTT topic in the name of a Kafka topic, which cannot contain `/`: messages whose topic has more than one level \
                        are refused";
            let hint = "use a fixed name, or levels of the topic, as in \"${topic[0]}.${topic[1]}\"; \
                        this version cannot write another character in the place of `/`";
            warn("topic", Fault::new(what).hint(hint));
        }
        braces(sink, warn);
        tombstones(sink, warn);
        excluded(sink, warn);
        if !sink.metadata.is_empty() && sink.value_format != ValueFormat::Json && !uses_metadata(sink) {
            let what = "has no effect: no template of this sink refers to it";
            warn("metadata", Fault::new(what).hint("use ${metadata.NAME}, or value_format = \"json\""));
        }
    }
    exposed_log(document, config);
    fallback(document, config);
    twice(document, config);
    unused_clusters(document, config);
    no_sinks(document, config);
    receipts(document, config);
}

/// Warns of `~`, which only a shell expands; here it would be a directory of that name.
fn paths(document: &Document<'_>, config: &Config) {
    let warn = |spot: Spot, path: &std::path::Path| {
        if path.starts_with("~") {
            let what = format!("\"{}\" is a directory named `~` in the working directory", path.display());
            document.source.warn(&spot, Fault::new(what).hint("write the full path of the home directory"));
        }
    };
    warn(document.spot_of(Section::Service, "data_dir"), &config.service.data_dir);
    if let Some(embedded) = &config.embedded {
        // A path that follows from data_dir has been reported with that.
        if !embedded.dir.starts_with(&config.service.data_dir) {
            warn(document.spot_of(Section::Embedded, "dir"), &embedded.dir);
        }
    }
    for (at, sink) in config.sinks.iter().enumerate() {
        if let Some(file) = sink.dead_letters.as_ref().and_then(|dead| dead.file.as_ref()) {
            warn(document.spot_in(Section::Sink, at, "dead_letters_file"), &file.path);
        }
    }
}

/// Warns of an embedded log that other machines can reach: it has neither TLS nor logins.
fn exposed_log(document: &Document<'_>, config: &Config) {
    let Some(embedded) = config.embedded.as_ref().filter(|embedded| !embedded.bind.ip().is_loopback()) else { return };
    let what =
        format!("anyone who reaches {} can read, write and delete all topics of the embedded log", embedded.bind);
    let hint = "bind it to 127.0.0.1, or put a firewall in front of it: it has neither TLS nor passwords";
    document.source.warn(&document.spot_of(Section::Embedded, "bind"), Fault::new(what).hint(hint));
}

/// Warns of `{clientid}` without `$`, which is text.
fn braces(sink: &Sink, warn: impl Fn(&str, Fault)) {
    let key = sink.key.as_ref().map(|key| ("key", key));
    let headers = sink.headers.iter().map(|(_, value)| ("headers", value));
    let time = sink.timestamp.as_ref().map(|time| ("timestamp", &time.template));
    let templates = [("topic", &sink.topic), ("value", &sink.value)].into_iter().chain(key).chain(headers).chain(time);
    for (name, template) in templates {
        let Some(variable) = without_dollar(template) else { continue };
        let what = format!("`{{{variable}}}` is plain text, the same in every record");
        warn(name, Fault::new(what).hint(format!("write ${{{variable}}} for the value")));
    }
}

/// Warns of a null value without a key: it deletes nothing.
fn tombstones(sink: &Sink, warn: impl Fn(&str, Fault)) {
    if sink.empty_is_null && sink.key.as_ref().is_none_or(Template::reads_payload) {
        let what = "deletes nothing: a message with an empty payload has no key here";
        let hint = "make `key` of something else than the payload, as in \"${topic}\"";
        warn("empty_payload", Fault::new(what).hint(hint));
    }
}

/// Warns of an `exclude` that leaves nothing of `filters`, or has no effect.
fn excluded(sink: &Sink, warn: impl Fn(&str, Fault)) {
    if !sink.filters.is_empty()
        && sink.filters.iter().all(|filter| sink.exclude.iter().any(|excluded| filter::covers(excluded, filter)))
    {
        warn("exclude", Fault::new("leaves nothing of `filters`: no message goes to this sink"));
        return;
    }
    for excluded in &sink.exclude {
        if !sink.filters.iter().any(|filter| filter::overlap(excluded, filter)) {
            let what = format!("\"{excluded}\" has no effect: no topic of `filters` matches it");
            warn("exclude", Fault::new(what));
        }
    }
}

/// Warns of `fallback` if every sink has it.
fn fallback(document: &Document<'_>, config: &Config) {
    if !config.sinks.is_empty() && config.sinks.iter().all(|sink| sink.fallback) {
        let what = "has no effect: there is no sink without it";
        document.source.warn(&document.spot_in(Section::Sink, 0, "fallback"), Fault::new(what));
    }
}

fn without_dollar(template: &Template) -> Option<&'static str> {
    let names = VARIABLES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.chars().all(|c| c.is_ascii_alphabetic() || c == '_'));
    let mut names = names.filter(|name| template.texts().any(|text| text.contains(&format!("{{{name}}}"))));
    names.next()
}

fn uses_metadata(sink: &Sink) -> bool {
    // Values of metadata are put into templates when these are read: as text, they are found by their value.
    let key = sink.key.iter();
    let headers = sink.headers.iter().map(|(_, value)| value);
    let mut templates = [&sink.topic, &sink.value].into_iter().chain(key).chain(headers);
    templates.any(|template| {
        sink.metadata.iter().any(|(_, value)| template.texts().any(|text| text.contains(value.as_str())))
    })
}

/// Warns of two sinks that write the same messages to the same topic.
fn twice(document: &Document<'_>, config: &Config) {
    let mut seen = HashMap::new();
    for (at, sink) in config.sinks.iter().enumerate() {
        let Some(topic) = sink.topic.as_literal() else { continue };
        for filter in &sink.filters {
            let Some(earlier) = seen.insert((sink.cluster, topic, filter), sink) else { continue };
            let chooses = |sink: &Sink| sink.fallback || !sink.exclude.is_empty();
            if earlier.name != sink.name && (chooses(earlier) || chooses(sink)) {
                continue;
            }
            let what = if earlier.name == sink.name {
                format!("\"{filter}\" is listed twice")
            } else {
                format!(
                    "\"{filter}\" is also written to topic {topic} by sink {}: each message is written twice",
                    earlier.name
                )
            };
            document.source.warn(&document.spot_in(Section::Sink, at, "filters"), Fault::new(what));
        }
    }
}

fn unused_clusters(document: &Document<'_>, config: &Config) {
    let sinks = config.sinks.iter().map(|sink| sink.cluster);
    let used: HashSet<usize> = sinks.chain(config.sources.iter().map(|source| source.cluster)).collect();
    for (at, cluster) in config.clusters.iter().enumerate() {
        if cluster.name != EMBEDDED && !used.contains(&at) {
            let what = "has no effect: no sink or source uses this cluster";
            document.source.warn(&document.spot_of(Section::Kafka, &cluster.name), Fault::new(what));
        }
    }
}

/// Warns of sources that feed sinks where there are none.
fn no_sinks(document: &Document<'_>, config: &Config) {
    for (at, source) in config.sources.iter().enumerate() {
        if config.sinks.is_empty() && source.feeds(Feed::Sinks) {
            let what = "\"sinks\" has no effect: there is no sink";
            document.source.warn(&document.spot_in(Section::Source, at, "feeds"), Fault::new(what));
        }
    }
}

/// Warns of receipts without effect: an answer can only name a record that Kafka has by then.
fn receipts(document: &Document<'_>, config: &Config) {
    let told = |sink: &Sink| matches!(sink.acknowledge, Acknowledge::Leader | Acknowledge::Replicated);
    if config.sinks.iter().any(told) {
        return;
    }
    for (at, listener) in config.listeners.iter().enumerate() {
        if listener.receipts {
            let what = "has no effect: no sink acknowledges at \"leader\" or \"replicated\"";
            document.source.warn(&document.spot_in(Section::Listener, at, "receipts"), Fault::new(what));
        }
    }
}
