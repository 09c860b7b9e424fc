//! The output of a rule for a message: columns, by name and by way, for templates and as JSON.

use super::eval::Slot;
use super::node::{Assign, Constant, Node, NodeId};
use super::{Column, Plan, Program, path};
use crate::arena::Arena;
use crate::around::Environment;
use crate::failure::{Clause, Failure, Reason};
use crate::json::write::{Charged, Out as _, write};
use crate::sql::ast::Step;
use crate::sql::error::nearest;
use crate::value::Value;

/// An output. It borrows from the message, the program and the arena; nothing is copied until it is written.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    pub(super) program: &'a Program,
    pub(super) slots: &'a [Slot<'a>],
    pub(super) item: Value<'a>,
    pub(super) arena: &'a Arena,
}

/// The function that reads a variable of the environment.
const GETENV: &str = "getenv";

/// A name that outputs of a program cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownColumn {
    /// The name.
    pub name: String,
    /// The remedy.
    pub hint: String,
}

impl std::fmt::Display for UnknownColumn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the rule has no column `{}` ({})", self.name, self.hint)
    }
}

impl Program {
    /// Checks that the outputs have a column of this name.
    ///
    /// # Errors
    /// No output has the column.
    pub fn has_column(&self, name: &str) -> Result<(), UnknownColumn> {
        if self.columns().any(|column| column == name) {
            return Ok(());
        }
        let hint = match nearest(name, self.columns()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.columns.len() <= 8 => format!("it has {}", self.columns().collect::<Vec<_>>().join(", ")),
            None => "SELECT it, or name it with AS".to_owned(),
        };
        Err(UnknownColumn { name: name.to_owned(), hint })
    }
}

impl Program {
    /// The text of a column that is the same for all messages: a constant, or a variable of the environment.
    #[must_use]
    pub fn fixed(&self, name: &str, environment: &Environment) -> Option<String> {
        let slot = self.columns.iter().find(|column| *column.name == *name)?.slot?;
        let Plan { before, after, each, .. } = &self.plan;
        let lists = before.iter().chain(after).chain(each.iter().flat_map(|each| &each.list));
        let mut written = lists.filter(|assign| assign.slot() == slot);
        let (Some(Assign::Column { node, steps, .. }), None) = (written.next(), written.next()) else { return None };
        let text = |node: NodeId| match self.nodes.get(node as usize)? {
            Node::Constant(Constant::Text(text)) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        match self.nodes.get(*node as usize)? {
            _ if !steps.is_empty() => None,
            Node::Call { function, arguments } if function.name == GETENV => {
                let [name] = self.operands.get(arguments.start as usize..arguments.end as usize)? else { return None };
                Some(environment.get(text(*name)?).unwrap_or_default().to_owned())
            }
            _ => text(*node).map(str::to_owned),
        }
    }
}

impl<'a> Output<'a> {
    /// Columns and their values, in descending order of their names.
    pub fn columns(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let of = *self;
        self.program.columns.iter().filter_map(move |column| Some((&*column.name, of.value_of(column)?)))
    }

    fn value_of(&self, column: &Column) -> Option<Value<'a>> {
        let slot = |slot: u16| self.slots.get(usize::from(slot)).and_then(std::cell::Cell::get);
        column.slot.map_or(Some(self.item), slot)
    }

    /// A column by its name; absent if there is none.
    #[must_use]
    pub fn column(&self, name: &str) -> Value<'a> {
        self.columns().find(|(column, _)| *column == name).map_or(Value::Absent, |(_, value)| value)
    }

    /// The value at the end of steps into a column; absent if they lead nowhere.
    ///
    /// # Errors
    /// The rule has used up the steps or bytes of the message.
    pub(crate) fn at(&self, column: &str, steps: &[Step]) -> Result<Value<'a>, Failure> {
        path::read(self.column(column), steps, false, self.arena).map_err(failed)
    }

    /// Appends the whole output as JSON, `${.}`.
    ///
    /// # Errors
    /// A text is not UTF-8, or the rule has used up the steps or bytes of the message.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.write_all(&mut Charged { out, arena: self.arena }).map_err(failed)
    }

    fn write_all(&self, out: &mut Charged<'_>) -> Result<(), Reason> {
        out.put(b"{")?;
        let mut comma = false;
        for column in &self.program.columns {
            let Some(value) = self.value_of(column) else { continue };
            // The quoted name of a member follows a comma, which the first member omits.
            out.put(column.begin.get(usize::from(!comma)..).unwrap_or_default())?;
            comma = true;
            write(value, out, self.arena)?;
        }
        out.put(b"}")
    }

    /// Appends a value of this output for a template: texts verbatim, nothing for an absent value, every other value as JSON.
    ///
    /// # Errors
    /// Like [`Output::write`].
    pub fn write_value(&self, value: Value<'a>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut out = Charged { out, arena: self.arena };
        let written = match value {
            Value::Absent => Ok(()),
            Value::Text(bytes) => out.put(bytes),
            other => write(other, &mut out, self.arena),
        };
        written.map_err(failed)
    }
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.columns()).finish()
    }
}

fn failed(reason: Reason) -> Failure {
    Failure { reason, clause: Clause::Output, place: Default::default() }
}
