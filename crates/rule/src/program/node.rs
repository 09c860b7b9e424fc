//! The nodes of a program: a flat list, each with the numbers of its operands.

use std::ops::Range;

use crate::field::Field;
use crate::functions::Function;
use crate::sql::ast::Binary;
use crate::value::Value;

/// The number of a node.
pub(super) type NodeId = u32;
/// A part of one of the program's lists.
pub(super) type Part = Range<u32>;

/// A value that is known when the program is compiled.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Absent,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<[u8]>),
}

impl Constant {
    pub(super) fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Absent => Self::Absent,
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(number) => Self::Int(number),
            Value::Float(number) => Self::Float(number),
            Value::Text(bytes) => Self::Text(bytes.into()),
            Value::Number(_) | Value::Array(_) | Value::Object(_) | Value::Raw(_) => return None,
        })
    }

    pub(super) const fn value(&self) -> Value<'_> {
        match self {
            Self::Absent => Value::Absent,
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(number) => Value::Int(*number),
            Self::Float(number) => Value::Float(*number),
            Self::Text(bytes) => Value::Text(bytes),
        }
    }
}

/// A node.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Constant(Constant),
    Field(Field),
    /// A column that an earlier item has written.
    Column(u16),
    /// The item of FOREACH.
    Item,
    /// A way into a value; steps of the program.
    Path {
        base: NodeId,
        steps: Part,
    },
    /// The first value, unless it is absent; else the second.
    Either(NodeId, NodeId),
    /// Operands are in the program's list.
    List(Part),
    Range(i64, i64),
    Minus(NodeId),
    Plus(NodeId),
    Not(NodeId),
    Arithmetic(Binary, NodeId, NodeId),
    Compare(Binary, NodeId, NodeId),
    Matches(NodeId, NodeId),
    And(Part),
    Or(Part),
    In {
        is_negated: bool,
        value: NodeId,
        list: Part,
    },
    /// Pairs of WHEN and THEN in the program's list.
    Case {
        operand: Option<NodeId>,
        arms: Part,
        otherwise: Option<NodeId>,
    },
    Call {
        function: &'static Function,
        arguments: Part,
    },
    /// A call with a pattern, one of the program's.
    Pattern {
        function: &'static Function,
        arguments: Part,
        pattern: u32,
    },
}

/// The effect of an item of a list.
#[derive(Clone, Debug)]
pub(super) enum Assign {
    /// Writes a field into its column, if the message has the field.
    Field { slot: u16, field: Field },
    /// Writes a value into a column; `steps` lead into it.
    Column { slot: u16, node: NodeId, steps: Part, decodes: bool },
}

impl Assign {
    pub(super) const fn slot(&self) -> u16 {
        match self {
            Self::Field { slot, .. } | Self::Column { slot, .. } => *slot,
        }
    }
}
