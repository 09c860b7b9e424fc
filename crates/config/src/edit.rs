//! An edit of one sink, source, rule, cluster, bridge or listener in the text of a configuration. Comments, order and everything
//! else are preserved.

use std::fmt;

use serde_json::{Map, Value as Json};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike};

use super::keys::Section;
use super::resolve::LISTENER_DEFAULT;
use super::sinks::TOPIC_DEFAULT;
use super::{Beside, EMBEDDED, Text};

mod values;

pub use self::values::keys_as_text;
use self::values::{json_of, set, set_all};

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
    pub const fn name_key(self) -> &'static str {
        match self {
            Self::Listener => "bind",
            Self::Sink | Self::Cluster | Self::Source | Self::Rule | Self::Bridge => "name",
        }
    }
}

/// The part's name in messages about reloads.
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
    /// Changes these keys; `null` removes a key. The part exists.
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
pub enum Met {
    /// A part of that name exists.
    Known,
    /// No part of that name exists.
    New,
}

impl Edit {
    /// An edit that changes no key of its part; a default part is written down, as by any edit.
    pub fn nothing(part: Part, name: &str) -> Self {
        Self { part, name: name.to_owned(), to: To::Keys(Map::new()) }
    }

    /// Whether the part may be a default, which is written down before it is changed.
    pub fn is_of_default(&self) -> bool {
        matches!(self.part, Part::Sink | Part::Listener) && self.name == default_name(self.part)
    }

    /// An edit with the effect of `earlier`, of the same part, and then `self`.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        let to = match (&earlier.to, self.to) {
            (To::Entry(before), To::Keys(keys)) => To::Entry(with(before, keys)),
            (To::Keys(before), To::Keys(keys)) => To::Keys(with(before, keys)),
            (To::Removed, To::Keys(_)) => To::Removed,
            (_, to) => to,
        };
        Self { to, ..self }
    }
}

impl Text {
    /// The text after these edits, in order (without any edit, the text as it is), and whether the last edit found a part of its
    /// name. A default that is not in force, because of something `beside` the text, is not written down.
    ///
    /// # Errors
    /// The text is not TOML, or an edit contains something that cannot be written in TOML.
    pub fn edited(&self, edits: &[Edit], beside: &Beside) -> Result<(Self, Met), String> {
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
    /// The keys of the edited part in a text; `None`: the text does not have the part.
    pub fn keys_in(&self, text: &Text) -> Option<Map<String, Json>> {
        let mut document: DocumentMut = text.text.parse().ok()?;
        let entry = self.find(&mut document).ok()??;
        Some(entry.iter().map(|(key, item)| (key.to_owned(), json_of(item))).collect())
    }

    /// The defaults that are in force only as long as the text does not override them, and have to be written down with this edit:
    /// a line each.
    pub fn implies(&self, text: &Text, beside: &Beside) -> Result<Vec<String>, String> {
        let parts: &[Part] = match self.part {
            Part::Listener => &[Part::Listener],
            Part::Sink => &[Part::Sink],
            Part::Cluster => &[Part::Sink, Part::Cluster],
            Part::Source | Part::Rule | Part::Bridge => &[],
        };
        if parts.is_empty() || self.to == To::Removed {
            return Ok(Vec::new());
        }
        let mut document: DocumentMut = text.text.parse().map_err(|_| format!("{} is not TOML", text.name))?;
        if self.find(&mut document)?.is_some() {
            return Ok(Vec::new());
        }
        let mut implied = Vec::new();
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

    /// Other parts that this edit writes to, so that they keep their meaning: the implied defaults, and sinks and sources, which
    /// get the name of their cluster before there is a second one.
    pub fn pins(&self, text: &Text, beside: &Beside) -> Result<Vec<String>, String> {
        let mut pins = self.implies(text, beside)?;
        if self.part != Part::Cluster {
            return Ok(pins);
        }
        let parse = |text: &Text| text.text.parse::<DocumentMut>().map_err(|_| format!("{} is not TOML", text.name));
        let mut before = parse(text)?;
        let mut after = parse(&text.edited(std::slice::from_ref(self), beside)?.0)?;
        for part in [Part::Sink, Part::Source] {
            let known = clusters_of(&mut before, part)?;
            for (name, cluster) in clusters_of(&mut after, part)? {
                let was_silent = known.iter().any(|(other, cluster)| *other == name && cluster.is_none());
                if let Some(cluster) = cluster.filter(|_| was_silent) {
                    pins.push(format!("{part} {name} (kafka = {cluster:?})"));
                }
            }
        }
        Ok(pins)
    }

    fn apply(&self, document: &mut DocumentMut, beside: &Beside) -> Result<Met, String> {
        if self.is_of_default() && is_default_implied(self.part, document, beside) {
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

/// The keys after an edit with `keys`.
fn with(before: &Map<String, Json>, keys: Map<String, Json>) -> Map<String, Json> {
    before.clone().into_iter().chain(keys).collect()
}

/// Names of sinks, or sources, each with the cluster that it names.
fn clusters_of(document: &mut DocumentMut, part: Part) -> Result<Vec<(String, Option<String>)>, String> {
    if !document.contains_key(part.section()) {
        return Ok(Vec::new());
    }
    let text = |one: &Table, key: &str| one.get(key).and_then(Item::as_str).map(str::to_owned);
    let all = list(document, part)?.iter();
    Ok(all.filter_map(|one| Some((text(one, part.name_key())?, text(one, "kafka")))).collect())
}

/// The sinks, listeners, sources or rules of the text; `sink = [{…}]` becomes `[[sink]]`.
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
    // These parts replace no default.
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
    // A file that names Kafka's brokers has to have filters.
    let names_kafka = part == Part::Sink && document.contains_key(Section::Kafka.name()) && !beside.has_kafka_option();
    !document.contains_key(part.section()) && !beside.adds(part) && !names_kafka
}

/// Whether the embedded log runs because no other Kafka is configured.
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

#[cfg(test)]
mod tests;
