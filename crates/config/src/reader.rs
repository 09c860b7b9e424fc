//! Walks the TOML tree with its spans. Each getter reads one key by the table in [`super::keys`]: a wrong value is reported with
//! its position and replaced by the default, so that one pass finds every problem.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Absent, Key, Kind, LATER, Section};
use super::problem::{Fault, Problem, Problems, did_you_mean};
use super::values;
use super::{kafka_names, names_of_others};

/// The most problems, and the most warnings, that are told of a text: a client of the API may send a text with many.
const TOLD_MAX: usize = 1_000;

/// The file's text, and the problems found in it so far.
pub(super) struct Source<'t> {
    file: &'t str,
    text: &'t str,
    /// The first byte of each line.
    lines: Vec<usize>,
    /// Values that the environment sets. Their spans begin after the text.
    places: Vec<Place>,
    problems: RefCell<Problems>,
    warnings: RefCell<Problems>,
}

/// The place of a value that a variable of the environment gives.
pub(super) struct Place {
    pub(super) span: Range<usize>,
    pub(super) variable: String,
    /// The value's key, like `sink[0].linger`.
    pub(super) path: String,
}

/// A place in the file: a key's path and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) span: Range<usize>,
}

impl Spot {
    /// A key that holds by default, and is nowhere in the file.
    pub(super) fn nowhere(path: impl Into<String>) -> Self {
        Self { path: path.into(), span: 0..0 }
    }

    fn is_in_file(&self) -> bool {
        self.span != (0..0)
    }
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, lines, places: Vec::new(), problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// Whether a line of the text opens the table of this name.
    pub(super) fn has_header(&self, name: &str) -> bool {
        self.text.lines().any(|line| {
            let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            line.starts_with(&format!("[{name}]")) || line.starts_with(&format!("{name}="))
        })
    }

    /// The first offset after all text and values so far.
    pub(super) fn end(&self) -> usize {
        self.places.last().map_or(self.text.len() + 1, |place| place.span.end)
    }

    /// Notes a variable's value. The spans of these values are consecutive from [`Source::end`] on.
    pub(super) fn place(&mut self, place: Place) {
        self.places.push(place);
    }

    /// Whether a variable of the environment gives this value.
    pub(super) fn is_of_environment(&self, spot: &Spot) -> bool {
        self.placed(spot).is_some()
    }

    fn placed(&self, spot: &Spot) -> Option<&Place> {
        self.places.iter().find(|place| place.span.contains(&spot.span.start))
    }

    /// The number of problems found so far.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.borrow().0.len()
    }

    /// Whether no more problems are told.
    pub(super) fn is_full(&self) -> bool {
        self.problem_count() >= TOLD_MAX
    }

    /// Notes a problem.
    pub(super) fn report(&self, spot: &Spot, fault: Fault) {
        if self.is_full() {
            return;
        }
        let problem = self.problem(spot, fault);
        self.problems.borrow_mut().0.push(problem);
    }

    /// Notes something legal that is probably not meant.
    pub(super) fn warn(&self, spot: &Spot, fault: Fault) {
        if self.warnings.borrow().0.len() >= TOLD_MAX {
            return;
        }
        let warning = self.problem(spot, fault);
        self.warnings.borrow_mut().0.push(warning);
    }

    fn problem(&self, spot: &Spot, fault: Fault) -> Problem {
        if let Some(place) = self.placed(spot) {
            let name = if spot.path.starts_with(&place.path) { &place.variable } else { &spot.path };
            return outside("environment", name, fault);
        }
        let offset = fault.at.and_then(|at| self.inside(&spot.span, at)).unwrap_or(spot.span.start);
        let (line, column) = if spot.is_in_file() { self.position(offset) } else { (0, 0) };
        let Fault { what, hint, .. } = fault;
        Problem { file: self.file.to_owned(), line, column, key: spot.path.clone(), what, hint }
    }

    /// Notes a problem of an option on the command line.
    pub(super) fn report_option(&self, option: &str, fault: Fault) {
        self.problems.borrow_mut().0.push(outside("command line", option, fault));
    }

    /// Notes a problem of a variable of the environment.
    pub(super) fn report_variable(&self, variable: &str, fault: Fault) {
        self.problems.borrow_mut().0.push(outside("environment", variable, fault));
    }

    /// Notes that a variable of the environment has no effect.
    pub(super) fn warn_variable(&self, variable: &str, fault: Fault) {
        self.warnings.borrow_mut().0.push(outside("environment", variable, fault));
    }

    /// Notes a problem of another file.
    pub(super) fn report_in(&self, file: &str, (line, key): (usize, &str), fault: Fault) {
        self.problems.borrow_mut().0.push(elsewhere(file, (line, key), fault));
    }

    /// Notes something legal in another file that is probably not meant.
    pub(super) fn warn_in(&self, file: &str, (line, key): (usize, &str), fault: Fault) {
        self.warnings.borrow_mut().0.push(elsewhere(file, (line, key), fault));
    }

    /// Problems and warnings, both in the order of the file.
    pub(super) fn into_problems(self) -> (Problems, Problems) {
        let (mut problems, mut warnings) = (self.problems.into_inner(), self.warnings.into_inner());
        for all in [&mut problems.0, &mut warnings.0] {
            if all.len() >= TOLD_MAX {
                let fault = Fault::new(format!("there are {TOLD_MAX} of these and maybe more, which are not told"));
                all.push(elsewhere(self.file, (0, ""), fault));
            }
        }
        problems.sort();
        warnings.sort();
        (problems, warnings)
    }

    /// `line 7` or the variable, for messages that point at another place.
    pub(super) fn where_is(&self, spot: &Spot) -> String {
        let line = || format!("line {}", self.position(spot.span.start).0);
        self.placed(spot).map_or_else(line, |place| place.variable.clone())
    }

    /// The place to change a value at: `control.bind in forebay.toml`, or the variable.
    pub(super) fn set_by(&self, spot: &Spot) -> String {
        let file = || format!("{} in {}", spot.path, self.file);
        self.placed(spot).map_or_else(file, |place| place.variable.clone())
    }

    /// Line and column of a byte, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        (line, self.text[start..offset].chars().count() + 1)
    }

    /// The place in the file of byte `at` of a string value.
    fn inside(&self, span: &Range<usize>, at: usize) -> Option<usize> {
        inside(self.text.get(span.clone())?, at).map(|offset| span.start + offset)
    }
}

/// The offset of byte `at` of the value of a string, as TOML has it.
fn inside(raw: &str, at: usize) -> Option<usize> {
    let quote = raw.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let is_long = raw.len() >= 6 && raw.chars().take(3).all(|other| other == quote);
    let opened = if is_long { 3 } else { 1 };
    // A line break after three quotes is none of the value.
    let body = raw.get(opened..)?;
    let from = body.strip_prefix("\r\n").or_else(|| body.strip_prefix('\n')).filter(|_| is_long).unwrap_or(body);
    let start = raw.len() - from.len();
    if quote == '\'' {
        return Some(start + at);
    }
    let (mut rest, mut value) = (from, 0);
    while value < at {
        let mut chars = rest.chars();
        let (bytes, len) = match (chars.next()?, chars.next()) {
            ('\\', Some(escape @ ('x' | 'u' | 'U'))) => {
                let digits = if escape == 'x' {
                    2
                } else if escape == 'u' {
                    4
                } else {
                    8
                };
                let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
                (2 + digits, char::from_u32(code)?.len_utf8())
            }
            // A backslash at the end of a line goes on with the next text.
            ('\\', Some(blank)) if blank.is_whitespace() => (1 + rest[1..].len() - rest[1..].trim_start().len(), 0),
            ('\\', Some(_)) => (2, 1),
            (other, _) => (other.len_utf8(), other.len_utf8()),
        };
        (rest, value) = (rest.get(bytes..)?, value + len);
    }
    Some(raw.len() - rest.len())
}

/// A problem that has no place in the file.
fn outside(file: &str, key: &str, fault: Fault) -> Problem {
    elsewhere(file, (0, key), fault)
}

fn elsewhere(file: &str, (line, key): (usize, &str), fault: Fault) -> Problem {
    let Fault { what, hint, .. } = fault;
    Problem { file: file.to_owned(), line, column: 0, key: key.to_owned(), what, hint }
}

/// A table of the file, read by one section's keys.
pub(super) struct Table<'a> {
    pub(super) source: &'a Source<'a>,
    section: Section,
    entries: &'a DeTable<'a>,
    /// The table itself: its header.
    pub(super) spot: Spot,
}

impl<'a> Table<'a> {
    /// Takes a table, and reports unknown keys in it.
    pub(super) fn new(source: &'a Source<'a>, section: Section, entries: &'a DeTable<'a>, spot: Spot) -> Self {
        let table = Self { source, section, entries, spot };
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let is_part = Section::ALL.iter().any(|part| part.parent() == Some((section, name)));
            if !is_part && !keys::of(section).any(|known| known.name == name) && !source.is_full() {
                let dotted = dotted_cure(name, value.get_ref());
                let fault = dotted.map_or_else(|| unknown(section, name), |cure| Fault::new("unknown key").hint(cure));
                source.report(&table.spot_of(name, key.span()), fault);
            }
        }
        table
    }

    /// A section within this one, if it is given. Reports a value that is no table.
    pub(super) fn part(&self, section: Section) -> Option<Self> {
        let (_, name) = section.parent()?;
        let value = self.entries.get(name)?;
        let spot = self.spot_of(name, value.span());
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(self.source, section, entries, spot)),
            other => {
                let fault =
                    values::wrong_type("a table", other).hint(format!("write {} above its keys", section.header()));
                self.source.report(&spot, fault);
                None
            }
        }
    }

    /// Sections within this one that have names of their own, in the order of the file.
    pub(super) fn named_parts(&self, section: Section) -> Vec<(&'a str, Self)> {
        let name = section.parent().map_or("", |(_, name)| name);
        let mut parts = Vec::new();
        for (name, value, spot) in self.entries(name) {
            match value {
                DeValue::Table(entries) => {
                    parts.push((name, Table::new(self.source, section, entries, spot)));
                }
                other => {
                    let fault =
                        values::wrong_type("a table", other).hint(format!("write {} above its keys", section.header()));
                    self.source.report(&spot, fault);
                }
            }
        }
        parts
    }

    /// Sections within this one that are a list of tables.
    pub(super) fn list_parts(&self, section: Section) -> Vec<Self> {
        let Some(value) = section.parent().and_then(|(_, name)| self.entries.get(name)) else { return Vec::new() };
        let name = section.parent().map_or("", |(_, name)| name);
        let spot = self.spot_of(name, value.span());
        let DeValue::Array(items) = value.get_ref() else {
            let fault = values::wrong_type("a list of tables", value.get_ref());
            self.source.report(&spot, fault.hint(format!("write {} above its keys", section.header())));
            return Vec::new();
        };
        let table = |(at, item): (usize, &'a Spanned<DeValue<'a>>)| {
            let spot = Spot { path: format!("{}[{at}]", spot.path), span: item.span() };
            match item.get_ref() {
                DeValue::Table(entries) => Some(Table::new(self.source, section, entries, spot)),
                other => {
                    self.source.report(&spot, values::wrong_type("a table", other));
                    None
                }
            }
        };
        items.iter().enumerate().filter_map(table).collect()
    }

    /// The place of a key's value; of the table, if the key is not given.
    pub(super) fn spot(&self, name: &str) -> Spot {
        let span = self.entries.get(name).map_or_else(|| self.spot.span.clone(), Spanned::span);
        self.spot_of(name, span)
    }

    /// Whether the key is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether the key is given as a table.
    pub(super) fn is_table(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|value| value.get_ref().is_table())
    }

    /// A key's text, if the key is given and its value is a text; nothing is reported.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.entries.get(name)?.get_ref().as_str()
    }

    /// Reads a key that has a default.
    pub(super) fn read<T>(&self, name: &str, read: impl Fn(&Key, &DeValue<'_>) -> Result<T, Fault>) -> T {
        let key = keys::get(self.section, name);
        if let Some(value) = self.given(key, &read) {
            return value;
        }
        let Absent::Is(default) = key.default else { unreachable!("{name} is read as one that has a default") };
        let value = DeValue::parse(default).expect("defaults are TOML: a test reads them all");
        read(key, value.get_ref()).expect("defaults are in their own bounds: a test reads them all")
    }

    /// Reads a key without a default, or with a derived one. Reports a missing required key.
    pub(super) fn find<T>(&self, name: &str, read: impl Fn(&Key, &DeValue<'_>) -> Result<T, Fault>) -> Option<T> {
        let key = keys::get(self.section, name);
        if !self.has(name) && matches!(key.default, Absent::Required) {
            self.source.report(&self.spot(name), Fault::new("is required").hint(first_sentence(key.meaning)));
        }
        self.given(key, &read)
    }

    fn given<T>(&self, key: &Key, read: impl Fn(&Key, &DeValue<'_>) -> Result<T, Fault>) -> Option<T> {
        let value = self.entries.get(key.name)?;
        let report = |fault: Fault| {
            let cure = dotted_cure(key.name, value.get_ref());
            let fault = match cure {
                Some(cure) => fault.hint(cure),
                None => fault,
            };
            self.source.report(&self.spot(key.name), fault);
        };
        read(key, value.get_ref()).map_err(report).ok()
    }

    /// Reads a key that takes one string or a list of strings; each with its position. Reports other values, and an empty list.
    pub(super) fn texts(&self, name: &str) -> Vec<(String, Spot)> {
        let key = keys::get(self.section, name);
        let Some(value) = self.entries.get(name) else {
            self.find(name, |_, _| Ok(()));
            return Vec::new();
        };
        let spot = self.spot(name);
        match value.get_ref() {
            DeValue::String(text) => vec![(text.clone().into_owned(), spot)],
            DeValue::Array(items) if items.is_empty() && !matches!(key.kind, Kind::Filters) => {
                let hint = match key.default {
                    Absent::Required => "list at least one",
                    _ => "list at least one, or remove the key",
                };
                self.source.report(&spot, Fault::new("is an empty list").hint(hint));
                Vec::new()
            }
            DeValue::Array(items) => items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| {
                    let spot = Spot { path: format!("{}[{at}]", spot.path), span: item.span() };
                    match values::text(key, item.get_ref()) {
                        Ok(text) => Some((text, spot)),
                        Err(_) => {
                            self.source.report(&spot, values::wrong_type("a string", item.get_ref()));
                            None
                        }
                    }
                })
                .collect(),
            other => {
                self.source.report(&spot, values::wrong_type("a string or a list of strings", other));
                Vec::new()
            }
        }
    }

    /// The entries of a key that takes a table, in the order of the file.
    pub(super) fn entries(&self, name: &str) -> Vec<(&'a str, &'a DeValue<'a>, Spot)> {
        let spot = self.spot(name);
        match self.entries.get(name).map(Spanned::get_ref) {
            None => Vec::new(),
            Some(DeValue::Table(table)) => in_file_order(table)
                .into_iter()
                .map(|(key, value)| {
                    let path = format!("{}.{}", spot.path, key.get_ref());
                    (key.get_ref().as_ref(), value.get_ref(), Spot { path, span: value.span() })
                })
                .collect(),
            Some(other) => {
                self.source.report(&spot, values::wrong_type("a table", other));
                Vec::new()
            }
        }
    }

    fn spot_of(&self, name: &str, span: Range<usize>) -> Spot {
        Spot { path: format!("{}.{name}", self.spot.path), span }
    }
}

/// The values of a section without any key. `path` is its place in messages.
pub(super) fn defaults<T>(section: Section, path: &str, read: impl FnOnce(&Table<'_>) -> T) -> T {
    let (source, entries) = (Source::new("defaults", ""), DeTable::new());
    read(&Table::new(&source, section, &entries, Spot::nowhere(path)))
}

/// `linger.ms = 5` without quotes is a table `linger` with a key `ms`: the cure, if the name is one of Kafka's.
fn dotted_cure(name: &str, value: &DeValue<'_>) -> Option<&'static str> {
    let mut dotted = name.to_owned();
    let mut value = value;
    while let DeValue::Table(table) = value {
        let (key, inner) = table.iter().next().filter(|_| table.len() == 1)?;
        dotted = format!("{dotted}.{}", key.get_ref());
        value = inner.get_ref();
    }
    if dotted == name { None } else { kafka_names::cure(&dotted) }
}

/// The beginning of a key's meaning, in a form that continues after a semicolon.
fn first_sentence(meaning: &str) -> String {
    let sentence = meaning.split(". ").next().unwrap_or(meaning).trim_end_matches('.');
    let name = sentence.starts_with("Kafka") || sentence.starts_with("MQTT");
    match sentence.chars().next() {
        Some(first) if !name => format!("{}{}", first.to_lowercase(), &sentence[first.len_utf8()..]),
        _ => sentence.to_owned(),
    }
}

/// A table in a table, created if it is missing. `None`: the value is no table, which is reported by its reader.
pub(super) fn table_in<'t, 'a>(
    table: &'t mut DeTable<'a>,
    name: &str,
    span: &Range<usize>,
) -> Option<&'t mut DeTable<'a>> {
    if !table.contains_key(name) {
        let empty = Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
        table.insert(Spanned::new(span.clone(), name.to_owned().into()), empty);
    }
    match table.get_mut(name).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => Some(inner),
        _ => None,
    }
}

/// Entries by their place in the file; the tree has them by name.
pub(super) fn in_file_order<'a, 't>(
    table: &'a DeTable<'t>,
) -> Vec<(&'a Spanned<toml::de::DeString<'t>>, &'a Spanned<DeValue<'t>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The fault of a key that a section does not have.
fn unknown(section: Section, name: &str) -> Fault {
    let path = format!("{}.{name}", section.name());
    if let Some((_, advice)) = LATER.iter().find(|(later, _)| *later == path) {
        return Fault::new("is not supported yet").hint(*advice);
    }
    let fault = Fault::new("unknown key");
    if let Some(cure) = names_of_others::cure(section, name).or_else(|| kafka_names::cure(name)) {
        return fault.hint(cure);
    }
    if let Some(hint) = did_you_mean(name, keys::of(section).map(|key| key.name)) {
        return fault.hint(hint);
    }
    if let Some(hint) = belongs_to(name) {
        return fault.hint(hint);
    }
    let known: Vec<_> = keys::of(section).map(|key| key.name).collect();
    fault.hint(format!("{} has {}", section.header(), known.join(", ")))
}

/// The parts of the file that have a key of that name.
pub(super) fn belongs_to(name: &str) -> Option<String> {
    let mut headers: Vec<_> = keys::all().filter(|key| key.name == name).map(|key| key.section.header()).collect();
    let last = headers.pop()?;
    if headers.is_empty() {
        return Some(format!("it belongs to {last}"));
    }
    Some(format!("it belongs to {} or {last}", headers.join(", ")))
}
