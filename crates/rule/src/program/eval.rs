//! The walk over a program's nodes.

use std::cell::Cell;

use super::node::{Assign, Node, NodeId, Part};
use super::output::Output;
use super::{Outcome, Program, path};
use crate::arena::Arena;
use crate::around::Around;
use crate::compare::{compare, is_same};
use crate::facts::Subject;
use crate::failure::{Clause, Failure, Reason};
use crate::field::Field;
use crate::functions::{Body, Context, arithmetic};
use crate::sql::ast::Step;
use crate::value::Value;
use forebay_mqtt::topic;

/// The most arguments of a function.
pub(crate) const ARGUMENTS_MAX: usize = 8;
/// The most items of a FOREACH.
pub(crate) const ITEMS_MAX: usize = 1_000;

/// A column's value; `None`: not written yet.
pub(super) type Slot<'a> = Cell<Option<Value<'a>>>;

/// An evaluation.
pub(super) struct Run<'a> {
    program: &'a Program,
    subject: Subject<'a>,
    context: Context<'a>,
    slots: &'a [Slot<'a>],
    item: Cell<Value<'a>>,
    clause: Cell<Clause>,
}

/// A reason, and the node of the failure.
type Fault = (Reason, NodeId);
type Evaluated<'a> = Result<Value<'a>, Fault>;

impl<'a> Run<'a> {
    pub(super) fn new(
        program: &'a Program,
        subject: Subject<'a>,
        around: &'a Around<'a>,
        arena: &'a Arena,
    ) -> Result<Self, Failure> {
        let context = Context { arena, around };
        let slots = arena.slots(usize::from(program.plan.slots));
        let slots = slots.map_err(|reason| Failure { reason, clause: Clause::Select, place: Default::default() })?;
        Ok(Self { program, subject, context, slots, item: Cell::new(Value::Absent), clause: Cell::new(Clause::Select) })
    }

    /// Evaluates the program and passes each output to `each`.
    pub(super) fn all(&self, each: impl FnMut(&Output<'_>) -> Result<(), Failure>) -> Result<Outcome, Failure> {
        let mut refused = None;
        self.outputs(each, &mut refused).map_err(|(reason, node)| {
            let place = self.program.place(node);
            refused.unwrap_or(Failure { reason, clause: self.clause.get(), place })
        })
    }

    fn outputs(
        &self,
        mut each: impl FnMut(&Output<'_>) -> Result<(), Failure>,
        refused: &mut Option<Failure>,
    ) -> Result<Outcome, Fault> {
        let plan = &self.program.plan;
        let list = if plan.each.is_some() { Clause::Foreach } else { Clause::Select };
        self.assign_all(&plan.before, list)?;
        if let Some(condition) = plan.condition {
            self.clause.set(Clause::Where);
            if !self.condition(condition)? {
                return Ok(Outcome::Filtered);
            }
        }
        self.assign_all(&plan.after, list)?;
        let mut give = |item: Value<'a>, node: NodeId| {
            self.clause.set(Clause::Output);
            let output = Output { program: self.program, slots: self.slots, item, arena: self.context.arena };
            each(&output).map_err(|failure| {
                *refused = Some(failure);
                (failure.reason, node)
            })
        };
        let Some(each) = &plan.each else {
            return give(Value::Absent, 0).map(|()| Outcome::Passed(1));
        };
        self.clause.set(Clause::Foreach);
        let at = each.items;
        let items = self.eval(at)?;
        let items = match items {
            Value::Text(bytes) => self.context.arena.decode(bytes).unwrap_or(Value::Absent),
            other => other,
        };
        let Value::Array(items) = self.context.arena.open(items).map_err(|reason| (reason, at))? else {
            return Ok(Outcome::Filtered);
        };
        if items.len() > ITEMS_MAX {
            return Err((Reason::limit("FOREACH takes arrays of at most 1000 items"), at));
        }
        let mut outputs = 0;
        for item in items {
            self.item.set(*item);
            self.clause.set(Clause::Incase);
            let is_taken = each.filter.map_or(Ok(true), |filter| self.condition(filter))?;
            if is_taken {
                for slot in self.slots.iter().skip(usize::from(plan.kept)) {
                    slot.set(None);
                }
                self.assign_all(&each.list, Clause::Do)?;
                give(*item, at)?;
                outputs += 1;
            }
        }
        Ok(if outputs == 0 { Outcome::Filtered } else { Outcome::Passed(outputs) })
    }

    fn assign_all(&self, list: &'a [Assign], clause: Clause) -> Result<(), Fault> {
        self.clause.set(clause);
        list.iter().try_for_each(|assign| self.assign(assign))
    }

    fn assign(&self, assign: &'a Assign) -> Result<(), Fault> {
        match assign {
            Assign::Field { slot, field } => {
                let value = self.field(*field).map_err(|reason| (reason, 0))?;
                // A field that the subject does not have is no column.
                if let Some(value) = value {
                    self.set_column(*slot, value);
                }
            }
            Assign::Column { slot, node, steps, decodes } => {
                let new = self.eval(*node)?;
                let old = self.column(*slot).unwrap_or(Value::Absent);
                let value = path::put(old, self.steps(steps), new, *decodes, self.context.arena);
                self.set_column(*slot, value.map_err(|reason| (reason, *node))?);
            }
        }
        Ok(())
    }

    fn column(&self, slot: u16) -> Option<Value<'a>> {
        self.slots.get(usize::from(slot)).and_then(Cell::get)
    }

    fn set_column(&self, slot: u16, value: Value<'a>) {
        if let Some(column) = self.slots.get(usize::from(slot)) {
            column.set(Some(value));
        }
    }

    fn steps(&self, part: &Part) -> &'a [Step] {
        self.program.steps.get(part.start as usize..part.end as usize).unwrap_or_default()
    }

    fn operands(&self, part: &Part) -> &'a [NodeId] {
        self.program.operands.get(part.start as usize..part.end as usize).unwrap_or_default()
    }

    /// The value of a field. `None`: the subject does not have it.
    fn field(&self, field: Field) -> Result<Option<Value<'a>>, Reason> {
        self.subject.field(field, &self.program.name, self.context.arena)
    }

    /// A condition that is no boolean is an error.
    fn condition(&self, node: NodeId) -> Result<bool, Fault> {
        match self.eval(node)? {
            Value::Bool(value) => Ok(value),
            other => Err((Reason::wanted("a condition, true or false,", other.kind()), node)),
        }
    }

    fn eval(&self, at: NodeId) -> Evaluated<'a> {
        let arena = self.context.arena;
        let here = |reason: Reason| (reason, at);
        arena.spend(1).map_err(here)?;
        let Some(node) = self.program.nodes.get(at as usize) else { return Ok(Value::Absent) };
        match node {
            Node::Constant(constant) => Ok(constant.value()),
            Node::Field(field) => Ok(self.field(*field).map_err(here)?.unwrap_or(Value::Absent)),
            Node::Column(slot) => Ok(self.column(*slot).unwrap_or(Value::Absent)),
            Node::Item => Ok(self.item.get()),
            Node::Path { base, steps } => {
                let is_payload = matches!(self.program.nodes.get(*base as usize), Some(Node::Field(Field::Payload)));
                path::read(self.eval(*base)?, self.steps(steps), is_payload, arena).map_err(here)
            }
            Node::Either(first, second) => match self.eval(*first)? {
                Value::Absent => self.eval(*second),
                value => Ok(value),
            },
            Node::List(items) => {
                let items = self.operands(items);
                let mut list = arena.list_of(items.len()).map_err(here)?;
                for item in items {
                    list.push(self.eval(*item)?).map_err(here)?;
                }
                Ok(Value::Array(list.finish()))
            }
            Node::Range(from, to) => range(*from, *to, arena).map_err(here),
            Node::Minus(operand) => arithmetic::minus(self.eval(*operand)?).map_err(here),
            Node::Plus(operand) => {
                let value = self.eval(*operand)?;
                value.number().map(|_| value).map_err(here)
            }
            // A value that is no boolean is false under NOT, too.
            Node::Not(operand) => Ok(Value::Bool(matches!(self.eval(*operand)?, Value::Bool(false)))),
            Node::Arithmetic(operator, left, right) => {
                let (left, right) = (self.eval(*left)?, self.eval(*right)?);
                arithmetic::arithmetic(*operator, left, right, arena).map_err(here)
            }
            Node::Compare(operator, left, right) => {
                let (left, right) = (self.eval(*left)?, self.eval(*right)?);
                compare(*operator, left, right, arena).map(Value::Bool).map_err(here)
            }
            Node::Matches(left, right) => {
                let (name, filter) = (self.eval(*left)?, self.eval(*right)?);
                matches(name, filter).map(Value::Bool).map_err(here)
            }
            Node::And(operands) => {
                for operand in self.operands(operands) {
                    if !self.condition(*operand)? {
                        return Ok(Value::Bool(false));
                    }
                }
                Ok(Value::Bool(true))
            }
            Node::Or(operands) => {
                for operand in self.operands(operands) {
                    if self.condition(*operand)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Node::In { is_negated, value, list } => {
                let value = self.eval(*value)?;
                for item in self.operands(list) {
                    if is_same(value, self.eval(*item)?, arena).map_err(here)? {
                        return Ok(Value::Bool(!is_negated));
                    }
                }
                Ok(Value::Bool(*is_negated))
            }
            Node::Case { operand, arms, otherwise } => {
                let operand = operand.map(|operand| self.eval(operand)).transpose()?;
                for arm in self.operands(arms).chunks_exact(2) {
                    let [when, then] = arm else { continue };
                    let is_this = match operand {
                        Some(operand) => is_same(operand, self.eval(*when)?, arena).map_err(here)?,
                        None => self.condition(*when)?,
                    };
                    if is_this {
                        return self.eval(*then);
                    }
                }
                otherwise.map_or(Ok(Value::Absent), |otherwise| self.eval(otherwise))
            }
            Node::Call { function, arguments } => {
                let mut values = [Value::Absent; ARGUMENTS_MAX + 1];
                let mut len = 0;
                if let Body::OfField(field, _) = &function.body {
                    values[0] = self.field(*field).map_err(here)?.unwrap_or(Value::Absent);
                    len = 1;
                }
                let values = self.arguments(arguments, &mut values, len)?;
                match &function.body {
                    Body::Pure(call) | Body::Around(call) | Body::Format(call) | Body::OfField(_, call) => {
                        call(&self.context, values).map_err(here)
                    }
                    Body::Pattern(_) => Ok(Value::Absent),
                }
            }
            Node::Pattern { function, arguments, pattern } => {
                let mut values = [Value::Absent; ARGUMENTS_MAX + 1];
                let values = self.arguments(arguments, &mut values, 0)?;
                match (&function.body, self.program.patterns.get(*pattern as usize)) {
                    (Body::Pattern(call), Some(pattern)) => call(&self.context, pattern, values).map_err(here),
                    _ => Ok(Value::Absent),
                }
            }
        }
    }

    fn arguments<'v>(
        &self,
        arguments: &Part,
        values: &'v mut [Value<'a>; ARGUMENTS_MAX + 1],
        before: usize,
    ) -> Result<&'v [Value<'a>], Fault> {
        let arguments = self.operands(arguments);
        let len = before + arguments.len();
        for (value, argument) in values.iter_mut().skip(before).zip(arguments) {
            *value = self.eval(*argument)?;
        }
        Ok(values.get(..len).unwrap_or_default())
    }
}

/// `[from..to]`.
fn range<'a>(from: i64, to: i64, arena: &'a Arena) -> Result<Value<'a>, Reason> {
    let len = to.checked_sub(from).and_then(|len| usize::try_from(len.saturating_add(1)).ok()).unwrap_or_default();
    // The bound is checked before anything is built.
    if len > arena.bytes_left() / size_of::<Value<'_>>() {
        return Err(Reason::limit("the range is longer than a rule may make it"));
    }
    arena.spend(len as u64 / 8)?;
    let mut list = arena.list_of(len)?;
    for number in from..=to {
        list.push(Value::Int(number))?;
    }
    Ok(Value::Array(list.finish()))
}

/// `topic =~ filter`: no filter matches a topic that is absent.
fn matches(name: Value<'_>, filter: Value<'_>) -> Result<bool, Reason> {
    match (name, filter) {
        (Value::Text(_), Value::Text(_)) => {
            let (name, filter) = (name.as_str()?, filter.as_str()?);
            if !topic::valid_filter(filter) {
                return Err(Reason::decode("the right side of =~ is no topic filter"));
            }
            Ok(topic::matches(filter, name))
        }
        (Value::Absent, _) => Ok(false),
        (Value::Text(_), other) => Err(Reason::wanted("a topic filter", other.kind())),
        (other, _) => Err(Reason::wanted("a topic", other.kind())),
    }
}
