//! Environment variables that replace the file's values, before anything is checked: `FOREBAY_SERVICE_SHARDS`,
//! `FOREBAY_SINK_0_TOPIC`, `FOREBAY_KAFKA_MAIN_BOOTSTRAP`. They are put into the same tree as the file's text, so every rule for a
//! value in the file applies to them as well; a problem names the variable.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::bindings::Bindings;
use super::keys::{self, Key, Kind, LATER, Section};
use super::problem::{Fault, nearest};
use super::reader::{Place, Source, table_in};

/// The variable that names the configuration file where `--config` does not.
pub const FILE_VARIABLE: &str = "FOREBAY_CONFIG";
/// The variable with the token that `forebay sinks` and the like send.
pub const TOKEN_VARIABLE: &str = "FOREBAY_TOKEN";
/// The placeholder for a name in the documents.
const PLACEHOLDER: &str = "NAME";
/// The prefix of all variables.
const PREFIX: &str = "FOREBAY_";
/// Names with another meaning: the file, a token, the log filter, and variables of Forebay's own build, tests and scripts.
const OTHERS: [&str; 13] = [
    FILE_VARIABLE,
    TOKEN_VARIABLE,
    "FOREBAY_BUILD",
    "FOREBAY_COMMIT",
    "FOREBAY_LOG",
    "FOREBAY_BINARY",
    "FOREBAY_BLESS",
    "FOREBAY_CACHE",
    "FOREBAY_KAFKA_SCRIPT",
    "FOREBAY_NODE",
    "FOREBAY_PYTHON",
    "FOREBAY_RUMQTTC",
    "FOREBAY_SEEDS",
];
/// Prefixes of names with another meaning: values for templates, and the tests'.
const OTHER_FAMILIES: [&str; 2] = ["FOREBAY_VAR_", "FOREBAY_TEST_"];
/// The variable that configures faults of the disk, in builds that have them. Other builds refuse it.
const FAULTS: Option<&str> = if cfg!(feature = "faults") { Some("FOREBAY_FAULTS") } else { None };

/// A variable and its value; `None`: the value is not UTF-8.
pub(super) type Variable = (String, Option<String>);

/// The process's variables that set a key, or look as if they should.
pub(super) fn read() -> Vec<Variable> {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    variables.filter(|(name, _)| is_ours(name)).map(|(name, value)| (name, value.into_string().ok())).collect()
}

pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
        && !OTHERS.contains(&name)
        && FAULTS != Some(name)
        && !OTHER_FAMILIES.iter().any(|family| name.starts_with(family))
        && !is_of_kubernetes(name)
}

/// Kubernetes passes each container the addresses of the services of its namespace. A service named `forebay`, or `forebay-mqtt`,
/// gives `FOREBAY_SERVICE_HOST`, `FOREBAY_MQTT_PORT_1883_TCP_ADDR` and more. No key ends like them.
fn is_of_kubernetes(name: &str) -> bool {
    let numbered = name.split("_PORT_").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.ends_with("_PORT") || numbered
}

/// Whether the name begins with a section, or nearly: a mistake there would otherwise be a setting that has no effect.
fn is_of_a_section(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    let first = rest.split('_').next().unwrap_or_default();
    let later = LATER.iter().filter_map(|(name, _)| name.split('.').next());
    nearest(first, Section::ALL.map(Section::name).into_iter().chain(later)).is_some()
}

/// The table at the top of the file that a variable's key is in, or in a part of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Home {
    Table,
    Item(usize),
    /// A table with a name, one of several.
    Named(String),
}

/// Puts the variables into the tree, and notes in `source` their positions and problems of their names. `bindings`: the meaning of
/// their indexes when the process started; `None`: the process is starting now.
pub(super) fn merge<'a>(
    root: &mut DeTable<'a>,
    variables: &'a [Variable],
    bindings: Option<&Bindings>,
    source: &mut Source<'_>,
) {
    let now = Bindings::of(root);
    let start = bindings.unwrap_or(&now);
    let known = Section::ALL.map(|section| (section, names(root, section)));
    let names = |section: Section| {
        known.iter().find(|(of, _)| *of == section).map_or(&[] as &[String], |(_, names)| names.as_slice())
    };
    let mut found = Vec::new();
    for (name, value) in variables {
        match (find(name, names), value) {
            (Err(fault), _) if is_of_a_section(name) => source.report_variable(name, fault),
            // Many environments set variables of this form for an image's version or a chart's release.
            (Err(_), _) => source.warn_variable(name, Fault::new("has no effect: it is not a setting of Forebay")),
            (Ok(_), None) => source.report_variable(name, Fault::new("is not UTF-8")),
            (Ok((Home::Item(at), key)), Some(value)) => match start.place(&now, key.section.root(), at) {
                Ok(Some(place)) => found.push((Home::Item(place), key, name, value)),
                Ok(None) => {
                    let whose = start.said(key.section.root(), at);
                    let fault = Fault::new(format!("has no effect: {whose}, for which it was at the start, is gone"));
                    source.warn_variable(name, fault.hint("unset it, or correct its index, before the next start"));
                }
                Err(fault) => source.report_variable(name, fault),
            },
            (Ok((home, key)), Some(value)) => found.push((home, key, name, value)),
        }
    }
    // A list grows by its next item, so items are taken in their order.
    found.sort_by(|a, b| (a.1.section.name(), &a.0, a.1.name).cmp(&(b.1.section.name(), &b.0, b.1.name)));
    let mut start = source.end();
    for (home, key, name, value) in found {
        let span = start..start + value.len() + 1;
        start = span.end;
        let done = parse(key, value, span.start).and_then(|parsed| {
            let Some(table) = table(root, key.section, &home, &span)? else { return Ok(()) };
            table.remove(key.name);
            table.insert(Spanned::new(span.clone(), key.name.into()), Spanned::new(span.clone(), parsed));
            Ok(())
        });
        match done {
            Ok(()) => source.place(Place { span, variable: name.clone(), path: path(key, &home) }),
            Err(fault) => source.report_variable(name, fault),
        }
    }
}

/// The list that a variable's key is in, and its index there.
pub(super) fn index(name: &str) -> Option<(Section, usize)> {
    match find(name, |_| &[]) {
        Ok((Home::Item(at), key)) => Some((key.section.root(), at)),
        _ => None,
    }
}

/// The table and the key that a variable is for, where one section has tables with these names.
pub(super) fn place(name: &str, (of, names): (Section, &[String])) -> Option<(Home, &'static Key)> {
    find(name, |section| if section == of { names } else { &[] }).ok()
}

fn path(key: &Key, home: &Home) -> String {
    let root = key.section.root().name();
    let part = key.section.parent().map_or(String::new(), |(_, part)| format!("{part}."));
    match home {
        Home::Table => format!("{root}.{part}{}", key.name),
        Home::Item(at) => format!("{root}[{at}].{part}{}", key.name),
        Home::Named(name) => format!("{root}.{name}.{part}{}", key.name),
    }
}

/// Names of the file's clusters, or of its other tables with names.
pub(super) fn names(root: &DeTable<'_>, section: Section) -> Vec<String> {
    match root.get(section.name()).map(Spanned::get_ref).filter(|_| section.example_name().is_some()) {
        Some(DeValue::Table(table)) => table.keys().map(|key| key.get_ref().to_string()).collect(),
        _ => Vec::new(),
    }
}

/// The variable of a key, by its path.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", upper(path))
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

/// The keys that a variable can set.
fn settable() -> impl Iterator<Item = &'static Key> {
    keys::all().filter(|key| !key.section.is_named_part() && !key.section.is_list_part())
}

/// The key that a variable sets.
fn find<'n>(name: &str, names: impl Fn(Section) -> &'n [String]) -> Result<(Home, &'static Key), Fault> {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let section = Section::ALL.into_iter().filter(|section| section.parent().is_none()).find_map(|section| {
        let rest = rest.strip_prefix(&upper(section.name()))?.strip_prefix('_')?;
        Some((section, rest))
    });
    let unknown = || Err(unknown(rest, &names));
    let Some((section, rest)) = section else { return unknown() };
    let is_it = |key: &&'static Key, word: &str| upper(key.name) == word;
    let of_part = |word: &str| {
        settable().find(|key| {
            let part = key.section.parent().filter(|(parent, _)| *parent == section).map(|(_, part)| part);
            let word = part.and_then(|part| word.strip_prefix(&upper(part))?.strip_prefix('_'));
            word.is_some_and(|word| is_it(key, word))
        })
    };
    let key = |word: &str| keys::of(section).find(|key| is_it(key, word)).or_else(|| of_part(word));
    match section {
        Section::Listener | Section::Sink | Section::Source | Section::Rule => {
            let parts = rest.split_once('_').and_then(|(at, word)| Some((at.parse::<usize>().ok()?, key(word)?)));
            let Some((at, key)) = parts else { return unknown() };
            Ok((Home::Item(at), key))
        }
        Section::Kafka | Section::Auth | Section::Bridge => {
            // `sasl_username` is `username` in `[kafka.NAME.sasl]`.
            let in_name = |key: &Key| key.section.parent().map_or(String::new(), |(_, part)| format!("{part}_"));
            let whole = |key: &Key| upper(&format!("{}{}", in_name(key), key.name));
            let all = settable().filter(|key| {
                key.section == section || key.section.parent().is_some_and(|(parent, _)| parent == section)
            });
            let fits = |key: &&Key| rest.strip_suffix(&whole(key)).is_some_and(|name| name.ends_with('_'));
            let Some(key) = all.filter(fits).max_by_key(|key| whole(key).len()) else { return unknown() };
            let name = &rest[..rest.len() - whole(key).len() - 1];
            let alike: Vec<_> = names(section).iter().filter(|known| upper(known) == name).collect();
            match alike[..] {
                [] if name.is_empty() => unknown(),
                // The name is a placeholder of the documents.
                [] if name == PLACEHOLDER => {
                    let (root, example) = (section.name().to_uppercase(), section.example_name().unwrap_or_default());
                    let hint = format!("write {PREFIX}{root}_{}_{}", upper(example), whole(key));
                    Err(Fault::new(format!("{PLACEHOLDER} stands for the name of one")).hint(hint))
                }
                [] => Ok((Home::Named(name.to_lowercase()), key)),
                [only] => Ok((Home::Named(only.clone()), key)),
                [one, other, ..] => Err(Fault::new(format!("could mean {0}.{one} or {0}.{other}", section.name()))
                    .hint("set it in the file, or rename one of them")),
            }
        }
        _ => key(rest).map_or_else(unknown, |key| Ok((Home::Table, key))),
    }
}

/// The fault of a variable that sets no key. `rest`: its name after the prefix.
fn unknown<'n>(rest: &str, names: &impl Fn(Section) -> &'n [String]) -> Fault {
    let lower = rest.to_lowercase();
    for (later, advice) in LATER {
        let (section, key) = later.split_once('.').unwrap_or((later, ""));
        if lower.split('_').next() == Some(section) && lower.ends_with(key) {
            return Fault::new("is not supported yet").hint(advice);
        }
    }
    let fault = Fault::new("is not a setting of Forebay");
    let number = rest.split('_').nth(1).filter(|part| part.parse::<usize>().is_ok()).unwrap_or("0");
    let mut known = Vec::new();
    for key in settable() {
        let root = key.section.root();
        let part = key.section.parent().map_or(String::new(), |(_, part)| format!("{part}_"));
        let homes: Vec<String> = match (root, root.example_name()) {
            (Section::Listener | Section::Sink | Section::Source | Section::Rule, _) => vec![format!("{number}_")],
            (_, Some(example)) if names(root).is_empty() => vec![format!("{example}_")],
            (_, Some(_)) => names(root).iter().map(|name| format!("{}_", upper(name).to_lowercase())).collect(),
            (_, None) => vec![String::new()],
        };
        known.extend(homes.iter().map(|home| format!("{}_{home}{part}{}", root.name(), key.name)));
    }
    match nearest(&lower, known.iter().map(String::as_str)) {
        Some(near) => fault.hint(format!("did you mean {PREFIX}{}?", near.to_uppercase())),
        None => fault.hint(
            "settings are FOREBAY_SECTION_KEY, FOREBAY_KAFKA_NAME_KEY, FOREBAY_LISTENER_0_KEY, FOREBAY_SINK_0_KEY, FOREBAY_SOURCE_0_KEY and FOREBAY_RULE_0_KEY; names that begin with FOREBAY_VAR_ are for templates",
        ),
    }
}

/// A value as in the file. Values that the file has in quotes are given without quotes; lists and tables are TOML.
fn parse<'a>(key: &Key, value: &'a str, offset: usize) -> Result<DeValue<'a>, Fault> {
    let trimmed = value.trim();
    let text = || DeValue::String(value.into());
    let plain = || DeValue::parse(trimmed).map_or_else(|_| text(), Spanned::into_inner);
    Ok(match key.kind {
        Kind::Flag | Kind::Integer { .. } | Kind::Share => plain(),
        Kind::QosTemplate | Kind::FlagTemplate if !trimmed.contains('$') => plain(),
        Kind::Size { .. } if trimmed.bytes().all(|b| b.is_ascii_digit()) => plain(),
        Kind::TextList | Kind::Topics | Kind::Words(_) | Kind::TemplateTable | Kind::TextTable
            if trimmed.starts_with(['[', '{']) =>
        {
            let parsed = DeValue::parse(trimmed);
            let parsed =
                parsed.map_err(|error| Fault::new(format!("not TOML: {}", error.message().replace('\n', ", "))));
            moved(parsed?, offset).into_inner()
        }
        _ => text(),
    })
}

/// The value with its spans moved past the end of the text and earlier values.
fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let to = |span: Range<usize>| span.start + by..span.end + by;
    let span = to(value.span());
    let inner = match value.into_inner() {
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(|item| moved(item, by)).collect::<DeArray<'_>>()),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| {
                    let span = to(key.span());
                    (Spanned::new(span, key.into_inner()), moved(value, by))
                })
                .collect(),
        ),
        other => other,
    };
    Spanned::new(span, inner)
}

/// The table of the key, created if it is missing. `None`: the file has something else in its place, which is reported there.
fn table<'t, 'a>(
    root: &'t mut DeTable<'a>,
    section: Section,
    home: &Home,
    span: &Range<usize>,
) -> Result<Option<&'t mut DeTable<'a>>, Fault> {
    let new = |value| Spanned::new(span.clone(), value);
    if let Some((parent, part)) = section.parent() {
        return Ok(table(root, parent, home, span)?.and_then(|whole| table_in(whole, part, span)));
    }
    if !root.contains_key(section.name()) {
        let empty = match home {
            Home::Item(_) => DeValue::Array(DeArray::new()),
            _ => DeValue::Table(DeTable::new()),
        };
        root.insert(Spanned::new(span.clone(), section.name().into()), new(empty));
    }
    let top = root.get_mut(section.name()).map(Spanned::get_mut);
    let value = match (home, top) {
        (Home::Item(at), Some(DeValue::Array(list))) => {
            let items = list.len();
            if *at > items {
                return Err(Fault::new(format!("{} has {items} before it", section.header()))
                    .hint(format!("indexes start at 0: the next one is {items}")));
            }
            if *at == items {
                list.push(new(DeValue::Table(DeTable::new())));
            }
            list.get_mut(*at).map(Spanned::get_mut)
        }
        (Home::Named(name), Some(DeValue::Table(named))) => return Ok(table_in(named, name, span)),
        (Home::Table, top) => top,
        _ => None,
    };
    Ok(match value {
        Some(DeValue::Table(table)) => Some(table),
        _ => None,
    })
}
