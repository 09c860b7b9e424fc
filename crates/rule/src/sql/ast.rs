//! The tree of a statement. [`Statement`] prints as SQL that parses to the same tree.

use std::fmt;

use super::error::Place;
use super::lexer::is_in_name;

/// Words that are no names unless they are in double quotes or within a path.
pub(super) const KEYWORDS: [&str; 20] = [
    "SELECT", "FOREACH", "DO", "INCASE", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "IN", "CASE", "WHEN", "THEN",
    "ELSE", "END", "DIV", "MOD", "TRUE", "FALSE",
];

/// Whether a word is one of [`KEYWORDS`], in any case.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// SELECT or FOREACH.
    pub head: Head,
    /// FROM: topic filters and other sources, at least one.
    pub from: Vec<Source>,
    /// WHERE.
    pub condition: Option<Expr>,
}

/// The beginning of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// `SELECT list`.
    Select(Vec<Item>),
    /// `FOREACH list [DO list] [INCASE condition]`.
    Foreach {
        /// Columns, and as the last item the array.
        list: Vec<Item>,
        /// Columns of an output; empty: none are named.
        each: Vec<Item>,
        /// INCASE: the condition of the items that make an output.
        filter: Option<Expr>,
    },
}

/// A name after FROM.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name verbatim, without its quotes.
    pub name: String,
    /// The place in the text.
    pub place: Place,
}

impl PartialEq for Source {
    /// Compares all but the place.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `*`: all fields.
    All,
    /// An expression, and the column that it writes if it is named.
    Column(Expr, Option<Target>),
}

/// The destination of a column's value.
#[derive(Clone, Debug)]
pub struct Target {
    /// The column.
    pub name: String,
    /// The way into the column.
    pub steps: Vec<Step>,
    /// The place in the text.
    pub place: Place,
}

impl PartialEq for Target {
    /// Compares all but the place.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.steps) == (&other.name, &other.steps)
    }
}

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `.name`.
    Name(String),
    /// `[n]`: from 1, or from the end if negative. As a target, 0 is before the first.
    Index(i64),
    /// `[-0]`: as a target after the last, else nothing.
    Behind,
    /// `[a..b]`.
    Slice(i64, i64),
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// The kind of the expression.
    pub kind: ExprKind,
    /// The place in the text.
    pub place: Place,
}

impl PartialEq for Expr {
    /// Compares all but the place.
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The kind of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `'text'`.
    Text(String),
    /// `1`, `-1`.
    Int(i64),
    /// `1.5`.
    Float(f64),
    /// `true`.
    Bool(bool),
    /// `a.b[1]`: a name and the way into its value.
    Path(String, Vec<Step>),
    /// A way into the value of an expression: `f(x)[1]`.
    Into(Box<Expr>, Vec<Step>),
    /// `[a, b]`.
    List(Vec<Expr>),
    /// `[1..5]`.
    Range(i64, i64),
    /// `-x`, `+x`, `NOT x`.
    Unary(Unary, Box<Expr>),
    /// `a + b`, `a = b`.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `a AND b AND c`.
    And(Vec<Expr>),
    /// `a OR b OR c`.
    Or(Vec<Expr>),
    /// `x IN (a, b)`, `x NOT IN (a, b)`.
    In {
        /// NOT IN.
        is_negated: bool,
        /// The value that is searched for.
        value: Box<Expr>,
        /// The list that is searched.
        list: Vec<Expr>,
    },
    /// CASE.
    Case {
        /// `CASE x`: compared with each WHEN.
        operand: Option<Box<Expr>>,
        /// WHEN and THEN, at least one.
        arms: Vec<(Expr, Expr)>,
        /// ELSE.
        otherwise: Option<Box<Expr>>,
    },
    /// `name(a, b)`.
    Call(String, Vec<Expr>),
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `-`.
    Minus,
    /// `+`.
    Plus,
    /// `NOT`.
    Not,
}

/// Operators with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `+`.
    Add,
    /// `-`.
    Sub,
    /// `*`.
    Mul,
    /// `/`.
    Divide,
    /// `div`.
    Div,
    /// `mod`.
    Mod,
    /// `=`.
    Equal,
    /// `!=`, `<>`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterEqual,
    /// `=~`.
    Matches,
}

impl Binary {
    /// The operator as in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Divide => "/",
            Self::Div => "div",
            Self::Mod => "mod",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Matches => "=~",
        }
    }
}

fn commas<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(n, item)| write!(f, "{}{item}", if n == 0 { "" } else { ", " }))
}

fn name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let is_bare = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(is_in_name)
        && !is_keyword(name);
    if is_bare { f.write_str(name) } else { write!(f, "\"{}\"", name.replace('"', "\"\"")) }
}

fn steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    steps.iter().try_for_each(|step| match step {
        Step::Name(part) => {
            f.write_str(".")?;
            name(f, part)
        }
        Step::Index(index) => write!(f, "[{index}]"),
        Step::Behind => f.write_str("[-0]"),
        Step::Slice(from, to) => write!(f, "[{from}..{to}]"),
    })
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.head {
            Head::Select(list) => {
                f.write_str("SELECT ")?;
                commas(f, list)?;
            }
            Head::Foreach { list, each, filter } => {
                f.write_str("FOREACH ")?;
                commas(f, list)?;
                if !each.is_empty() {
                    f.write_str(" DO ")?;
                    commas(f, each)?;
                }
                if let Some(filter) = filter {
                    write!(f, " INCASE {filter}")?;
                }
            }
        }
        f.write_str(" FROM ")?;
        commas(f, &self.from)?;
        self.condition.as_ref().map_or(Ok(()), |condition| write!(f, " WHERE {condition}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.name.replace('"', "\"\""))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Column(expr, None) => expr.fmt(f),
            Self::Column(expr, Some(target)) => write!(f, "{expr} AS {target}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(f, &self.name)?;
        steps(f, &self.steps)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, items: &[Self], word: &str| {
            f.write_str("(")?;
            items.iter().enumerate().try_for_each(|(n, item)| write!(f, "{}{item}", if n == 0 { "" } else { word }))?;
            f.write_str(")")
        };
        match &self.kind {
            ExprKind::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            ExprKind::Int(number) => write!(f, "{number}"),
            ExprKind::Float(number) => write!(f, "{number:?}"),
            ExprKind::Bool(value) => write!(f, "{value}"),
            ExprKind::Path(first, rest) => {
                name(f, first)?;
                steps(f, rest)
            }
            ExprKind::Into(value, way) => {
                write!(f, "({value})")?;
                steps(f, way)
            }
            ExprKind::List(items) => {
                f.write_str("[")?;
                commas(f, items)?;
                f.write_str("]")
            }
            ExprKind::Range(from, to) => write!(f, "[{from}..{to}]"),
            ExprKind::Unary(Unary::Not, operand) => write!(f, "(NOT {operand})"),
            ExprKind::Unary(Unary::Minus, operand) => write!(f, "-({operand})"),
            ExprKind::Unary(Unary::Plus, operand) => write!(f, "+({operand})"),
            ExprKind::Binary(operator, left, right) => write!(f, "({left} {} {right})", operator.as_str()),
            ExprKind::And(items) => joined(f, items, " AND "),
            ExprKind::Or(items) => joined(f, items, " OR "),
            ExprKind::In { is_negated, value, list } => {
                write!(f, "({value} {}IN (", if *is_negated { "NOT " } else { "" })?;
                commas(f, list)?;
                f.write_str("))")
            }
            ExprKind::Case { operand, arms, otherwise } => {
                f.write_str("CASE")?;
                operand.as_ref().map_or(Ok(()), |operand| write!(f, " {operand}"))?;
                arms.iter().try_for_each(|(when, then)| write!(f, " WHEN {when} THEN {then}"))?;
                otherwise.as_ref().map_or(Ok(()), |otherwise| write!(f, " ELSE {otherwise}"))?;
                f.write_str(" END")
            }
            ExprKind::Call(function, arguments) => {
                write!(f, "{function}(")?;
                commas(f, arguments)?;
                f.write_str(")")
            }
        }
    }
}
