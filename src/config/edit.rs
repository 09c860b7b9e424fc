//! An edit of one sink, source, rule, cluster, bridge or listener in the text of a configuration. Comments, order and everything else stay as they are.

use std::fmt;

use serde_json::{Map, Value as Json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::keys::{self, Section};
use super::resolve::LISTENER_DEFAULT;
use super::sinks::TOPIC_DEFAULT;
use super::{Beside, EMBEDDED, Text};

/// The kind of part that an edit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `[[sink]]`, known by `name`.
    Sink,
    /// `[kafka.NAME]`.
    Cluster,
    /// `[[listener]]`, known by `bind`.
    Listener,
    /// `[[source]]`, known by `name`.
    Source,
    /// `[[rule]]`, known by `name`.
    Rule,
    /// `[bridge.NAME]`.
    Bridge,
}

impl Part {
    pub(super) const fn table(self) -> Section {
        match self {
            Self::Sink => Section::Sink,
            Self::Cluster => Section::Kafka,
            Self::Listener => Section::Listener,
            Self::Source => Section::Source,
            Self::Rule => Section::Rule,
            Self::Bridge => Section::Bridge,
        }
    }

    /// The part's name for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Cluster => "Kafka cluster",
            Self::Listener => "listener",
            Self::Source => "source",
            Self::Rule => "rule",
            Self::Bridge => "bridge",
        }
    }

    /// Whether the part is a table with its name in the header, and not one of a list.
    pub(super) const fn is_table(self) -> bool {
        matches!(self, Self::Cluster | Self::Bridge)
    }

    /// The key at the top of the file.
    fn section(self) -> &'static str {
        self.table().name()
    }

    /// The key that holds the name, in a part that is a list.
    pub(super) const fn name_key(self) -> &'static str {
        match self {
            Self::Listener => "bind",
            Self::Sink | Self::Cluster | Self::Source | Self::Rule | Self::Bridge => "name",
        }
    }
}

/// The part as reloads name it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.section())
    }
}

/// The new state of the part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The part has exactly these keys, and is added if nothing of that name exists. `null` is a key that is not given.
    Entry(Map<String, Json>),
    /// These keys change, `null` takes a key away. The part exists.
    Keys(Map<String, Json>),
    /// The part is removed.
    Removed,
}

/// An edit of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The kind of part.
    pub part: Part,
    /// The part's name.
    pub name: String,
    /// The part's new state.
    pub to: To,
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.name)?;
        if self.to == To::Removed { f.write_str(" (removed)") } else { Ok(()) }
    }
}

/// The part that an edit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// A part of that name exists.
    Known,
    /// No part of that name exists.
    New,
}

impl Edit {
    /// Whether `self` makes `earlier` unimportant.
    #[must_use]
    pub fn replaces(&self, earlier: &Self) -> bool {
        let is_same = self.part == earlier.part && self.name == earlier.name;
        is_same && !matches!(self.to, To::Keys(_))
    }
}

impl Text {
    /// The text after these edits, one after the other (without any, it as it is), and whether the last of them found a part of its name. A default that is not in
    /// force, because of something `beside` the text, is not written down.
    ///
    /// # Errors
    /// The text is not TOML, or an edit has something that cannot be written in it.
    pub(crate) fn edited(&self, edits: &[Edit], beside: &Beside) -> Result<(Self, Met), String> {
        if edits.is_empty() {
            return Ok((self.clone(), Met::New));
        }
        let mut document: DocumentMut = self.text.parse().map_err(|_| format!("{} is not TOML", self.name))?;
        let mut met = Met::New;
        for edit in edits {
            met = edit.apply(&mut document, beside)?;
        }
        Ok((Self { name: self.name.clone(), text: document.to_string() }, met))
    }
}

impl Edit {
    /// The keys of its part in a text; `None`: the text has no such part.
    pub(crate) fn keys_in(&self, text: &Text) -> Option<Map<String, Json>> {
        let mut document: DocumentMut = text.text.parse().ok()?;
        let entry = self.find(&mut document).ok()??;
        Some(entry.iter().map(|(key, item)| (key.to_owned(), json_of(item))).collect())
    }

    /// The defaults that are in force only because the text does not say otherwise, and have to be written down with this edit: a line
    /// each.
    pub(crate) fn implies(&self, text: &Text, beside: &Beside) -> Result<Vec<String>, String> {
        let mut document: DocumentMut = text.text.parse().map_err(|_| format!("{} is not TOML", text.name))?;
        if self.find(&mut document)?.is_some() || self.to == To::Removed {
            return Ok(Vec::new());
        }
        let mut implied = Vec::new();
        let parts: &[Part] = match self.part {
            Part::Listener => &[Part::Listener],
            Part::Sink => &[Part::Sink],
            Part::Cluster => &[Part::Sink, Part::Cluster],
            Part::Source | Part::Rule | Part::Bridge => &[],
        };
        for part in parts {
            let (name, is_implied) = match part {
                Part::Cluster => (EMBEDDED.to_owned(), is_log_implied(&document, beside)),
                part => (default_name(*part), is_default_implied(*part, &document, beside)),
            };
            if is_implied && (*part, &name) != (self.part, &self.name) {
                implied.push(format!("{part} {name}"));
            }
        }
        Ok(implied)
    }

    fn apply(&self, document: &mut DocumentMut, beside: &Beside) -> Result<Met, String> {
        let has_default = matches!(self.part, Part::Sink | Part::Listener);
        let is_default = has_default && self.name == default_name(self.part);
        if is_default && is_default_implied(self.part, document, beside) {
            write_defaults(self.part, document, beside);
        }
        let is_known = self.find(document)?.is_some();
        let met = if is_known { Met::Known } else { Met::New };
        match &self.to {
            To::Entry(keys) => {
                if let Some(other) = keys.get(self.part.name_key()).filter(|name| name.as_str() != Some(&self.name)) {
                    return Err(format!("{} {}: the body has {other} for its name", self.part, self.name));
                }
                if !is_known {
                    write_defaults(self.part, document, beside);
                    self.add(document)?;
                }
                if let Some(entry) = self.find(document)? {
                    let mut keys = keys.clone();
                    if !self.part.is_table() {
                        keys.insert(self.part.name_key().to_owned(), self.name.as_str().into());
                    }
                    set_all(entry, self.part, &keys)?;
                }
            }
            To::Keys(keys) => {
                if let Some(entry) = self.find(document)? {
                    set(entry, self.part, keys)?;
                }
            }
            To::Removed if is_known => self.remove(document)?,
            To::Removed => {}
        }
        Ok(met)
    }

    fn find<'d>(&self, document: &'d mut DocumentMut) -> Result<Option<&'d mut dyn TableLike>, String> {
        if self.part.is_table() {
            let all = document.get_mut(self.part.section()).and_then(Item::as_table_like_mut);
            return Ok(all.and_then(|all| all.get_mut(&self.name)?.as_table_like_mut()));
        }
        let Some(place) = self.place(document)? else { return Ok(None) };
        Ok(list(document, self.part)?.get_mut(place).map(|table| table as &mut dyn TableLike))
    }

    /// The place of the part in its list.
    fn place(&self, document: &mut DocumentMut) -> Result<Option<usize>, String> {
        if !document.contains_key(self.part.section()) {
            return Ok(None);
        }
        let is_it = |table: &Table| table.get(self.part.name_key()).and_then(Item::as_str) == Some(&self.name);
        Ok(list(document, self.part)?.iter().position(is_it))
    }

    fn add(&self, document: &mut DocumentMut) -> Result<(), String> {
        let mut table = new_table();
        if self.part.is_table() {
            let all = document.entry(self.part.section()).or_insert_with(|| {
                let mut all = Table::new();
                all.set_implicit(true);
                Item::Table(all)
            });
            let all = all.as_table_like_mut().ok_or_else(|| format!("{} is not a table", self.part))?;
            all.insert(&self.name, Item::Table(table));
            return Ok(());
        }
        table.insert(self.part.name_key(), self.name.as_str().into());
        document.entry(self.part.section()).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        list(document, self.part)?.push(table);
        Ok(())
    }

    fn remove(&self, document: &mut DocumentMut) -> Result<(), String> {
        if self.part.is_table() {
            if let Some(all) = document.get_mut(self.part.section()).and_then(Item::as_table_like_mut) {
                all.remove(&self.name);
            }
            return Ok(());
        }
        let Some(place) = self.place(document)? else { return Ok(()) };
        let all = list(document, self.part)?;
        if all.len() == 1 && matches!(self.part, Part::Source | Part::Rule) {
            document.remove(self.part.section());
            return Ok(());
        }
        if all.len() == 1 {
            // A list without items has a default one.
            return Err(format!(
                "{} {} is the only one; another one must be there before it is removed",
                self.part, self.name
            ));
        }
        all.remove(place);
        Ok(())
    }
}

/// All sinks, listeners, sources or rules; `sink = [{…}]` becomes `[[sink]]`.
fn list(document: &mut DocumentMut, part: Part) -> Result<&mut ArrayOfTables, String> {
    let item = &mut document[part.section()];
    if !item.is_array_of_tables() {
        let taken = std::mem::take(item);
        *item = taken.into_array_of_tables().map(Item::ArrayOfTables).unwrap_or_else(|taken| taken);
    }
    item.as_array_of_tables_mut().ok_or_else(|| format!("{part} is not a list of tables"))
}

/// Writes down defaults that hold only as long as the file is silent, before something is added: the default sink beside a sink, the
/// embedded log beside a cluster. Sinks and sources that have had no choice name their cluster before there is one.
fn write_defaults(part: Part, document: &mut DocumentMut, beside: &Beside) {
    // No default goes away for these.
    if matches!(part, Part::Source | Part::Rule | Part::Bridge) {
        return;
    }
    if part == Part::Listener {
        if is_default_implied(part, document, beside) {
            write_missing(document, part, &[("bind", &LISTENER_DEFAULT.to_string())]);
        }
        return;
    }
    if is_default_implied(Part::Sink, document, beside) {
        write_missing(document, Part::Sink, &[("name", DEFAULT_SINK), ("filters", "#"), ("topic", TOPIC_DEFAULT)]);
    }
    if part == Part::Sink {
        return;
    }
    if is_log_implied(document, beside) {
        document.insert(EMBEDDED, Item::Table(new_table()));
    }
    let clusters = document.get(part.section()).and_then(Item::as_table_like);
    let known = clusters.into_iter().flat_map(|all| all.iter()).map(|(name, _)| name.to_owned()).collect();
    let mut names = beside.clusters(known);
    names.extend(document.contains_key(EMBEDDED).then(|| EMBEDDED.to_owned()));
    names.sort_unstable();
    names.dedup();
    let [only] = &*names else { return };
    for part in
        [Part::Sink, Part::Source].into_iter().filter(|part| document.contains_key(part.section())).collect::<Vec<_>>()
    {
        let Ok(all) = list(document, part) else { continue };
        for one in all.iter_mut().filter(|one| !one.contains_key("kafka")) {
            one.insert("kafka", only.as_str().into());
        }
    }
}

/// The name of the sink of a configuration that has none.
const DEFAULT_SINK: &str = "default";

/// The name of the sink, or listener, of a configuration that has none.
fn default_name(part: Part) -> String {
    if part == Part::Listener { LISTENER_DEFAULT.to_string() } else { DEFAULT_SINK.to_owned() }
}

/// Whether the default sink, or listener, is in force.
fn is_default_implied(part: Part, document: &DocumentMut, beside: &Beside) -> bool {
    // A file that says where Kafka is has to say which messages go there.
    let names_kafka = part == Part::Sink && document.contains_key(Section::Kafka.name()) && !beside.has_kafka_option();
    !document.contains_key(part.section()) && !beside.adds(part) && !names_kafka
}

/// Whether the embedded log runs because no other Kafka is named.
fn is_log_implied(document: &DocumentMut, beside: &Beside) -> bool {
    let is_named = |section: Section| document.contains_key(section.name());
    !is_named(Section::Kafka) && !is_named(Section::Embedded) && beside.clusters(Vec::new()).is_empty()
}

/// Adds a list with these keys, where the file has none.
fn write_missing(document: &mut DocumentMut, part: Part, keys: &[(&str, &str)]) {
    if !document.contains_key(part.section()) {
        let mut table = new_table();
        keys.iter().for_each(|(key, value)| drop(table.insert(key, (*value).into())));
        document.insert(part.section(), Item::ArrayOfTables(ArrayOfTables::from_iter([table])));
    }
}

/// A table with an empty line before it.
fn new_table() -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table
}

/// Sets keys; one that has the value already keeps its form. New ones come in the order of the documents.
fn set(entry: &mut dyn TableLike, part: Part, keys: &Map<String, Json>) -> Result<(), String> {
    let mut keys: Vec<_> = keys.iter().collect();
    let place = |name: &str| keys::of(part.table()).position(|key| key.name == name).unwrap_or(usize::MAX);
    keys.sort_by_key(|(name, _)| place(name));
    for (key, json) in keys {
        let Some(mut value) = value(json).ok_or_else(|| format!("{key}: {json} cannot be written as TOML"))? else {
            entry.remove(key);
            continue;
        };
        match (entry.get_mut(key), json) {
            (Some(known), json) if json_of(known) == *json => {}
            (Some(Item::Table(known)), Json::Object(keys)) => set_all(known, part, keys)?,
            (Some(Item::Value(known)), _) => {
                *value.decor_mut() = known.decor().clone();
                *known = value;
            }
            _ => drop(entry.insert(key, Item::Value(value))),
        }
    }
    Ok(())
}

/// Sets the keys of a table, and removes all others.
fn set_all(entry: &mut dyn TableLike, part: Part, keys: &Map<String, Json>) -> Result<(), String> {
    let known: Vec<String> = entry.iter().map(|(key, _)| key.to_owned()).collect();
    for key in known.iter().filter(|key| !keys.contains_key(*key)) {
        entry.remove(key);
    }
    set(entry, part, keys)
}

/// A part of the text as JSON.
fn json_of(item: &Item) -> Json {
    let keys = |all: &dyn TableLike| all.iter().map(|(key, item)| (key.to_owned(), json_of(item))).collect();
    match item {
        Item::None => Json::Null,
        Item::Table(table) => Json::Object(keys(table)),
        Item::ArrayOfTables(all) => all.iter().map(|table| Json::Object(keys(table))).collect(),
        Item::Value(Value::InlineTable(table)) => Json::Object(keys(table)),
        Item::Value(Value::Array(all)) => all.iter().map(|value| json_of(&Item::Value(value.clone()))).collect(),
        Item::Value(Value::String(text)) => text.value().as_str().into(),
        Item::Value(Value::Integer(number)) => (*number.value()).into(),
        Item::Value(Value::Float(number)) => (*number.value()).into(),
        Item::Value(Value::Boolean(is)) => (*is.value()).into(),
        Item::Value(Value::Datetime(time)) => time.value().to_string().into(),
    }
}

/// The value in TOML. `Some(None)`: `null`; `None`: TOML has no such value.
fn value(json: &Json) -> Option<Option<Value>> {
    match json {
        Json::Null => Some(None),
        other => value_of(other).map(Some),
    }
}

fn value_of(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(is) => (*is).into(),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64()?.into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::Array(items.iter().map(value_of).collect::<Option<Array>>()?),
        Json::Object(keys) => {
            let mut table = InlineTable::new();
            for (key, json) in keys {
                if let Some(value) = value(json)? {
                    table.insert(key, value);
                }
            }
            Value::InlineTable(table)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_added_changed_and_removed() {
        let out = serde_json::json!([{ "filters": ["alarm/#"], "topic": "site/${topic}" }]);
        let keys = serde_json::json!({ "out": out, "url": "mqtt://b" });
        let (with, met) = after(FILE, &[edit(Part::Bridge, "plant", entry(keys))]);
        let added =
            "\n[bridge.plant]\nurl = \"mqtt://b\"\nout = [{ filters = [\"alarm/#\"], topic = \"site/${topic}\" }]\n";
        assert!(met == Met::New && with.contains(added), "{with}");
        let paused = To::Keys([("paused".to_owned(), true.into())].into_iter().collect());
        let (text, met) = after(&with, &[edit(Part::Bridge, "plant", paused)]);
        assert!(met == Met::Known && text.contains("paused = true\n"), "{text}");
        let resumed = To::Keys([("paused".to_owned(), Json::Null)].into_iter().collect());
        assert_eq!(after(&text, &[edit(Part::Bridge, "plant", resumed)]).0, with);
        assert_eq!(after(&with, &[edit(Part::Bridge, "plant", To::Removed)]), (FILE.to_owned(), Met::Known));
        // A bridge with its lists in tables of their own.
        let tables = "[bridge.plant] # it\nurl = \"mqtt://b\"\n\n[[bridge.plant.out]]\nfilters = \"alarm/#\"\n";
        let given = serde_json::json!({ "url": "mqtt://c", "in": [{ "filters": "plant/#" }] });
        let (text, _) = after(tables, &[edit(Part::Bridge, "plant", entry(given))]);
        assert_eq!(text, "[bridge.plant] # it\nurl = \"mqtt://c\"\nin = [{ filters = \"plant/#\" }]\n");
    }

    const FILE: &str = "# a file\n[kafka.main]\nbootstrap = \"k:1\"\n\n# the first\n[[sink]]\nname = \"one\" # its name\nfilters = [\"1/#\"] # mine\ntopic = \"t\"\n\n[[sink]]\nname = \"two\"\nfilters = '2/#'\ntopic = \"t\"\n# the end\n";

    fn text(text: &str) -> Text {
        Text { name: "test".to_owned(), text: text.to_owned() }
    }

    fn entry(json: Json) -> To {
        let Json::Object(keys) = json else { panic!("{json}") };
        To::Entry(keys)
    }

    fn edit(part: Part, name: &str, to: To) -> Edit {
        Edit { part, name: name.to_owned(), to }
    }

    fn after(file: &str, edits: &[Edit]) -> (String, Met) {
        let (text, met) = text_after(file, edits);
        super::super::parse(&text, "test").unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        (text, met)
    }

    fn text_after(file: &str, edits: &[Edit]) -> (String, Met) {
        let (text, met) = text(file).edited(edits, &Beside::default()).expect("it can be edited");
        (text.text, met)
    }

    #[test]
    fn what_is_not_changed_stays_as_it_is() {
        let same = serde_json::json!({ "name": "one", "filters": ["1/#"], "topic": "u", "linger": null });
        let (text, met) = after(FILE, &[edit(Part::Sink, "one", entry(same))]);
        assert_eq!((text, met), (FILE.replacen("topic = \"t\"", "topic = \"u\"", 1), Met::Known));
        let paused = To::Keys([("linger".to_owned(), "9ms".into())].into_iter().collect());
        let (text, _) = after(FILE, &[edit(Part::Sink, "two", paused)]);
        assert_eq!(text, FILE.replace("\n# the end", "\nlinger = \"9ms\"\n# the end"));
        let back = To::Keys([("linger".to_owned(), Json::Null)].into_iter().collect());
        assert_eq!(after(&text, &[edit(Part::Sink, "two", back)]).0, FILE);
    }

    /// Comments within a value stay with it as long as the value does, and those beside keys of a table that another key of it changes.
    #[test]
    fn comments_within_what_does_not_change_stay() {
        let file = "[[sink]]\nname = 'one'\nfilters = [\n  'a/#', # the first\n  'b/#',\n]\ntopic = 't'\n\n[kafka.main]\nbootstrap = 'k:1'\n\n[kafka.main.sasl] # who\nmechanism = 'PLAIN' # plain\nusername = 'u'\npassword_file = '/p'\n";
        let keys = serde_json::json!({ "filters": ["a/#", "b/#"], "topic": "u" });
        let (text, _) = text_after(file, &[edit(Part::Sink, "one", entry(keys))]);
        assert_eq!(text, file.replace("topic = 't'", "topic = \"u\""));
        let sasl = serde_json::json!({ "mechanism": "PLAIN", "username": "v", "password_file": "/p" });
        let keys = serde_json::json!({ "bootstrap": "k:1", "sasl": sasl });
        let (text, _) = text_after(file, &[edit(Part::Cluster, "main", entry(keys))]);
        assert_eq!(text, file.replace("'u'", "\"v\""));
    }

    #[test]
    fn what_is_new_comes_behind_its_kind_and_goes_again() {
        let three = serde_json::json!({ "filters": "3/#", "topic": "t", "headers": { "a.b": "${clientid}" } });
        let (text, met) = after(FILE, &[edit(Part::Sink, "three", entry(three))]);
        let added =
            "\n[[sink]]\nname = \"three\"\nfilters = \"3/#\"\ntopic = \"t\"\nheaders = { \"a.b\" = \"${clientid}\" }\n";
        assert_eq!(met, Met::New);
        assert!(text.starts_with(&FILE.replace("# the end\n", "")) && text.contains(added), "{text}");
        let (text, met) = after(&text, &[edit(Part::Sink, "three", To::Removed)]);
        assert_eq!((text.trim_end(), met), (FILE.trim_end(), Met::Known));
        assert_eq!(after(FILE, &[edit(Part::Sink, "three", To::Removed)]), (FILE.to_owned(), Met::New));
    }

    /// A second cluster leaves no sink without a target, and the defaults do not go away when something is added.
    #[test]
    fn what_held_without_a_word_still_holds() {
        let kafka = entry(serde_json::json!({ "bootstrap": ["k:2"] }));
        let (text, _) = after(FILE, &[edit(Part::Cluster, "other", kafka.clone())]);
        assert_eq!(text.matches("kafka = \"main\"").count(), 2, "{text}");
        assert!(text.contains("[kafka.other]\nbootstrap = [\"k:2\"]"), "{text}");
        for (part, name, to) in [
            (Part::Sink, "one", entry(serde_json::json!({ "filters": "1/#", "topic": "t" }))),
            (Part::Cluster, "main", kafka),
            (Part::Listener, "127.0.0.1:7", entry(serde_json::json!({ "receipts": true }))),
        ] {
            let (text, _) = after("", &[edit(part, name, to)]);
            let config = super::super::parse(&text, "test").expect("good");
            let default = super::super::Config::default_no_file();
            assert!(config.embedded.is_some(), "{text}");
            let sink = &config.sinks[0];
            assert_eq!((sink.name.as_str(), &sink.filters), ("default", &default.sinks[0].filters), "{text}");
            assert_eq!(config.clusters[sink.cluster].name, EMBEDDED, "{text}");
            assert_eq!(config.listeners[0].bind, default.listeners[0].bind, "{text}");
        }
    }

    #[test]
    fn the_only_one_stays() {
        let one = "[[sink]]\nname='one'\nfilters='#'\ntopic='t'\n";
        let error = text(one).edited(&[edit(Part::Sink, "one", To::Removed)], &Beside::default()).expect_err("refused");
        assert!(error.contains("sink one is the only one"), "{error}");
    }

    #[test]
    fn a_source_comes_goes_and_names_its_cluster_before_there_is_another() {
        let keys = serde_json::json!({ "topic": "out", "mqtt_topic": "t/1", "qos": 0 });
        let (with, met) = after(FILE, &[edit(Part::Source, "default", entry(keys))]);
        assert_eq!(met, Met::New);
        assert!(
            with.contains("\n[[source]]\nname = \"default\"\ntopic = \"out\"\nmqtt_topic = \"t/1\"\nqos = 0\n"),
            "{with}"
        );
        assert_eq!(with.matches("[[sink]]").count(), 2, "{with}");
        let other = entry(serde_json::json!({ "bootstrap": ["k:2"] }));
        let (named, _) = after(&with, &[edit(Part::Cluster, "other", other)]);
        assert_eq!(named.matches("kafka = \"main\"").count(), 3, "{named}");
        let (without, met) = after(&with, &[edit(Part::Source, "default", To::Removed)]);
        assert_eq!((without.trim_end(), met), (FILE.trim_end(), Met::Known));
    }

    #[test]
    fn lists_on_one_line_are_lists() {
        let file = "sink = [{ name = 'one', filters = '#', topic = 't' }]\n";
        let two = entry(serde_json::json!({ "filters": "2", "topic": "t" }));
        let (text, _) = after(file, &[edit(Part::Sink, "two", two)]);
        assert_eq!(super::super::parse(&text, "test").expect("good").sinks.len(), 2);
    }
}
