//! Warnings of probable mistakes, and the explanation of a program: for the operator.

use std::fmt;

use super::Program;
use super::node::{Assign, Node, NodeId};
use crate::failure::Clause;
use crate::field::Field;
use crate::functions::Body;
use crate::sql::Place;
use crate::sql::ast::{Binary, Expr, ExprKind, Head, Item, Statement};
use crate::value::Kind;

/// Something that is allowed, and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The place of the warning.
    pub place: Place,
    /// The finding.
    pub what: String,
    /// The remedy.
    pub hint: String,
}

impl Warning {
    /// The warning for a terminal: with the line of the rule and carets below the place.
    #[must_use]
    pub fn show(&self, sql: &str) -> String {
        let (line, column) = self.place.line_and_column(sql);
        format!("line {line}, column {column}: {self}\n{}", self.place.caret(sql))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.hint)
    }
}

/// Warnings that the tree alone shows: two items for one column, and paths into a payload that the list has hidden.
pub(super) fn statement(tree: &Statement, warnings: &mut Vec<Warning>) {
    let (list, each, filter): (&[Item], &[Item], Option<&Expr>) = match &tree.head {
        Head::Select(list) => (list, &[], None),
        Head::Foreach { list, each, filter } => (list, each, filter.as_ref()),
    };
    for list in [list, each] {
        let mut written: Vec<String> = Vec::new();
        for item in list {
            let Item::Column(expr, target) = item else { continue };
            let (column, place) = match (target, &expr.kind) {
                (Some(target), _) => (target.to_string(), target.place),
                (None, ExprKind::Path(..)) => (expr.to_string(), expr.place),
                _ => continue,
            };
            if written.contains(&column) {
                let what = format!("`{column}` is written twice");
                warnings.push(Warning { place, what, hint: "the last one counts".to_owned() });
            }
            written.push(column);
        }
    }
    let hidden = list.iter().find_map(|item| match item {
        Item::Column(expr, None) => match &expr.kind {
            ExprKind::Path(name, steps) if name == "payload" && !steps.is_empty() => Some(expr.to_string()),
            _ => None,
        },
        Item::Column(_, Some(target)) if target.name == "payload" && !list.iter().any(names_payload) => {
            Some(target.to_string())
        }
        _ => None,
    });
    let Some(hidden) = hidden.filter(|_| !list.iter().any(names_payload)) else { return };
    let mut reads = |expr: &Expr| {
        paths(expr, &mut |expr| match &expr.kind {
            ExprKind::Path(name, steps)
                if name == "payload" && !steps.is_empty() && !expr.to_string().starts_with(&hidden) =>
            {
                let what = format!("`{expr}` is absent here: the list has put `{hidden}` in the place of the payload");
                warnings.push(Warning { place: expr.place, what, hint: "name the column with AS".to_owned() });
            }
            _ => {}
        });
    };
    tree.condition.iter().chain(filter).for_each(&mut reads);
    for item in each {
        if let Item::Column(expr, _) = item {
            reads(expr);
        }
    }
}

/// Whether an item is the whole payload, so that paths into it stay valid.
fn names_payload(item: &Item) -> bool {
    matches!(item, Item::Column(Expr { kind: ExprKind::Path(name, steps), .. }, None) if name == "payload" && steps.is_empty())
}

/// Gives every expression below one, itself included.
fn paths(expr: &Expr, each: &mut impl FnMut(&Expr)) {
    each(expr);
    match &expr.kind {
        ExprKind::Text(_)
        | ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::Bool(_)
        | ExprKind::Path(..)
        | ExprKind::Range(..) => {}
        ExprKind::Into(inner, _) | ExprKind::Unary(_, inner) => paths(inner, each),
        ExprKind::Binary(_, left, right) => [left, right].into_iter().for_each(|inner| paths(inner, each)),
        ExprKind::List(items) | ExprKind::And(items) | ExprKind::Or(items) | ExprKind::Call(_, items) => {
            items.iter().for_each(|inner| paths(inner, each))
        }
        ExprKind::In { value, list, .. } => std::iter::once(&**value).chain(list).for_each(|inner| paths(inner, each)),
        ExprKind::Case { operand, arms, otherwise } => {
            operand.iter().chain(otherwise).for_each(|inner| paths(inner, each));
            arms.iter().flat_map(|(when, then)| [when, then]).for_each(|inner| paths(inner, each));
        }
    }
}

/// An explanation of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Topic filters and sources.
    pub from: Vec<String>,
    /// Columns of an output.
    pub columns: Vec<String>,
    /// Fields that the program reads.
    pub fields: Vec<&'static str>,
    /// Ways into the payload that the program reads.
    pub payload_paths: Vec<String>,
    /// Clauses, and the parts of them that can fail.
    pub failing: Vec<(Clause, Vec<String>)>,
}

impl Program {
    /// Explains the program.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let list = if self.plan.each.is_some() { Clause::Foreach } else { Clause::Select };
        let assigned = |list: &[Assign]| -> Vec<NodeId> {
            let node = |assign: &Assign| match assign {
                Assign::Field { .. } => None,
                Assign::Column { node, .. } => Some(*node),
            };
            list.iter().filter_map(node).collect()
        };
        let mut clauses = vec![(list, assigned(&self.plan.before)), (list, assigned(&self.plan.after))];
        if let Some(each) = &self.plan.each {
            clauses.push((Clause::Foreach, vec![each.items]));
            clauses.push((Clause::Incase, each.filter.into_iter().collect()));
            clauses.push((Clause::Do, assigned(&each.list)));
        }
        clauses.push((Clause::Where, self.plan.condition.into_iter().collect()));
        let mut failing: Vec<(Clause, Vec<String>)> = Vec::new();
        for (clause, nodes) in clauses {
            let mut found = Vec::new();
            for node in nodes {
                self.failing(node, &mut found);
                let is_condition = matches!(clause, Clause::Where | Clause::Incase);
                if is_condition && self.kind(node) != Some(Kind::Bool) {
                    found.push(node);
                }
            }
            found.sort_by_key(|node| self.place(*node).start);
            let mut texts: Vec<String> =
                found.into_iter().map(|node| self.place(node).of(&self.sql).to_owned()).collect();
            texts.dedup();
            match failing.iter_mut().find(|(other, _)| *other == clause) {
                Some((_, there)) => there.extend(texts.into_iter().filter(|text| !text.is_empty())),
                None if texts.is_empty() => {}
                None => failing.push((clause, texts)),
            }
        }
        failing.retain(|(_, texts)| !texts.is_empty());
        for (_, texts) in &mut failing {
            let mut seen = Vec::new();
            texts.retain(|text| {
                let is_new = !seen.contains(text);
                seen.push(text.clone());
                is_new
            });
        }
        Explanation {
            from: self.from().collect(),
            columns: self.columns().map(str::to_owned).collect(),
            fields: self.reads.fields.iter().map(|field| field.as_str()).collect(),
            payload_paths: self.reads.payload_paths.clone(),
            failing,
        }
    }

    fn operands_of(&self, part: &super::node::Part) -> &[NodeId] {
        self.operands.get(part.start as usize..part.end as usize).unwrap_or_default()
    }

    /// The type of a node's value, if it is always the same.
    fn kind(&self, node: NodeId) -> Option<Kind> {
        match self.nodes.get(node as usize)? {
            Node::Constant(constant) => Some(constant.value().kind()),
            Node::Field(Field::Qos | Field::Timestamp | Field::PublishReceivedAt) => Some(Kind::Int),
            Node::Field(Field::Topic | Field::Clientid | Field::Payload | Field::Id | Field::Node | Field::Event) => {
                Some(Kind::Text)
            }
            Node::Not(_) | Node::Compare(..) | Node::Matches(..) | Node::And(_) | Node::Or(_) | Node::In { .. } => {
                Some(Kind::Bool)
            }
            Node::List(_) | Node::Range(..) => Some(Kind::Array),
            Node::Call { function, .. } if function.name.starts_with("is_") => Some(Kind::Bool),
            _ => None,
        }
    }

    /// Nodes right below one.
    fn below(&self, node: &Node) -> Vec<NodeId> {
        match node {
            Node::Constant(_) | Node::Field(_) | Node::Column(_) | Node::Item | Node::Range(..) => Vec::new(),
            Node::Path { base, .. } | Node::Minus(base) | Node::Plus(base) | Node::Not(base) => vec![*base],
            Node::Either(left, right)
            | Node::Arithmetic(_, left, right)
            | Node::Compare(_, left, right)
            | Node::Matches(left, right) => {
                vec![*left, *right]
            }
            Node::List(part)
            | Node::And(part)
            | Node::Or(part)
            | Node::Call { arguments: part, .. }
            | Node::Pattern { arguments: part, .. } => self.operands_of(part).to_vec(),
            Node::In { value, list, .. } => {
                std::iter::once(*value).chain(self.operands_of(list).iter().copied()).collect()
            }
            Node::Case { operand, arms, otherwise } => {
                operand.iter().chain(self.operands_of(arms)).chain(otherwise).copied().collect()
            }
        }
    }

    /// Whether a publisher may choose the value of a column of the output: some of it comes from the payload or the properties of
    /// the message.
    #[must_use]
    pub fn is_chosen_by_publisher(&self, column: &str) -> bool {
        let Some(column) = self.columns.iter().find(|known| &*known.name == column) else { return false };
        column.slot.is_none_or(|slot| self.is_slot_chosen(slot, &mut Vec::new()))
    }

    fn is_slot_chosen(&self, slot: u16, seen: &mut Vec<u16>) -> bool {
        if seen.contains(&slot) {
            return false;
        }
        seen.push(slot);
        let each = self.plan.each.iter().flat_map(|each| &each.list);
        let mut of_slot = self.plan.before.iter().chain(&self.plan.after).chain(each).filter(|of| of.slot() == slot);
        of_slot.any(|assign| match assign {
            Assign::Field { field, .. } => is_of_publisher(*field),
            Assign::Column { node, .. } => self.is_node_chosen(*node, seen),
        })
    }

    fn is_node_chosen(&self, node: NodeId, seen: &mut Vec<u16>) -> bool {
        let Some(node) = self.nodes.get(node as usize) else { return false };
        match node {
            Node::Field(field) => is_of_publisher(*field),
            Node::Column(slot) => self.is_slot_chosen(*slot, seen),
            Node::Item => true,
            Node::Call { function, .. } if function.name == "payload" => true,
            other => self.below(other).into_iter().any(|below| self.is_node_chosen(below, seen)),
        }
    }

    /// Finds nodes at and below a node that can fail by themselves, limits aside.
    fn failing(&self, node: NodeId, found: &mut Vec<NodeId>) {
        let Some(this) = self.nodes.get(node as usize) else { return };
        let below = self.below(this);
        let is_bool = |node: &NodeId| self.kind(*node) == Some(Kind::Bool);
        let can_fail = match this {
            Node::Path { base, .. } => matches!(self.nodes.get(*base as usize), Some(Node::Field(Field::Payload))),
            Node::Minus(_) | Node::Plus(_) | Node::Pattern { .. } | Node::Matches(..) => true,
            Node::Arithmetic(operator, left, right) => {
                let is_text = |node: &NodeId| self.kind(*node) == Some(Kind::Text);
                !(*operator == Binary::Add && (is_text(left) || is_text(right)))
            }
            // A text that is no number, beside a number.
            Node::Compare(_, left, right) => match (self.kind(*left), self.kind(*right)) {
                (Some(left), Some(right)) => (left == Kind::Text) != (right == Kind::Text),
                (Some(Kind::Bool | Kind::Null | Kind::Array | Kind::Object), _)
                | (_, Some(Kind::Bool | Kind::Null | Kind::Array | Kind::Object)) => false,
                _ => true,
            },
            Node::And(_) | Node::Or(_) => !below.iter().all(is_bool),
            Node::Case { operand: None, arms, .. } => !self.operands_of(arms).iter().step_by(2).all(is_bool),
            Node::Call { function, arguments } => {
                let is_field = matches!(function.body, Body::OfField(..)) && arguments.is_empty();
                !is_field
                    && !function.name.starts_with("is_n")
                    && !matches!(function.name, "coalesce" | "coalesce_ne" | "concat" | "str" | "eq")
            }
            _ => false,
        };
        if can_fail {
            found.push(node);
        }
        below.into_iter().for_each(|node| self.failing(node, found));
    }
}

/// Whether the publisher alone chooses the field, and no access control list checks it.
const fn is_of_publisher(field: Field) -> bool {
    matches!(field, Field::Payload | Field::PubProps)
}
