//! `other_properties` of `[kafka.NAME]`: properties of Kafka's Java producer, with their own names and as text. The value of each
//! is moved to the key with its meaning, in the cluster's table or in the tables of its sinks, before anything is checked: every
//! rule for a key applies to a property, and a problem names the position of the property.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kafka_names::{self, plain, without_meaning};
use super::keys::Section;
use super::problem::{Fault, did_you_mean};
use super::reader::{Source, Spot, Table, in_file_order};
use super::{java, values};

/// The conversion of a property's text into the value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Text,
    Integer,
    Millis,
    Bytes,
}

/// Properties of the connection and of the cluster, in the form of [`plain`].
const OF_CLUSTERS: [(&str, &str, As); 10] = [
    ("client_id", "client_id", As::Text),
    ("request_timeout_ms", "request_timeout", As::Millis),
    ("metadata_max_age_ms", "metadata_max_age", As::Millis),
    ("socket_connection_setup_timeout_ms", "connect_timeout", As::Millis),
    ("reconnect_backoff_ms", "reconnect_backoff_min", As::Millis),
    ("reconnect_backoff_max_ms", "reconnect_backoff_max", As::Millis),
    ("send_buffer_bytes", "socket_send_buffer", As::Bytes),
    ("receive_buffer_bytes", "socket_receive_buffer", As::Bytes),
    ("buffer_memory", "buffer_bytes", As::Bytes),
    ("bootstrap_servers", "bootstrap", As::Text),
];

/// Properties of a producer: a sink has them.
const OF_SINKS: [(&str, &str, As); 8] = [
    ("linger_ms", "linger", As::Millis),
    ("batch_size", "batch_bytes", As::Bytes),
    ("max_request_size", "record_bytes_max", As::Bytes),
    ("compression_type", "compression", As::Text),
    ("compression_gzip_level", "compression_level", As::Integer),
    ("compression_zstd_level", "compression_level", As::Integer),
    ("max_in_flight_requests_per_connection", "max_inflight", As::Integer),
    ("retries", "retries", As::Integer),
];

/// Properties of Kafka 4's producer that change nothing here, beside those of [`without_meaning`].
const WITHOUT_EFFECT: [&str; 17] = [
    "config_providers",
    "delivery_timeout_ms",
    "key_serializer",
    "metadata_max_idle_ms",
    "metadata_recovery_rebootstrap_trigger_ms",
    "metadata_recovery_strategy",
    "partitioner_class",
    "ssl_cipher_suites",
    "ssl_enabled_protocols",
    "ssl_engine_factory_class",
    "ssl_keymanager_algorithm",
    "ssl_protocol",
    "ssl_provider",
    "ssl_secure_random_implementation",
    "ssl_trustmanager_algorithm",
    "transaction_timeout_ms",
    "value_serializer",
];

/// The properties that change nothing here.
fn without_effect() -> impl Iterator<Item = &'static str> {
    WITHOUT_EFFECT.into_iter().chain(without_meaning().map(|(name, _)| name))
}

/// A property with its place.
struct Given<'a> {
    name: String,
    text: Cow<'a, str>,
    spot: Spot,
}

/// Reads the properties as they were given, for showing them.
pub(super) fn read(table: &Table<'_>) -> Vec<(String, String)> {
    let mut given = Vec::new();
    for (name, value, spot) in table.entries("other_properties") {
        match value {
            DeValue::String(text) => given.push((name.to_owned(), text.clone().into_owned())),
            other => table.source.report(&spot, values::wrong_type("a string", other)),
        }
    }
    given
}

/// Puts these properties of all clusters into the keys of the tables.
pub(super) fn translate(root: &mut DeTable<'_>, source: &Source<'_>) {
    let Some(DeValue::Table(clusters)) = root.get(Section::Kafka.name()).map(Spanned::get_ref) else { return };
    let is_alone = clusters.len() == 1 && !root.contains_key(Section::Embedded.name());
    let of_clusters: Vec<(String, Vec<Given<'_>>)> = clusters
        .iter()
        .map(|(name, cluster)| (name.get_ref().to_string(), given(name.get_ref(), cluster.get_ref())))
        .filter(|(_, given)| !given.is_empty())
        .collect();
    for (name, given) in &of_clusters {
        for one in given {
            place(root, source, (name, is_alone), one);
        }
    }
    if !of_clusters.is_empty() {
        java::translate(root, source);
    }
}

fn given<'a>(cluster: &str, table: &DeValue<'a>) -> Vec<Given<'a>> {
    let properties = table.as_table().and_then(|table| table.get("other_properties")?.get_ref().as_table());
    let one = |(name, value): (&Spanned<_>, &Spanned<DeValue<'a>>)| {
        let DeValue::String(text) = value.get_ref() else { return None };
        let name: &Cow<'_, str> = name.get_ref();
        let path = format!("kafka.{cluster}.other_properties.{name}");
        Some(Given { name: name.to_string(), text: text.clone(), spot: Spot { path, span: value.span() } })
    };
    properties.map_or_else(Vec::new, |properties| in_file_order(properties).into_iter().filter_map(one).collect())
}

/// Moves one property of a cluster to its key. `is_alone`: sinks that name no cluster belong to this one.
fn place<'a>(root: &mut DeTable<'a>, source: &Source<'_>, (cluster, is_alone): (&str, bool), given: &Given<'a>) {
    let name = plain(&given.name);
    if let Some((_, key, form)) = OF_CLUSTERS.iter().find(|(known, ..)| *known == name) {
        // Java's -1 is the system's own.
        if *form != As::Bytes || given.text.trim() != "-1" {
            in_cluster(root, source, cluster, key, value(given, *form), given);
        }
    } else if java::NAMES.contains(&name.as_str()) {
        in_cluster(root, source, cluster, &given.name, DeValue::String(given.text.clone()), given);
    } else if let Some((_, key, form)) = OF_SINKS.iter().find(|(known, ..)| *known == name) {
        in_sinks(root, (cluster, is_alone), key, &value(given, *form), &given.spot.span);
    } else if name == "acks" {
        let levels: &[(&str, &'static str)] = match given.text.trim() {
            "0" => &[("acknowledge", "received"), ("acks", "0")],
            "1" => &[("acknowledge", "leader")],
            "all" | "-1" => &[],
            _ => {
                let fault = Fault::new(format!("\"{}\" is not a valid value", given.text));
                return source.report(&given.spot, fault.hint("must be one of \"all\", \"1\", \"0\""));
            }
        };
        for (key, word) in levels {
            let value = DeValue::String(Cow::Borrowed(word));
            in_sinks(root, (cluster, is_alone), key, &value, &given.spot.span);
        }
    } else if name == "partitioner_ignore_keys" {
        if given.text.trim() == "true" {
            let value = DeValue::String(Cow::Borrowed("sticky"));
            in_sinks(root, (cluster, is_alone), "partitioner", &value, &given.spot.span);
        }
    } else if without_effect().any(|known| known == name) {
        let fault = Fault::new("changes nothing here");
        let cure = kafka_names::cure(&given.name).unwrap_or("leave it out");
        source.warn(&given.spot, fault.hint(cure));
    } else {
        let known = OF_CLUSTERS.iter().chain(&OF_SINKS).map(|(name, ..)| *name).chain(without_effect()).chain(["acks"]);
        let hint = did_you_mean(&name, known.chain(java::NAMES)).map(|hint| hint.replace('_', "."));
        let hint = hint.unwrap_or_else(|| "docs/CONFIGURATION.md lists them".to_owned());
        source.report(&given.spot, Fault::new("is not a property of Kafka's producer").hint(hint));
    }
}

/// A property's value in the form of the file. A text that is no such value is left unchanged: the reader of the key reports it.
fn value<'a>(given: &Given<'a>, form: As) -> DeValue<'a> {
    let text = || DeValue::String(given.text.clone());
    let is_number = given.text.bytes().all(|byte| byte.is_ascii_digit()) && !given.text.is_empty();
    match (form, &given.text) {
        (As::Millis, number) if is_number => DeValue::String(format!("{number}ms").into()),
        (As::Bytes, number) if is_number => DeValue::String(format!("{number}B").into()),
        (As::Integer, Cow::Borrowed(number)) if is_number => {
            DeValue::parse(number).map_or_else(|_| text(), Spanned::into_inner)
        }
        _ => text(),
    }
}

fn in_cluster<'a>(
    root: &mut DeTable<'a>,
    source: &Source<'_>,
    cluster: &str,
    key: &str,
    value: DeValue<'a>,
    given: &Given<'_>,
) {
    let Some(DeValue::Table(clusters)) = root.get_mut(Section::Kafka.name()).map(Spanned::get_mut) else { return };
    let Some(DeValue::Table(table)) = clusters.get_mut(cluster).map(Spanned::get_mut) else { return };
    if let Some(there) = table.get(key) {
        let spot = Spot { path: format!("kafka.{cluster}.{key}"), span: there.span() };
        // The environment takes precedence over the file, under any name that the file uses.
        if !source.is_of_environment(&spot) {
            let fault = Fault::new(format!("says the same as {}, which is set as well", spot.path));
            source.report(&given.spot, fault.hint("leave one out"));
        }
        return;
    }
    insert(table, key, value, &given.spot.span);
}

/// Puts a value into all sinks of the cluster that do not set the key themselves.
fn in_sinks<'a>(
    root: &mut DeTable<'a>,
    (cluster, is_alone): (&str, bool),
    key: &str,
    value: &DeValue<'a>,
    span: &Range<usize>,
) {
    let Some(DeValue::Array(sinks)) = root.get_mut(Section::Sink.name()).map(Spanned::get_mut) else { return };
    for sink in sinks.iter_mut() {
        let DeValue::Table(sink) = sink.get_mut() else { continue };
        let names = sink.get("kafka").map(|kafka| kafka.get_ref().as_str());
        let is_its_own = names.map_or(is_alone, |name| name == Some(cluster));
        if is_its_own && !sink.contains_key(key) {
            insert(sink, key, value.clone(), span);
        }
    }
}

fn insert<'a>(table: &mut DeTable<'a>, key: &str, value: DeValue<'a>, span: &Range<usize>) {
    table.insert(Spanned::new(span.clone(), key.to_owned().into()), Spanned::new(span.clone(), value));
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::super::{Acknowledge, Compression, parse};
    use super::*;

    const SINK: &str = "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n";

    fn text(properties: &str, sink: &str) -> String {
        format!("[kafka.main]\nbootstrap = 'k:1'\n[kafka.main.other_properties]\n{properties}\n{SINK}{sink}\n")
    }

    #[test]
    fn each_has_a_key_or_is_known_to_have_none() {
        for (name, key, _) in OF_CLUSTERS {
            assert!(keys::of(Section::Kafka).any(|known| known.name == key), "{name}");
        }
        for (name, key, _) in OF_SINKS {
            assert!(keys::of(Section::Sink).any(|known| known.name == key), "{name}");
        }
        let document = include_str!("../../../docs/CONFIGURATION.md");
        let missing: Vec<_> =
            WITHOUT_EFFECT.iter().filter(|name| !document.contains(&name.replace('_', "."))).collect();
        assert!(missing.is_empty(), "not in CONFIGURATION.md: {missing:?}");
        let twice: Vec<_> = without_meaning().filter(|(name, _)| WITHOUT_EFFECT.contains(name)).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn properties_become_keys_of_the_cluster_and_of_its_sinks() {
        let properties = "'linger.ms' = '7'\n'batch.size' = '32768'\n'compression.type' = 'zstd'\n'compression.zstd.level' = '9'\n\
                          'request.timeout.ms' = '3000'\n'send.buffer.bytes' = '-1'\n'receive.buffer.bytes' = '65536'\n\
                          'max.in.flight.requests.per.connection' = '1'\n'acks' = '1'\n'security.protocol' = 'SSL'\n\
                          'ssl.endpoint.identification.algorithm' = ''\n";
        let config = parse(&text(properties, "linger = '9ms'"), "test").expect("valid");
        let (cluster, sink) = (&config.clusters[0], &config.sinks[0]);
        assert_eq!(cluster.times.request_timeout.as_millis(), 3_000);
        assert_eq!((cluster.sockets.send_buffer, cluster.sockets.receive_buffer), (None, Some(65_536)));
        assert!(cluster.tls.as_ref().is_some_and(|tls| !tls.is_name_checked));
        assert_eq!(cluster.other_properties.len(), 11);
        assert_eq!(sink.linger.as_millis(), 9, "the sink's own comes first");
        assert_eq!((sink.batch_bytes, sink.max_inflight), (32_768, 1));
        assert_eq!((sink.compression, sink.compression_level), (Compression::Zstd, Some(9)));
        assert_eq!(sink.acknowledge, Acknowledge::Leader);
        assert!(config.warnings.0.is_empty(), "{}", config.warnings);
    }

    #[test]
    fn what_changes_nothing_is_named_and_what_is_none_is_an_error() {
        for name in ["max.block.ms", "ssl.provider", "session.timeout.ms"] {
            let config = parse(&text(&format!("'{name}' = '1'"), ""), "test").expect("valid");
            let said = config.warnings.to_string();
            assert!(said.contains(&format!("kafka.main.other_properties.{name}: changes nothing here")), "{said}");
        }
        for (properties, want) in [
            ("'linger.msx' = '1'", "is not a property of Kafka's producer; did you mean \"linger.ms\"?"),
            ("'linger.ms' = 'soon'", "\"soon\" is not a duration"),
            ("'acks' = '2'", "\"2\" is not a valid value"),
            ("'linger.ms' = 5", "expected a string, found the integer 5"),
            ("'sasl.jaas.config' = 'x'", "kafka.main.sasl.jaas.config"),
            ("'bootstrap.servers' = 'k:2'", "says the same as kafka.main.bootstrap"),
        ] {
            let said = parse(&text(properties, ""), "test").expect_err(properties).to_string();
            assert!(said.contains(want), "{properties}: {said}");
        }
    }
}
