//! A change of one sink, cluster or listener in the text of a configuration. Comments, order and all that is not changed
//! stay as they are.

use std::fmt;

use serde_json::{Map, Value as Json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::keys::{self, Section};
use super::resolve::LISTENER_DEFAULT;
use super::sinks::TOPIC_DEFAULT;
use super::{EMBEDDED, Text};

/// What can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `[[sink]]`, known by `name`.
    Sink,
    /// `[kafka.NAME]`.
    Cluster,
    /// `[[listener]]`, known by `bind`.
    Listener,
}

impl Part {
    const fn table(self) -> Section {
        match self {
            Self::Sink => Section::Sink,
            Self::Cluster => Section::Kafka,
            Self::Listener => Section::Listener,
        }
    }

    /// The key at the top of the file.
    fn section(self) -> &'static str {
        self.table().name()
    }

    /// The key that holds the name, in a part that is a list.
    pub(super) const fn name_key(self) -> &'static str {
        match self {
            Self::Listener => "bind",
            Self::Sink | Self::Cluster => "name",
        }
    }
}

/// As reloads name it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.section())
    }
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// It has exactly these keys, and is added if nothing of that name exists. `null` is a key that is not given.
    Entry(Map<String, Json>),
    /// These keys change, `null` takes a key away. It exists.
    Keys(Map<String, Json>),
    /// It is removed.
    Removed,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is changed.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub to: To,
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.name)?;
        if self.to == To::Removed { f.write_str(" (removed)") } else { Ok(()) }
    }
}

/// What an edit met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// Something of that name.
    Known,
    /// Nothing of that name.
    New,
}

impl Edit {
    /// Whether `self` makes it unimportant that `earlier` was done.
    #[must_use]
    pub fn replaces(&self, earlier: &Self) -> bool {
        let is_same = self.part == earlier.part && self.name == earlier.name;
        is_same && !matches!(self.to, To::Keys(_))
    }
}

impl Text {
    /// The text with these changes, one after the other, and whether the last of them met something of its name.
    ///
    /// # Errors
    /// The text is not TOML, or what an edit holds has no form in it.
    pub(crate) fn edited(&self, edits: &[Edit]) -> Result<(Self, Met), String> {
        let mut document: DocumentMut = self.text.parse().map_err(|_| format!("{} is not TOML", self.name))?;
        let mut met = Met::New;
        for edit in edits {
            met = edit.apply(&mut document)?;
        }
        Ok((Self { name: self.name.clone(), text: document.to_string() }, met))
    }
}

impl Edit {
    fn apply(&self, document: &mut DocumentMut) -> Result<Met, String> {
        let is_known = self.find(document)?.is_some();
        let met = if is_known { Met::Known } else { Met::New };
        match &self.to {
            To::Entry(keys) => {
                if let Some(other) = keys.get(self.part.name_key()).filter(|name| name.as_str() != Some(&self.name)) {
                    return Err(format!("{} {}: the body has {other} for its name", self.part, self.name));
                }
                if !is_known {
                    write_defaults(self.part, document);
                    self.add(document)?;
                }
                if let Some(entry) = self.find(document)? {
                    let known: Vec<String> = entry.iter().map(|(key, _)| key.to_owned()).collect();
                    let is_name = |key: &str| self.part != Part::Cluster && key == self.part.name_key();
                    for key in known.iter().filter(|key| !is_name(key) && !keys.contains_key(*key)) {
                        entry.remove(key);
                    }
                    set(entry, self.part, keys)?;
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
        if self.part == Part::Cluster {
            let clusters = document.get_mut(self.part.section()).and_then(Item::as_table_like_mut);
            return Ok(clusters.and_then(|clusters| clusters.get_mut(&self.name)?.as_table_like_mut()));
        }
        let Some(place) = self.place(document)? else { return Ok(None) };
        Ok(list(document, self.part)?.get_mut(place).map(|table| table as &mut dyn TableLike))
    }

    /// The place in its list.
    fn place(&self, document: &mut DocumentMut) -> Result<Option<usize>, String> {
        if !document.contains_key(self.part.section()) {
            return Ok(None);
        }
        let is_it = |table: &Table| table.get(self.part.name_key()).and_then(Item::as_str) == Some(&self.name);
        Ok(list(document, self.part)?.iter().position(is_it))
    }

    fn add(&self, document: &mut DocumentMut) -> Result<(), String> {
        let mut table = new_table();
        if self.part == Part::Cluster {
            let clusters = document.entry(self.part.section()).or_insert_with(|| {
                let mut clusters = Table::new();
                clusters.set_implicit(true);
                Item::Table(clusters)
            });
            let clusters = clusters.as_table_like_mut().ok_or("kafka is not a table")?;
            clusters.insert(&self.name, Item::Table(table));
            return Ok(());
        }
        table.insert(self.part.name_key(), self.name.as_str().into());
        document.entry(self.part.section()).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        list(document, self.part)?.push(table);
        Ok(())
    }

    fn remove(&self, document: &mut DocumentMut) -> Result<(), String> {
        if self.part == Part::Cluster {
            if let Some(clusters) = document.get_mut(self.part.section()).and_then(Item::as_table_like_mut) {
                clusters.remove(&self.name);
            }
            return Ok(());
        }
        let Some(place) = self.place(document)? else { return Ok(()) };
        let all = list(document, self.part)?;
        if all.len() == 1 {
            // Without any there is a default one.
            return Err(format!(
                "{} {} is the only one; another one must be there before it is removed",
                self.part, self.name
            ));
        }
        all.remove(place);
        Ok(())
    }
}

/// All sinks or all listeners; `sink = [{…}]` becomes `[[sink]]`.
fn list(document: &mut DocumentMut, part: Part) -> Result<&mut ArrayOfTables, String> {
    let item = &mut document[part.section()];
    if !item.is_array_of_tables() {
        let taken = std::mem::take(item);
        *item = taken.into_array_of_tables().map(Item::ArrayOfTables).unwrap_or_else(|taken| taken);
    }
    item.as_array_of_tables_mut().ok_or_else(|| format!("{part} is not a list of tables"))
}

/// What holds only as long as the file says nothing is written down before something is said: a sink beside the default
/// sink, a cluster beside the embedded log. Sinks that have had no choice name their cluster before there is one.
fn write_defaults(part: Part, document: &mut DocumentMut) {
    if part == Part::Listener {
        return write_missing(document, part, &[("bind", &LISTENER_DEFAULT.to_string())]);
    }
    write_missing(document, Part::Sink, &[("name", "default"), ("filters", "#"), ("topic", TOPIC_DEFAULT)]);
    if part == Part::Sink {
        return;
    }
    let clusters = document.get(part.section()).and_then(Item::as_table_like);
    let mut names: Vec<String> =
        clusters.map_or_else(Vec::new, |all| all.iter().map(|(name, _)| name.to_owned()).collect());
    if names.is_empty() && !document.contains_key(EMBEDDED) {
        document.insert(EMBEDDED, Item::Table(new_table()));
    }
    if document.contains_key(EMBEDDED) {
        names.push(EMBEDDED.to_owned());
    }
    if let ([only], Ok(sinks)) = (&*names, list(document, Part::Sink)) {
        for sink in sinks.iter_mut().filter(|sink| !sink.contains_key("kafka")) {
            sink.insert("kafka", only.as_str().into());
        }
    }
}

/// A list with this in it, where the file has none.
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

/// Gives keys their values; one that has the value keeps its form. New ones come in the order of the documents.
fn set(entry: &mut dyn TableLike, part: Part, keys: &Map<String, Json>) -> Result<(), String> {
    let mut keys: Vec<_> = keys.iter().collect();
    let place = |name: &str| keys::of(part.table()).position(|key| key.name == name).unwrap_or(usize::MAX);
    keys.sort_by_key(|(name, _)| place(name));
    for (key, json) in keys {
        let Some(mut value) = value(json).ok_or_else(|| format!("{key}: {json} cannot be written as TOML"))? else {
            entry.remove(key);
            continue;
        };
        match entry.get_mut(key).and_then(Item::as_value_mut) {
            Some(known) if known.to_string().trim() == value.to_string().trim() => {}
            Some(known) => {
                *value.decor_mut() = known.decor().clone();
                *known = value;
            }
            None => drop(entry.insert(key, Item::Value(value))),
        }
    }
    Ok(())
}

/// `Some(None)`: `null`; `None`: there is no such thing in TOML.
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
        let (text, met) = text(file).edited(edits).expect("it can be edited");
        super::super::parse(&text.text, "test").unwrap_or_else(|problems| panic!("{problems}\n{}", text.text));
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

    /// A second cluster leaves no sink without a target, and the defaults do not go away when something is said.
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
        let error = text(one).edited(&[edit(Part::Sink, "one", To::Removed)]).expect_err("refused");
        assert!(error.contains("sink one is the only one"), "{error}");
    }

    #[test]
    fn lists_on_one_line_are_lists() {
        let file = "sink = [{ name = 'one', filters = '#', topic = 't' }]\n";
        let two = entry(serde_json::json!({ "filters": "2", "topic": "t" }));
        let (text, _) = after(file, &[edit(Part::Sink, "two", two)]);
        assert_eq!(super::super::parse(&text, "test").expect("good").sinks.len(), 2);
    }
}
