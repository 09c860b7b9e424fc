//! Configurations of other products, converted: rules, actions, sources and connectors of EMQX, and Zilla's binding (`zilla`). Notes say what could not be
//! converted.

#![forbid(unsafe_code)]

mod action;
mod collect;
mod connector;
mod draft;
mod given;
mod names;
mod notes;
mod republish;
mod rule;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod units;
mod zilla;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use action::Sink;
use collect::{CONSUMER, Kind, Thing, collect};
use connector::{cluster, family};
use draft::{Block, Draft};
use names::Names;
use notes::Notes;
use rule::{ActionKey, Feeder, Target};

pub use zilla::{Options, zilla};

/// Brokers of a connector that is not in the input.
const BOOTSTRAP_UNKNOWN: &str = "kafka.example:9092";

/// Notes that hold for every configuration.
const EVERYWHERE: [&str; 4] = [
    "listeners, users and access control are not read: without a [[listener]] only this machine can connect",
    "a message that a sink refuses or a rule fails for becomes a dead letter, where EMQX drops it: on_refuse and on_error",
    "user properties of messages become headers of records",
    "EMQX's defaults are written out; those that nobody has chosen are better left out: tcp_keepalive, socket_send_buffer, socket_receive_buffer, \
     metadata_min_age, linger; and partitioner = \"random\", with which records of one key lose their order",
];

/// The result of an import.
#[derive(Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration.
    pub text: String,
    /// The notes, one a line.
    pub notes: String,
}

/// Makes a configuration of JSON of EMQX: texts, each with the name of its file. `passwords`: the directory of the password files that it names.
///
/// # Errors
/// A text is not JSON, or contains nothing of EMQX.
pub fn emqx(files: &[(String, String)], passwords: &Path) -> Result<Imported, String> {
    let read = |(name, text): &(String, String)| {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("{name}: no JSON: {error}"))?;
        Ok((name.clone(), value))
    };
    let values: Vec<(String, Value)> = files.iter().map(read).collect::<Result<_, String>>()?;
    convert(&values, passwords)
}

/// Makes a configuration of values, each with the name of its file.
fn convert(values: &[(String, Value)], passwords: &Path) -> Result<Imported, String> {
    let notes = Notes::default();
    let mut things = Vec::new();
    for (file, value) in values {
        if !collect(file, value, &notes, &mut things) {
            return Err(format!("{file}: there are no rules, actions, sources or connectors of EMQX in it"));
        }
    }
    let mut import = Import { notes: &notes, clusters: Clusters::default(), passwords };
    let draft = import.draft(&things);
    let text = draft.settle(&notes);
    EVERYWHERE.iter().for_each(|note| notes.add("everywhere", note));
    Ok(Imported { text, notes: notes.into_text() })
}

/// The clusters that were made.
#[derive(Default)]
struct Clusters {
    names: Names,
    /// The cluster's name here, and whether it is enabled, by family and name of the connector.
    by_connector: BTreeMap<(String, String), (String, bool)>,
    blocks: Vec<Block>,
}

/// An action, and its destination.
struct Plan<'t, 'j> {
    thing: &'t Thing<'j>,
    /// The name of the action's sink.
    sink: String,
    /// The name of the sink's cluster.
    kafka: String,
    is_enabled: bool,
    /// A topic filter of messages that go to the action without a rule.
    local_topic: Option<String>,
}

/// Whether an action or source is about Kafka; if not, there is a note.
fn is_of_kafka(thing: &Thing<'_>, notes: &Notes) -> bool {
    let is = family(&thing.family).is_some() && (thing.kind == Kind::Source) == (thing.family == CONSUMER);
    if !is {
        notes.add(&thing.about(), "left out: it is not about Kafka");
    }
    is
}

struct Import<'i> {
    notes: &'i Notes,
    clusters: Clusters,
    passwords: &'i Path,
}

impl Import<'_> {
    /// Makes the configuration. Rules come before sinks: the templates of a sink depend on the columns of its rules.
    fn draft(&mut self, things: &[Thing<'_>]) -> Draft {
        let of = |kind: Kind| things.iter().filter(move |thing| thing.kind == kind);
        of(Kind::Connector).for_each(|thing| self.connector(thing));
        let plans = self.plans(of(Kind::Action));
        let rules = self.rules(of(Kind::Rule), &plans);
        let mut sinks: Vec<Sink> = Vec::new();
        for plan in &plans {
            let feeds = |rule: &&Feeder| rule.is_in_force() && rule.sinks.contains(&plan.sink);
            let feeders: Vec<&Feeder> = rules.iter().filter(feeds).collect();
            sinks.push(action::sink(plan.thing, &plan.sink, &plan.kafka, &feeders, self.notes));
        }
        let sources = self.sources(of(Kind::Source));
        let mut blocks = std::mem::take(&mut self.clusters.blocks);
        if sinks.iter().any(|sink| sink.is_on_disk) {
            blocks.push(Block::named(&["spool"], "records on disk"));
            // A disk buffer would be the default of the other sinks as well.
            sinks.iter_mut().filter(|sink| !sink.is_on_disk).for_each(|sink| sink.block.set("buffer", "memory"));
        }
        blocks.extend(rules.into_iter().flat_map(|rule| rule.blocks));
        blocks.extend(sinks.into_iter().map(|sink| sink.block));
        blocks.extend(sources);
        Draft { blocks }
    }

    fn plans<'t, 'j>(&mut self, actions: impl Iterator<Item = &'t Thing<'j>>) -> Vec<Plan<'t, 'j>> {
        let (mut names, notes) = (Names::default(), self.notes);
        let mut plan = |thing: &'t Thing<'j>| {
            let head = action::head(thing);
            let sink = names.give(&thing.name, &thing.about(), notes);
            let (kafka, is_enabled) = self.cluster_of(thing, head.connector.as_deref());
            Plan { thing, sink, kafka, is_enabled: is_enabled && head.is_enabled, local_topic: head.local_topic }
        };
        actions.filter(|thing| is_of_kafka(thing, notes)).map(&mut plan).collect()
    }

    fn rules<'t, 'j: 't>(&self, things: impl Iterator<Item = &'t Thing<'j>>, plans: &[Plan<'_, '_>]) -> Vec<Feeder> {
        let target = |plan: &Plan<'_, '_>| {
            let key = (plan.thing.family.clone(), plan.thing.name.clone());
            (key, Target { sink: plan.sink.clone(), is_enabled: plan.is_enabled })
        };
        let targets: BTreeMap<ActionKey, Target> = plans.iter().map(target).collect();
        let mut names = Names::default();
        let mut rules = Vec::new();
        for thing in things {
            let name = names.give(&thing.name, &thing.about(), self.notes);
            rules.push(rule::rule(thing, &name, &targets, self.notes));
        }
        for plan in plans {
            if let Some(filter) = &plan.local_topic {
                let about = plan.thing.about();
                let name = names.give(&format!("{}-local-topic", plan.sink), &about, self.notes);
                rules.push(Feeder::of_filter(&name, filter, plan, self.notes));
            }
        }
        rules
    }

    fn sources<'t, 'j: 't>(&mut self, things: impl Iterator<Item = &'t Thing<'j>>) -> Vec<Block> {
        let (mut names, notes) = (Names::default(), self.notes);
        let mut blocks = Vec::new();
        for thing in things.filter(|thing| is_of_kafka(thing, notes)) {
            let (kafka, is_enabled) = self.cluster_of(thing, action::head(thing).connector.as_deref());
            blocks.extend(source::sources(thing, &mut names, (&kafka, is_enabled), notes));
        }
        blocks
    }

    fn connector(&mut self, thing: &Thing<'_>) {
        let Some(family) = family(&thing.family) else {
            self.notes.add(&thing.about(), "left out: it is not about Kafka");
            return;
        };
        let key = (thing.family.clone(), thing.name.clone());
        let name = self.clusters.names.give(&thing.name, &thing.about(), self.notes);
        let made = cluster(thing, &name, family, self.passwords, self.notes);
        self.clusters.by_connector.insert(key, (name, made.is_enabled));
        self.clusters.blocks.extend(made.blocks);
    }

    /// The cluster of an action or source, and whether it is enabled. A connector that is not in the input gets a placeholder.
    fn cluster_of(&mut self, thing: &Thing<'_>, connector: Option<&str>) -> (String, bool) {
        let connector = connector.unwrap_or("main");
        let key = (thing.family.clone(), connector.to_owned());
        if let Some((name, is_enabled)) = self.clusters.by_connector.get(&key) {
            return (name.clone(), *is_enabled);
        }
        let about = format!("connector {}:{connector}", thing.family);
        let name = self.clusters.names.give(connector, &about, self.notes);
        self.notes.add(&about, format_args!("it is not in what was read: set bootstrap of [kafka.{name}]"));
        let mut block = Block::named(&["kafka", &name], &about);
        block.set("bootstrap", BOOTSTRAP_UNKNOWN);
        self.clusters.blocks.push(block);
        self.clusters.by_connector.insert(key, (name.clone(), true));
        (name, true)
    }
}
