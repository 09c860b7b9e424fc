//! Rules: `[[rule]]`, with `[[rule.republish]]`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use toml_edit::{Array, Value};

use super::Plan;
use super::collect::{Thing, family_of};
use super::draft::Block;
use super::given::Given;
use super::notes::Notes;
use super::republish::republish;
use forebay_rule::program::Program;

/// The place of an action: its family and name.
pub(super) type ActionKey = (String, String);

/// The sink of an action.
pub(super) struct Target {
    pub(super) sink: String,
    /// Whether the sink may get records.
    pub(super) is_enabled: bool,
}

/// A rule that was read, before its sinks are made.
pub(super) struct Feeder {
    pub(super) blocks: Vec<Block>,
    /// Names of the rule's sinks.
    pub(super) sinks: Vec<String>,
    /// `None`: the statement is wrong.
    program: Option<Program>,
    /// Whether there is a column `timestamp` that is not the message's own.
    pub(super) names_a_timestamp: bool,
}

impl Feeder {
    /// Whether an output may have a column of this name.
    pub(super) fn has_column(&self, column: &str) -> bool {
        self.program.as_ref().is_some_and(|program| program.has_column(column).is_ok())
    }

    pub(super) fn is_in_force(&self) -> bool {
        self.program.is_some()
    }

    /// A rule that takes all messages of a topic filter to the sink of an action.
    pub(super) fn of_filter(name: &str, filter: &str, plan: &Plan<'_, '_>, notes: &Notes) -> Self {
        let about = plan.thing.about();
        let sql = format!("SELECT * FROM \"{}\"", filter.replace('"', ""));
        notes.add(&about, format_args!("local_topic is the rule \"{name}\" here: {sql}"));
        let mut block = Block::listed("rule", &about);
        block.set("name", name);
        let program = statement(&mut block, &sql, name, &about, notes);
        block.set("sinks", Array::from_iter([plan.sink.as_str()]));
        if !plan.is_enabled || program.is_none() {
            block.set("enabled", false);
        }
        Self { blocks: vec![block], sinks: vec![plan.sink.clone()], program, names_a_timestamp: false }
    }
}

/// Makes the blocks of a rule. `targets`: the sinks of actions.
pub(super) fn rule(thing: &Thing<'_>, name: &str, targets: &BTreeMap<ActionKey, Target>, notes: &Notes) -> Feeder {
    let about = thing.about();
    let given = Given::new(about.clone(), thing.members, notes);
    given.pass_over(&["id", "from", "metadata", "status", "created_at", "last_modified_at"]);
    let mut block = Block::listed("rule", &about);
    block.set("name", name);
    let label = given.text("name").filter(|label| *label != thing.name);
    let description = label.into_iter().chain(given.text("description")).collect::<Vec<_>>().join(": ");
    block.set_some("description", Some(description).filter(|text| !text.is_empty()));
    let sql = given.text("sql").unwrap_or_default();
    let program = statement(&mut block, sql, name, &about, notes);
    let mut made = Made { about: &about, notes, targets, sinks: Vec::new(), is_console: false, parts: Vec::new() };
    for (at, action) in given.list("actions").iter().enumerate() {
        made.action(&format!("actions[{at}]"), action);
    }
    let Made { sinks, is_console, parts, .. } = made;
    block.set_some("sinks", (!sinks.is_empty()).then(|| Array::from_iter(sinks.iter().map(String::as_str))));
    block.set_some("console", is_console.then_some(true));
    if !given.flag("enable").unwrap_or(true) || program.is_none() {
        block.set("enabled", false);
    }
    given.leave_out("tags", "there are none here");
    given.finish();
    let is_off = block.is_off();
    let parts = parts.into_iter().map(|part| if is_off { part.off() } else { part });
    let names_a_timestamp = names_a_timestamp(sql);
    Feeder { blocks: std::iter::once(block).chain(parts).collect(), sinks, program, names_a_timestamp }
}

/// Sets and compiles the statement. A rule with a wrong one is a comment.
fn statement(block: &mut Block, sql: &str, name: &str, about: &str, notes: &Notes) -> Option<Program> {
    block.set_lines("sql", sql);
    match Program::compile(sql, name) {
        Ok(program) => Some(program),
        Err(error) => {
            notes.add(about, format_args!("the rule is a comment: {}", error.show(sql)));
            block.turn_off();
            None
        }
    }
}

/// Whether a statement names something `timestamp`.
fn names_a_timestamp(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let words: Vec<&str> =
        sql.split(|c: char| c.is_whitespace() || "\"',".contains(c)).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| pair == ["as", "timestamp"])
}

struct Made<'m> {
    about: &'m str,
    notes: &'m Notes,
    targets: &'m BTreeMap<ActionKey, Target>,
    sinks: Vec<String>,
    is_console: bool,
    parts: Vec<Block>,
}

impl Made<'_> {
    fn action(&mut self, path: &str, action: &Json) {
        match action {
            Json::String(reference) if reference == "console" => self.is_console = true,
            Json::String(reference) => self.reference(path, reference),
            Json::Object(call) => self.call(path, call),
            _ => self.notes.left_out(self.about, path, "it is neither a text nor an object"),
        }
    }

    fn reference(&mut self, path: &str, reference: &str) {
        let skip = |why: &str| self.notes.left_out(self.about, path, format_args!("{reference}: {why}"));
        let Some((family, name)) = reference.split_once(':') else {
            return skip("it names no action");
        };
        let family = family_of(family);
        match self.targets.get(&(family.to_owned(), name.to_owned())) {
            Some(Target { is_enabled: false, sink }) => {
                skip(&format!("it is disabled; to use it, name \"{sink}\" in sinks"));
            }
            Some(target) if !self.sinks.contains(&target.sink) => self.sinks.push(target.sink.clone()),
            Some(_) => {}
            None if super::connector::family(family).is_some() => skip("that action is not in what was read"),
            None => skip("rules write to Kafka and republish"),
        }
    }

    fn call(&mut self, path: &str, call: &Map<String, Json>) {
        match call.get("function").and_then(Json::as_str) {
            Some("console") => self.is_console = true,
            Some("republish") => {
                let empty = Map::new();
                let arguments = call.get("args").and_then(Json::as_object).unwrap_or(&empty);
                let given = Given::new(format!("{}: {path}", self.about), arguments, self.notes);
                self.parts.push(republish(given));
            }
            other => {
                let what = other.unwrap_or("an action without a function");
                self.notes.left_out(self.about, path, format_args!("{what}: rules write to Kafka and republish"));
            }
        }
    }
}

/// A value of a key that is a template or a constant.
pub(super) fn template_or_constant(value: &Json) -> Option<Value> {
    match value {
        Json::String(text) => Some(super::template::translate(text, |_| false).text.into()),
        Json::Bool(flag) => Some((*flag).into()),
        Json::Number(number) => number.as_i64().map(Value::from),
        _ => None,
    }
}
