//! Programs: rules, compiled. [`Program::compile`] once, [`Program::evaluate`] for each message.

mod check;
mod compile;
mod eval;
mod from;
mod node;
mod output;
mod path;

use std::fmt;

pub use self::check::{Explanation, Warning};
use self::from::Origins;
pub use self::from::{SourceName, from_text};
use self::node::{Assign, Node, NodeId};
pub use self::output::{Output, UnknownColumn};
pub(super) use self::path::{put_member, read_names};
use super::arena::Arena;
use super::around::Around;
use super::event::Event;
use super::facts::Subject;
use super::failure::Failure;
use super::field::Field;
use super::functions::Pattern;
use super::message::Message;
use super::sql::ast::Step;
use super::sql::{Error, Place};

/// A compiled rule. It is read-only and may be shared by threads.
pub struct Program {
    name: Box<str>,
    sql: Box<str>,
    from: Origins,
    nodes: Vec<Node>,
    /// The places of the nodes.
    places: Vec<Place>,
    /// Operands of nodes.
    operands: Vec<NodeId>,
    /// The steps of paths and targets.
    steps: Vec<Step>,
    patterns: Vec<Pattern>,
    plan: Plan,
    /// The output's, in descending order of their names.
    columns: Vec<Column>,
    reads: Reads,
    warnings: Vec<Warning>,
}

/// The evaluation in order.
#[derive(Debug, Default)]
struct Plan {
    /// Columns that WHERE needs.
    before: Vec<Assign>,
    condition: Option<NodeId>,
    /// The other columns.
    after: Vec<Assign>,
    each: Option<Each>,
    /// Columns of both lists.
    slots: u16,
    /// Columns before those of DO.
    kept: u16,
}

/// FOREACH.
#[derive(Debug)]
struct Each {
    /// The array.
    items: NodeId,
    /// INCASE.
    filter: Option<NodeId>,
    /// DO.
    list: Vec<Assign>,
}

/// A column of the output.
#[derive(Debug)]
struct Column {
    name: Box<str>,
    /// `None`: the item of FOREACH.
    slot: Option<u16>,
    /// JSON text before the value: a comma, the quoted name, a colon.
    begin: Box<[u8]>,
}

/// The parts of a message that a program reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// The fields, ascending, each once.
    pub(super) fields: Vec<Field>,
    /// Ways into the payload, as in SQL, in the order of the rule.
    pub(super) payload_paths: Vec<String>,
}

/// A message and the shared state of its rules: the index of its payload, and their common bounds of steps and bytes.
#[derive(Debug)]
pub struct Input<'i> {
    subject: Subject<'i>,
    around: &'i Around<'i>,
    arena: &'i mut Arena,
}

impl<'i> Input<'i> {
    /// Begins with a message; all of its rules are evaluated with this.
    #[inline]
    pub fn new(message: &'i Message<'i>, around: &'i Around<'i>, arena: &'i mut Arena) -> Self {
        Self::of(Subject::Message(message), around, arena)
    }

    /// [`Input::new`] with anything that rules are evaluated for.
    pub fn of(subject: Subject<'i>, around: &'i Around<'i>, arena: &'i mut Arena) -> Self {
        arena.begin_message(subject.text(), around.seed);
        Self { subject, around, arena }
    }

    /// Goes on with another subject: its rules have the steps and bytes that those of the previous one have left.
    pub fn go_on_with(&mut self, subject: Subject<'i>) {
        self.subject = subject;
        self.arena.go_on_with(subject.text());
    }

    /// Goes on like [`Input::go_on_with`] with a message that a rule has republished for the previous one.
    pub fn of_republished(message: &'i Message<'i>, around: &'i Around<'i>, arena: &'i mut Arena) -> Self {
        arena.go_on_with(message.context.payload);
        Self { subject: Subject::Message(message), around, arena }
    }

    /// Steps of the rules so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.arena.steps_taken()
    }

    /// Comparisons of values of different types so far, which are rarely meant.
    #[must_use]
    pub fn mixed_comparisons(&self) -> u32 {
        self.arena.mixed_comparisons()
    }
}

/// The result of a rule for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The number of outputs, at least one.
    Passed(u32),
    /// WHERE or INCASE was false, or FOREACH had no items.
    Filtered,
}

impl Program {
    /// Compiles a rule; `name` is the value of `metadata.rule_id`.
    ///
    /// # Errors
    /// The error in the text, and its place.
    pub fn compile(sql: &str, name: &str) -> Result<Self, Error> {
        compile::compile(sql, name)
    }

    /// The text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic filters of FROM, which are valid.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.from.filters.iter().map(|filter| &**filter)
    }

    /// The names in FROM: filters, then sources and events by EMQX's names.
    pub fn from(&self) -> impl Iterator<Item = String> {
        let sources = self.from.sources.iter().map(|source| from_text(&source.name));
        let events = self.from.events.iter().map(|event| event.from());
        self.filters().map(str::to_owned).chain(sources).chain(events)
    }

    /// Events that FROM names, once each.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.from.events
    }

    /// Sources that FROM names.
    #[must_use]
    pub fn sources(&self) -> &[SourceName] {
        &self.from.sources
    }

    /// Warnings of probable mistakes.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Names of the output's columns, in the order in which they are written.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| &*column.name)
    }

    /// Evaluates the rule for a message and gives each output to `each`. The caller has matched the topic with the filters. If the
    /// rule fails, no more outputs follow, and those that were given do not count.
    ///
    /// # Errors
    /// The failure of the rule for this message.
    pub fn evaluate(
        &self,
        input: &mut Input<'_>,
        each: impl FnMut(&Output<'_>) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        input.arena.begin_rule();
        let outcome = eval::Run::new(self, input.subject, input.around, input.arena).and_then(|run| run.all(each));
        input.arena.end_rule();
        outcome
    }

    fn place(&self, node: NodeId) -> Place {
        self.places.get(node as usize).copied().unwrap_or_default()
    }
}

/// Two programs are equal if their names and statements are.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.sql) == (&other.name, &other.sql)
    }
}

impl Eq for Program {}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("sql", &self.sql)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
