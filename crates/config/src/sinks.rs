//! The sinks, each checked against its cluster.

use std::collections::{BTreeMap, HashMap};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::clusters::Target;
use super::keys::Section;
use super::problem::{Fault, did_you_mean};
use super::reader::{Source, Spot, Table};
use super::resolve::Document;
use super::resolved::{Acknowledge, Buffer, Compression, OnRefuse, Rule, Sink, ValueFormat};
use super::rows::{self, Over};
use super::rules::Drafts;
use super::setting::{Setting as _, Settings as _};
use super::units::ShowSize;
use super::{Overrides, dead_letters, spool, values};
use forebay_kafka::producer::IN_FLIGHT_MAX;
use forebay_mqtt::route::filter;
use forebay_record::compression::Codec;
use forebay_rule::template::Fixed;

/// The topic of the default sink.
pub(super) const TOPIC_DEFAULT: &str = "mqtt-messages";
/// The most that a batch of one record has beside key, value and headers: its header and the record's own lengths.
const BATCH_OVERHEAD: u64 = 128;

/// Reads the sinks, or makes the default one.
pub(super) fn resolve(
    document: &Document<'_>,
    overrides: &Overrides,
    (targets, shards): (&[Target], usize),
    rules: &Drafts<'_>,
) -> Vec<Sink> {
    let tables = document.tables(Section::Sink);
    let place = spool::Place { spool: document.has(Section::Spool), shards };
    document.bound(Section::Sink, &tables);
    let mut names = HashMap::new();
    let sinks = tables
        .iter()
        .filter_map(|table| {
            let name = unique_name(table, &mut names, "sink");
            let feeders = name.as_deref().map_or_else(Vec::new, |name| rules.feeders(name));
            sink(table, name, targets, &overrides.environment, (place, &feeders))
        })
        .collect();
    dead_letters::check_files(&tables);
    if !tables.is_empty() {
        targets.iter().for_each(|target| check_room(document.source, target, shards));
        return sinks;
    }
    let names_kafka = document.has(Section::Kafka) && overrides.kafka.is_none() && !document.has(Section::Sink);
    // Kafka is only read from, or has topics for all messages.
    if names_kafka && document.has(Section::Source) || document.has(Section::Broker) {
        return sinks;
    }
    // A file that names Kafka's brokers without filters would silently lose every message.
    if names_kafka {
        let fault = Fault::new("there is no [[sink]]: nothing would be written to Kafka");
        document.source.report(&document.spot(Section::Kafka), fault.hint("add one with name, filters and topic"));
    }
    let sink = sink_default(document, overrides, targets, place);
    targets.iter().for_each(|target| check_room(document.source, target, shards));
    sink.into_iter().collect()
}

/// Reads the name of a sink or source, and reports a name that another one of its kind has.
pub(super) fn unique_name(table: &Table<'_>, names: &mut HashMap<String, Spot>, kind: &str) -> Option<String> {
    let name = table.find("name", values::name)?;
    let spot = table.spot("name");
    if let Some(earlier) = names.insert(name.clone(), spot.clone()) {
        let what = format!("\"{name}\" is already the name of another {kind}, on {}", table.source.where_is(&earlier));
        table.source.report(&spot, Fault::new(what).hint(format!("each {kind} needs a unique name")));
    }
    Some(name)
}

/// The sink of a configuration without one: everything, to the first cluster.
fn sink_default(
    document: &Document<'_>,
    overrides: &Overrides,
    targets: &[Target],
    place: spool::Place,
) -> Option<Sink> {
    let mut entries = DeTable::new();
    for (key, value) in [("name", "default"), ("filters", "#"), ("topic", TOPIC_DEFAULT)] {
        let value = DeValue::String(value.into());
        entries.insert(Spanned::new(0..0, key.into()), Spanned::new(0..0, value));
    }
    let spot = Spot::nowhere("default sink");
    let table = Table::new(document.source, Section::Sink, &entries, spot);
    sink(&table, Some("default".to_owned()), targets.get(..1)?, &overrides.environment, (place, &[]))
}

fn sink(
    table: &Table<'_>,
    name: Option<String>,
    targets: &[Target],
    environment: &BTreeMap<String, String>,
    (place, feeders): (spool::Place, &[&Rule]),
) -> Option<Sink> {
    let metadata = metadata(table);
    let fixed = Fixed { metadata: &metadata, environment };
    let mut sink = Sink::read(table);
    sink.compression_level = compression_level(table, sink.compression);
    (sink.buffer, sink.acknowledge) = spool::buffer(table, place);
    sink.acks = acks(table, sink.acknowledge);
    sink.exclude = own(filters(table, "exclude", SHARED));
    sink.filters = own_filters(table, feeders);
    let is_fed_alone = !table.has("filters");
    let before = table.source.problem_count();
    let (topic, row) = rows::read(table, if is_fed_alone { Over::Output(&fixed) } else { Over::Message(&fixed) });
    // A problem of the templates over a message is not reported again for the same templates over an output.
    let is_good = table.source.problem_count() == before;
    sink.fed = match feeders {
        _ if is_fed_alone => Some(row.clone()),
        [] => None,
        _ => is_good.then(|| rows::beside_filters(table, &fixed)).flatten(),
    }
    .map(Box::new);
    if let Some(fed) = &sink.fed {
        rows::check_columns(table, fed, feeders);
    }
    (sink.key, sink.value, sink.timestamp) = (row.key, row.value, row.timestamp);
    (sink.headers, sink.headers_from) = (row.headers, row.headers_from);
    // The JSON object is the value; a template of the value would never be used.
    if sink.value_format == ValueFormat::Json && table.has("value") {
        let fault = Fault::new("cannot be combined with value_format = \"json\"");
        table.source.report(&table.spot("value"), fault.hint("remove one of the two"));
    }
    sink.user_property_prefix = table.find("user_property_prefix", values::text).unwrap_or_default();
    sink.max_inflight = max_inflight(table, sink.max_inflight);
    sink.no_dead_letters = dead_letters::is_off(table);
    sink.dead_letters = dead_letters::read(table, topic.as_ref());
    sink.on_refuse = on_refuse(table, sink.dead_letters.is_some() || !sink.no_dead_letters, sink.acknowledge);
    if sink.retries.is_some() && sink.acknowledge == Acknowledge::Stored && sink.no_dead_letters {
        let what = "a record that was acknowledged at \"stored\" would be lost when its retries are used up";
        let hint = "let the sink have dead letters, or leave retries out";
        table.source.report(&table.spot("retries"), Fault::new(what).hint(hint));
    }
    check_memory_overload_protection(table, &sink);
    let (batch_bytes, record_bytes_max) = (sink.batch_bytes as u64, sink.record_bytes_max as u64);
    let cluster = target(table, targets);
    let need = (batch_bytes + record_bytes_max, cluster.map(|cluster| &targets[cluster]));
    sink.spill_after = spool::spill_after(table, sink.buffer, place, need);
    if let Some(target) = cluster.map(|cluster| &targets[cluster]) {
        let need = batch_bytes + record_bytes_max;
        if need > target.need.borrow().0 {
            target.need.replace((need, table.spot.path.clone()));
        }
        check_message(table, "batch_bytes", batch_bytes, target);
        check_message(table, "record_bytes_max", record_bytes_max + BATCH_OVERHEAD, target);
    }
    sink.description = table.find("description", values::text);
    sink.metadata = metadata;
    (sink.name, sink.cluster, sink.topic) = (name?, cluster?, topic?);
    Some(sink)
}

/// Reads `on_refuse`. `has_letters`: the sink has dead letters, in its own topic or file or in the shared file.
fn on_refuse(table: &Table<'_>, has_letters: bool, acknowledge: Acknowledge) -> OnRefuse {
    match table.find("on_refuse", OnRefuse::of) {
        Some(OnRefuse::DeadLetter) if !has_letters => {
            let fault = Fault::new("the sink has no dead letters");
            let hint = "set dead_letters_topic or dead_letters_file, or on_refuse to \"reject\" or \"drop\"";
            table.source.report(&table.spot("on_refuse"), fault.hint(hint));
            OnRefuse::Reject
        }
        Some(asked) => asked,
        None if has_letters => OnRefuse::DeadLetter,
        None if acknowledge == Acknowledge::Received => OnRefuse::Drop,
        None => {
            let what = "the sink has no dead letters: a message that it can never take reaches no destination, and its publisher is told";
            let hint = "add on_refuse = \"reject\" if that is meant, or \"drop\" if only this sink is to go without it; a later version requires the key";
            table.source.warn(&table.spot("dead_letters_file"), Fault::new(what).hint(hint));
            OnRefuse::Reject
        }
    }
}

/// Reports `memory_overload_protection`, which drops records, on a sink with records that publishers rely on.
fn check_memory_overload_protection(table: &Table<'_>, sink: &Sink) {
    if sink.memory_overload_protection && (sink.buffer, sink.acknowledge) != (Buffer::Memory, Acknowledge::Received) {
        let what = "would drop records whose publishers rely on them";
        let hint =
            "set acknowledge to \"received\" and buffer to \"memory\", or leave it out: buffer_bytes limits memory";
        table.source.report(&table.spot("memory_overload_protection"), Fault::new(what).hint(hint));
    }
}

/// Reads the batches in flight, of which there are at most as many as Kafka keeps in order.
fn max_inflight(table: &Table<'_>, wanted: usize) -> usize {
    if wanted > IN_FLIGHT_MAX {
        let what = format!("{wanted} is taken as {IN_FLIGHT_MAX}: Kafka keeps no more batches of a partition in order");
        table.source.warn(&table.spot("max_inflight"), Fault::new(what).hint(format!("set it to {IN_FLIGHT_MAX}")));
    }
    wanted.min(IN_FLIGHT_MAX)
}

/// Reads `acks`. It can be chosen only if no publisher waits for the brokers' answer.
fn acks(table: &Table<'_>, acknowledge: Acknowledge) -> i16 {
    let said = match acknowledge {
        Acknowledge::Leader => 1,
        Acknowledge::Received | Acknowledge::Replicated | Acknowledge::Stored => -1,
    };
    let Some(word) = table.find("acks", values::acks) else { return said };
    let given = match word {
        "0" => 0,
        "1" => 1,
        _ => -1,
    };
    if acknowledge != Acknowledge::Received && given != said {
        let (level, means) = match acknowledge {
            Acknowledge::Leader => ("leader", "1"),
            Acknowledge::Stored => ("stored", "all"),
            Acknowledge::Received | Acknowledge::Replicated => ("replicated", "all"),
        };
        let what = format!("acknowledge = \"{level}\" means acks = \"{means}\"");
        let hint = "leave acks out, or set acknowledge to \"received\"";
        table.source.report(&table.spot("acks"), Fault::new(what).hint(hint));
    }
    given
}

/// The level of a codec that has levels, within that codec's bounds.
fn compression_level(table: &Table<'_>, compression: Compression) -> Option<i32> {
    let level = i32::try_from(table.find("compression_level", values::integer)?).ok()?;
    let codec = match compression {
        Compression::Gzip => Codec::Gzip,
        Compression::Zstd => Codec::Zstd,
        Compression::None | Compression::Snappy | Compression::Lz4 => Codec::None,
    };
    let report = |what: String, hint: &str| {
        table.source.report(&table.spot("compression_level"), Fault::new(what).hint(hint));
    };
    match codec.levels() {
        None => {
            report("this codec has no levels".to_owned(), "leave it out, or set compression to \"gzip\" or \"zstd\"")
        }
        Some((min, max, _)) if !(min..=max).contains(&level) => {
            report(
                format!("{level} is out of range"),
                &format!("with this compression it must be from {min} to {max}"),
            );
        }
        Some(_) => {}
    }
    Some(level)
}

/// The cluster that a sink or source names, or the only one there is.
pub(super) fn target(table: &Table<'_>, targets: &[Target]) -> Option<usize> {
    let names = || targets.iter().map(|target| target.name.as_str());
    let known = || names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    if !table.has("kafka") {
        // Without any cluster, `[kafka]` is wrong, and that has been reported.
        if targets.len() > 1 && !table.source.is_full() {
            let fault = Fault::new("is required because there are several clusters");
            table.source.report(&table.spot("kafka"), fault.hint(format!("must be one of {}", known())));
        }
        return (targets.len() == 1).then_some(0);
    }
    let name = table.find("kafka", values::text)?;
    let found = names().position(|known| known == name);
    if found.is_none() && !table.source.is_full() {
        let hint = did_you_mean(&name, names()).unwrap_or_else(|| match targets {
            [] => "add [kafka.NAME]".to_owned(),
            _ => format!("there is {}", known()),
        });
        table.source.report(&table.spot("kafka"), Fault::new(format!("there is no cluster \"{name}\"")).hint(hint));
    }
    found
}

/// Reports a buffer that is too small: a shard's part that could not hold one full batch and one large record would block for ever.
fn check_room(source: &Source<'_>, target: &Target, shards: usize) {
    let (need, sink) = &*target.need.borrow();
    if target.share >= *need {
        return;
    }
    let what = format!(
        "a shard's share ({} for {shards} shards) cannot hold batch_bytes and record_bytes_max of {sink} ({})",
        ShowSize(target.share),
        ShowSize(*need)
    );
    let hint =
        format!("set it to at least \"{}\", or lower batch_bytes and record_bytes_max", ShowSize(need * shards as u64));
    source.report(&target.spot, Fault::new(what).hint(hint));
}

/// Reports a record or batch that is too large for the embedded log; the bound of a cluster is known only to its operator.
fn check_message(table: &Table<'_>, key: &str, need: u64, target: &Target) {
    let Some(max) = target.message_bytes_max.filter(|max| *max < need) else { return };
    let what = format!("a batch of {need} bytes is more than embedded.message_bytes_max, {max}");
    table.source.report(&table.spot(key), Fault::new(what).hint("lower one or raise the other"));
}

/// Reads the filters of a sink. A sink without filters that no rule feeds gets nothing: this allows adding a sink before its rule.
fn own_filters(table: &Table<'_>, feeders: &[&Rule]) -> Vec<String> {
    if table.has("filters") {
        return own(filters(table, "filters", SHARED));
    }
    if feeders.is_empty() {
        let fault = Fault::new("the sink gets no message: it has no filters, and no [[rule]] names it");
        table.source.warn(&table.spot("filters"), fault.hint("add filters, as in [\"telemetry/#\"], or a rule"));
    }
    Vec::new()
}

/// The hint for a shared subscription.
const SHARED: &str = "a sink gets each message exactly once anyway: remove $share and the group";

fn own(filters: Vec<(String, Spot)>) -> Vec<String> {
    filters.into_iter().map(|(filter, _)| filter).collect()
}

/// Reads filters, each with its position. `of_shared`: the hint for a shared subscription, which is not allowed.
pub(super) fn filters(table: &Table<'_>, name: &str, of_shared: &str) -> Vec<(String, Spot)> {
    let mut filters = Vec::new();
    for (filter, spot) in table.texts(name) {
        match filter::validate(&filter) {
            Err(error) => {
                table.source.report(&spot, Fault::new(format!("\"{filter}\" is not a valid topic filter: {error}")))
            }
            Ok(()) if filter.starts_with("$share/") => {
                let what = format!("\"{filter}\" is a shared subscription");
                table.source.report(&spot, Fault::new(what).hint(of_shared));
            }
            Ok(()) => filters.push((filter, spot)),
        }
    }
    filters
}

fn metadata(table: &Table<'_>) -> Vec<(String, String)> {
    let mut metadata = Vec::new();
    for (name, value, spot) in table.entries("metadata") {
        match value {
            DeValue::String(_) if name.is_empty() => table.source.report(&spot, Fault::new("an entry needs a name")),
            DeValue::String(text) => metadata.push((name.to_owned(), text.clone().into_owned())),
            DeValue::Table(_) => {
                let fault = values::wrong_type("a string", value).hint("quote a name that contains dots");
                table.source.report(&spot, fault);
            }
            other => table.source.report(&spot, values::wrong_type("a string", other)),
        }
    }
    metadata
}
