//! Values of TOML: set in a table, and from and to JSON.

use serde_json::{Map, Value as Json};
use toml_edit::{Array, InlineTable, Item, Table, TableLike, Value};

use super::Part;
use crate::keys;

/// Sets keys; an unchanged value keeps its form. New keys are in the order of the documents.
pub(super) fn set(entry: &mut dyn TableLike, part: Part, keys: &Map<String, Json>) -> Result<(), String> {
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

/// Keys of a part as text below its header; the header of this section.
///
/// # Errors
/// The section does not exist, or TOML has no such value.
pub fn keys_as_text(section: &str, keys: &Map<String, Json>) -> Result<String, String> {
    let all = [Part::Sink, Part::Source, Part::Rule, Part::Bridge, Part::Cluster, Part::Listener];
    let part = all.into_iter().find(|part| part.section() == section).ok_or_else(|| format!("no section {section}"))?;
    let mut table = Table::new();
    set(&mut table, part, keys)?;
    Ok(table.to_string())
}

/// Sets the keys of a table, and removes all others.
pub(super) fn set_all(entry: &mut dyn TableLike, part: Part, keys: &Map<String, Json>) -> Result<(), String> {
    let known: Vec<String> = entry.iter().map(|(key, _)| key.to_owned()).collect();
    for key in known.iter().filter(|key| !keys.contains_key(*key)) {
        entry.remove(key);
    }
    set(entry, part, keys)
}

/// A part of the text as JSON.
pub(super) fn json_of(item: &Item) -> Json {
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
