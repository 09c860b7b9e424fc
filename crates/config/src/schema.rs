//! `forebay config schema`: a JSON schema (2020-12) of the configuration, for editors and for checks before a roll-out. It is
//! generated from the table of keys. It cannot express bounds of durations and keys that must fit together; `forebay check` covers
//! those.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::keys::{self, Absent, Key, Kind, Section};
use super::{BRIDGES_MAX, LISTENERS_MAX, RULES_MAX, SINKS_MAX, SOURCES_MAX};

const DURATION: &str = "^[0-9]+(us|ms|s|m|h|d)$";
const SIZE: &str = "^[0-9]+(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)$";
/// An IPv4 address, or an IPv6 address in brackets, and a port; the parser is stricter.
const ADDRESS: &str = "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$";
const NAME: &str = "^[A-Za-z0-9._-]{1,100}$";

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let mut sections = Map::new();
    for section in Section::ALL.into_iter().filter(|section| section.parent().is_none()) {
        let one = table(section);
        let whole = match section {
            Section::Listener => json!({ "type": "array", "items": one, "maxItems": LISTENERS_MAX }),
            Section::Sink => json!({ "type": "array", "items": one, "maxItems": SINKS_MAX }),
            Section::Source => json!({ "type": "array", "items": one, "maxItems": SOURCES_MAX }),
            Section::Rule => json!({ "type": "array", "items": one, "maxItems": RULES_MAX }),
            Section::Auth => several(one),
            Section::Bridge => {
                let mut all = several(one);
                all["maxProperties"] = BRIDGES_MAX.into();
                all
            }
            Section::Kafka => json!({
                "type": "object",
                "minProperties": 1,
                "propertyNames": { "pattern": NAME, "not": { "const": super::EMBEDDED } },
                "additionalProperties": one,
            }),
            _ => one,
        };
        sections.insert(section.name().to_owned(), whole);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Forebay",
        "description": format!("Of version {}.", env!("CARGO_PKG_VERSION")),
        "type": "object",
        "properties": sections,
        "additionalProperties": false,
    })
}

/// Tables with names.
fn several(one: Value) -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": { "pattern": NAME },
        "additionalProperties": one,
    })
}

fn table(section: Section) -> Value {
    let mut properties: Map<_, _> = keys::of(section).map(|key| (key.name.to_owned(), property(key))).collect();
    for part in Section::ALL {
        if let Some((_, name)) = part.parent().filter(|(parent, _)| *parent == section) {
            let one = table(part);
            let whole = if part.is_named_part() {
                several(one)
            } else if part.is_list_part() {
                json!({ "type": "array", "items": one })
            } else {
                one
            };
            properties.insert(name.to_owned(), whole);
        }
    }
    let required: Vec<_> =
        keys::of(section).filter(|key| matches!(key.default, Absent::Required)).map(|key| key.name).collect();
    json!({
        "description": section.meaning(),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut property = takes(key.kind);
    let bounds = match (key.kind, key.kind.bounds()) {
        (Kind::Duration { .. } | Kind::Size { .. }, Some((min, max))) => format!(" From {min} to {max}."),
        _ => String::new(),
    };
    property["description"] = format!("{}{bounds}", key.meaning).into();
    if let Absent::Is(default) = key.default {
        let default = DeValue::parse(default).expect("defaults are TOML: a test reads them all");
        property["default"] = match default.get_ref() {
            DeValue::Boolean(flag) => (*flag).into(),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).unwrap_or_default().into(),
            other => other.as_str().unwrap_or_default().into(),
        };
    }
    property
}

fn takes(kind: Kind) -> Value {
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Share => json!({ "type": "number", "minimum": 0.01, "maximum": 1 }),
        Kind::Duration { .. } => json!({ "type": "string", "pattern": DURATION }),
        Kind::Size { min, max } => json!({ "anyOf": [
            { "type": "string", "pattern": SIZE },
            { "type": "integer", "minimum": min, "maximum": max },
        ] }),
        Kind::Word(words) => {
            let words: Vec<_> = words.iter().map(|word| word.name).collect();
            json!({ "enum": words })
        }
        Kind::Text | Kind::Template => json!({ "type": "string" }),
        Kind::TextList => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] }),
        Kind::Filters => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] }),
        Kind::Address => json!({ "type": "string", "pattern": ADDRESS }),
        Kind::AddressOrOff => json!({ "anyOf": [{ "const": "off" }, { "type": "string", "pattern": ADDRESS }] }),
        Kind::Bind => json!({ "anyOf": [
            { "type": "string", "pattern": "^unix:/" },
            { "type": "string", "pattern": ADDRESS },
        ] }),
        Kind::Topics => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            { "type": "object", "additionalProperties": { "type": "string" }, "minProperties": 1 },
        ] }),
        Kind::Words(words) => {
            let words: Vec<_> = words.iter().map(|word| word.name).collect();
            json!({ "anyOf": [
                { "enum": words },
                { "type": "array", "items": { "enum": words }, "minItems": 1, "uniqueItems": true },
            ] })
        }
        Kind::QosTemplate => json!({ "anyOf": [{ "enum": [0, 1, 2] }, { "type": "string" }] }),
        Kind::FlagTemplate => json!({ "anyOf": [{ "type": "boolean" }, { "type": "string" }] }),
        // A time of TOML's own is one, too, and no JSON.
        Kind::OffsetReset => json!({ "type": "string" }),
        Kind::TemplateTable | Kind::TextTable => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
    }
}
