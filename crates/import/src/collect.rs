//! The rules, actions, sources and connectors in a JSON text of EMQX: answers of its API (a page, a list, one object), objects of several lists, and the
//! keyed form of its export.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::notes::Notes;

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rule,
    Action,
    Connector,
    Source,
}

/// A rule, action, source or connector.
#[derive(Clone, Debug)]
pub(super) struct Thing<'j> {
    pub(super) kind: Kind,
    /// The type, as `kafka_producer`; empty for rules.
    pub(super) family: String,
    pub(super) name: String,
    pub(super) members: &'j Map<String, Value>,
}

impl Thing<'_> {
    /// The object's name in notes: `action kafka_producer:my_sink`.
    pub(super) fn about(&self) -> String {
        match self.kind {
            Kind::Rule => format!("rule {}", self.name),
            Kind::Action => format!("action {}:{}", self.family, self.name),
            Kind::Connector => format!("connector {}:{}", self.family, self.name),
            Kind::Source => format!("source {}:{}", self.family, self.name),
        }
    }
}

/// The type of consumers from Kafka.
pub(super) const CONSUMER: &str = "kafka_consumer";
/// The type of producers to Kafka, and its name before EMQX 5.3.
pub(super) const PRODUCER: &str = "kafka_producer";
const PRODUCER_OF_OLD: &str = "kafka";
/// Members of objects of several lists, and the kinds of their items.
const LISTS: [(&str, Kind); 4] =
    [("rules", Kind::Rule), ("actions", Kind::Action), ("connectors", Kind::Connector), ("sources", Kind::Source)];
/// The section of an export that has the rules.
const RULE_ENGINE: &str = "rule_engine";
/// The current name of a producer that older versions call `kafka:NAME`.
pub(super) fn family_of(name: &str) -> &str {
    if name == PRODUCER_OF_OLD { PRODUCER } else { name }
}

/// Finds the objects in a text's value. `file`: its name, for notes. Returns whether the value is an answer of EMQX at all.
pub(super) fn collect<'j>(file: &str, value: &'j Value, notes: &Notes, things: &mut Vec<Thing<'j>>) -> bool {
    let is_known = matches!(value, Value::Array(list) if list.is_empty());
    let mut collecting = Collecting { file, notes, things, is_known };
    collecting.any(value, file);
    collecting.is_known
}

struct Collecting<'c, 'j> {
    file: &'c str,
    notes: &'c Notes,
    things: &'c mut Vec<Thing<'j>>,
    is_known: bool,
}

impl<'j> Collecting<'_, 'j> {
    fn skip(&self, path: &str, why: impl Display) {
        self.notes.add(path, format_args!("left out: {why}"));
    }

    /// Collects a page, a list, an object of lists, or one object.
    fn any(&mut self, value: &'j Value, path: &str) {
        match value {
            Value::Array(list) => {
                for (at, value) in list.iter().enumerate() {
                    self.any(value, &format!("{path}[{at}]"));
                }
            }
            Value::Object(members) => match (kind_of(members), page(members)) {
                (Some(kind), _) => self.one(kind, members, path),
                (None, Some(page)) => {
                    self.is_known |= page.as_array().is_some_and(Vec::is_empty);
                    self.any(page, &format!("{path}.data"));
                }
                (None, None) => self.lists(members, path),
            },
            _ => self.skip(path, "it is neither an object nor a list"),
        }
    }

    fn lists(&mut self, members: &'j Map<String, Value>, path: &str) {
        for (key, value) in members {
            let path = format!("{path}.{key}");
            match LISTS.iter().find(|(list, _)| list == key) {
                Some((_, kind)) => self.list(*kind, value, &path),
                None if key == RULE_ENGINE && value.is_object() => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        let path = format!("{path}.{key}");
                        if key == "rules" {
                            self.list(Kind::Rule, value, &path);
                        } else {
                            self.skip(&path, "there is no such setting here");
                        }
                    }
                }
                None => self.skip(&path, "only rules, actions, sources and connectors are read"),
            }
        }
    }

    /// Collects objects of one kind: a list, a page, or objects under their names.
    fn list(&mut self, kind: Kind, value: &'j Value, path: &str) {
        self.is_known |= value.is_array() || value.is_object();
        match value {
            Value::Array(list) => {
                for (at, value) in list.iter().enumerate() {
                    let path = format!("{path}[{at}]");
                    match value.as_object() {
                        Some(members) => self.one(kind, members, &path),
                        None => self.skip(&path, "it is no object"),
                    }
                }
            }
            Value::Object(members) => match page(members) {
                Some(page) => self.list(kind, page, &format!("{path}.data")),
                None if kind == Kind::Rule => self.keyed(kind, "", members, path),
                None => {
                    for (family, named) in members {
                        let path = format!("{path}.{family}");
                        match named.as_object() {
                            Some(named) => self.keyed(kind, family, named, &path),
                            None => self.skip(&path, "it is no object"),
                        }
                    }
                }
            },
            _ => self.skip(path, "it is neither an object nor a list"),
        }
    }

    fn keyed(&mut self, kind: Kind, family: &str, named: &'j Map<String, Value>, path: &str) {
        for (name, value) in named {
            match value.as_object() {
                Some(members) => {
                    self.take(Thing { kind, family: family_of(family).to_owned(), name: name.clone(), members })
                }
                None => self.skip(&format!("{path}.{name}"), "it is no object"),
            }
        }
    }

    fn one(&mut self, kind: Kind, members: &'j Map<String, Value>, path: &str) {
        let text = |key: &str| members.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = if kind == Kind::Rule { text("id").or(text("name")) } else { text("name") };
        let family = text("type").map_or("", family_of).to_owned();
        match name {
            Some(name) => self.take(Thing { kind, family, name: name.to_owned(), members }),
            None => self.skip(path, "it has no name"),
        }
    }

    fn take(&mut self, thing: Thing<'j>) {
        let kind = if thing.kind == Kind::Action && thing.family == CONSUMER { Kind::Source } else { thing.kind };
        let thing = Thing { kind, ..thing };
        let is_there =
            |known: &Thing<'_>| (known.kind, &known.family, &known.name) == (thing.kind, &thing.family, &thing.name);
        if self.things.iter().any(is_there) {
            self.skip(&format!("{}: {}", self.file, thing.about()), "it was read already");
        } else {
            self.is_known = true;
            self.things.push(thing);
        }
    }
}

fn page(members: &Map<String, Value>) -> Option<&Value> {
    members.get("data").filter(|data| data.is_array())
}

/// The kind of a single object, by its members.
fn kind_of(members: &Map<String, Value>) -> Option<Kind> {
    let has = |key: &str| members.contains_key(key);
    let is_consumer = members.get("type").and_then(Value::as_str) == Some(CONSUMER);
    if has("sql") {
        Some(Kind::Rule)
    } else if has("bootstrap_hosts") {
        Some(Kind::Connector)
    } else if has("parameters") || has("connector") || has("kafka") && has("type") {
        Some(if is_consumer { Kind::Source } else { Kind::Action })
    } else {
        (has("type") && has("name")).then_some(Kind::Connector)
    }
}
