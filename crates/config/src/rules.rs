//! The rules. Statements are compiled before the sinks are read: templates of sinks are over their outputs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::keys::Section;
use super::problem::{Fault, did_you_mean};
use super::reader::{Spot, Table};
use super::resolve::Document;
use super::resolved::{OnError, Rule, Sink, Source};
use super::setting::{Setting as _, Settings as _};
use super::{republish, sinks, values};
use forebay_rule::program::Program;

/// Rules that were read, before their sinks are known.
pub(super) struct Drafts<'a> {
    all: Vec<Draft<'a>>,
    /// The places of the rules that name a sink.
    by_sink: HashMap<String, Vec<usize>>,
}

struct Draft<'a> {
    rule: Rule,
    /// The position of each of the rule's sinks.
    spots: Vec<Spot>,
    table: Table<'a>,
}

impl<'a> Drafts<'a> {
    /// Reads the rules.
    pub(super) fn of(document: &Document<'a>, environment: &BTreeMap<String, String>) -> Self {
        let tables = document.tables(Section::Rule);
        document.bound(Section::Rule, &tables);
        let mut names = HashMap::new();
        let read = |table: Table<'a>| {
            let name = sinks::unique_name(&table, &mut names, "rule");
            let mut rule = Rule::read(&table);
            rule.description = table.find("description", values::text);
            rule.sql = table.find("sql", String::of).unwrap_or_default();
            rule.program = name.as_ref().and_then(|name| compile(&table, &rule.sql, name));
            let (sinks, spots) = sinks(&table);
            rule.sinks = sinks;
            rule.name = name?;
            rule.republish = republish::read(&table, &rule, environment);
            Some(Draft { rule, spots, table })
        };
        let all: Vec<Draft<'a>> = tables.into_iter().filter_map(read).collect();
        let mut by_sink: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, draft) in all.iter().enumerate() {
            draft.rule.sinks.iter().for_each(|sink| by_sink.entry(sink.clone()).or_default().push(at));
        }
        Self { all, by_sink }
    }

    /// The rules that feed the sink of this name.
    pub(super) fn feeders(&self, sink: &str) -> Vec<&Rule> {
        self.by_sink.get(sink).into_iter().flatten().map(|at| &self.all[*at].rule).collect()
    }

    /// The rules, checked against the sinks.
    pub(super) fn with_sinks(self, known: &[Sink], has_payloads: bool) -> Vec<Rule> {
        let by_name: HashMap<&str, &Sink> = known.iter().rev().map(|sink| (sink.name.as_str(), sink)).collect();
        self.all.into_iter().map(|draft| draft.with_sinks((known, &by_name), has_payloads)).collect()
    }
}

impl Draft<'_> {
    /// Adds the rule's sinks. `has_payloads`: log lines may contain parts of messages.
    fn with_sinks(mut self, (known, by_name): (&[Sink], &HashMap<&str, &Sink>), has_payloads: bool) -> Rule {
        let table = &self.table;
        if self.rule.console && !has_payloads {
            let fault = Fault::new("has no effect: log lines may not have what is in messages");
            table.source.warn(&table.spot("console"), fault.hint("set `payloads = true` in [log]"));
        }
        let mut fed = Vec::new();
        for (name, spot) in self.rule.sinks.iter().zip(&self.spots) {
            match by_name.get(name.as_str()) {
                Some(sink) => fed.push(*sink),
                None if table.source.is_full() => {}
                None => {
                    let names = || known.iter().map(|sink| sink.name.as_str());
                    let hint = did_you_mean(name, names()).unwrap_or_else(|| "add a [[sink]] of that name".to_owned());
                    table.source.report(spot, Fault::new(format!("there is no sink \"{name}\"")).hint(hint));
                }
            }
        }
        if self.rule.sinks.is_empty() && self.rule.republish.is_empty() && !self.rule.console {
            let fault = Fault::new("has no effect: none of its outputs goes anywhere");
            table.source.warn(&table.spot, fault.hint("name sinks, or add a [[rule.republish]]"));
        }
        let has_letters = |sink: &&Sink| sink.dead_letters.is_some() || !sink.no_dead_letters;
        self.rule.on_error = match table.find("on_error", OnError::of) {
            Some(OnError::DeadLetter) if !fed.iter().any(has_letters) => {
                let hint = "give one of its sinks dead letters, or set on_error to \"skip\" or \"reject\"";
                let fault = Fault::new("none of the rule's sinks has dead letters").hint(hint);
                table.source.report(&table.spot("on_error"), fault);
                OnError::Skip
            }
            Some(asked) => asked,
            None if !fed.is_empty() && fed.iter().all(has_letters) => OnError::DeadLetter,
            None => OnError::Skip,
        };
        self.rule
    }
}

/// Reports sources that a rule names in FROM, and that are not there.
pub(super) fn check_sources(document: &Document<'_>, rules: &[Rule], known: &[Source]) {
    for table in document.tables(Section::Rule) {
        let rule = rules.iter().find(|rule| table.text("name") == Some(&rule.name));
        let Some(program) = rule.and_then(|rule| rule.program.as_ref()) else { continue };
        for named in program.sources().iter().filter(|named| !known.iter().any(|source| source.name == *named.name)) {
            let names = || known.iter().map(|source| source.name.as_str());
            let hint = did_you_mean(&named.name, names()).unwrap_or_else(|| "add a [[source]] of that name".to_owned());
            let fault = Fault::new(format!("there is no source \"{}\"", named.name)).hint(hint);
            table.source.report(&table.spot("sql"), Fault { at: Some(named.place.start as usize), ..fault });
        }
    }
}

/// Compiles the statement, and reports errors and probable mistakes, at their place.
fn compile(table: &Table<'_>, sql: &str, name: &str) -> Option<Arc<Program>> {
    if sql.is_empty() {
        return None;
    }
    let spot = table.spot("sql");
    match Program::compile(sql, name) {
        Ok(program) => {
            for warning in program.warnings() {
                let fault = Fault::new(warning.what.clone()).hint(warning.hint.clone());
                table.source.warn(&spot, Fault { at: Some(warning.place.start as usize), ..fault });
            }
            Some(Arc::new(program))
        }
        Err(error) => {
            let fault = Fault { what: error.what, hint: error.hint, at: Some(error.place.start as usize) };
            table.source.report(&spot, fault);
            None
        }
    }
}

/// Reads the names of the sinks.
fn sinks(table: &Table<'_>) -> (Vec<String>, Vec<Spot>) {
    let mut names: Vec<String> = Vec::new();
    let (mut spots, mut seen) = (Vec::new(), HashSet::new());
    let given = if table.has("sinks") { table.texts("sinks") } else { Vec::new() };
    for (name, spot) in given {
        if !seen.insert(name.clone()) {
            table.source.report(&spot, Fault::new(format!("\"{name}\" is in the list already")));
        } else {
            names.push(name);
            spots.push(spot);
        }
    }
    (names, spots)
}
