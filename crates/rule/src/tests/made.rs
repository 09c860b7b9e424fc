//! Statements and messages for property tests.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::sql::Place;
use crate::sql::ast::{Binary, Expr, ExprKind, Head, Item, Source, Statement, Step, Target, Unary};

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, place: Place::default() }
}

/// Functions that the twin knows, with how many arguments they take.
pub(super) const FUNCTIONS: [(&str, usize); 9] = [
    ("str", 1),
    ("concat", 2),
    ("is_null", 1),
    ("is_null_var", 1),
    ("is_map", 1),
    ("coalesce", 2),
    ("length", 1),
    ("nth", 2),
    ("map_get", 2),
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name =
        select(vec!["a", "b", "l", "o", "User-Property", "from", "1"]).prop_map(|name| Step::Name(name.to_owned()));
    let step = prop_oneof![
        6 => name,
        3 => (-3_i64..4).prop_map(Step::Index),
        1 => Just(Step::Behind),
        1 => (-3_i64..4, -3_i64..4).prop_map(|(from, to)| Step::Slice(from, to)),
    ];
    vec(step, 0..3)
}

fn leaf() -> impl Strategy<Value = Expr> {
    let name = select(vec![
        "payload", "payload", "payload", "a", "b", "item", "qos", "topic", "flags", "nosuch", "select", "é\"x",
    ]);
    prop_oneof![
        (-3_i64..20).prop_map(ExprKind::Int),
        select(vec![i64::MAX, i64::MIN, 1 << 53]).prop_map(ExprKind::Int),
        select(vec![0.5, 1.0, -2.5, 1e22, 1e-7, 9_007_199_254_740_992.0]).prop_map(ExprKind::Float),
        select(vec!["", "a", "it's", "1", "1.5", "true", "null", "t/+/b", "[1,{\"a\":2}]", "a.b"])
            .prop_map(|text| ExprKind::Text(text.to_owned())),
        any::<bool>().prop_map(ExprKind::Bool),
        (name, steps()).prop_map(|(name, steps)| ExprKind::Path(name.to_owned(), steps)),
        (name_of_payload(), steps()).prop_map(|(name, steps)| ExprKind::Path(name, steps)),
        (-2_i64..3, -2_i64..5).prop_map(|(from, to)| ExprKind::Range(from, to)),
    ]
    .prop_map(expr)
}

fn name_of_payload() -> impl Strategy<Value = String> {
    Just("payload".to_owned())
}

/// Expressions.
pub(super) fn exprs() -> impl Strategy<Value = Expr> {
    const BINARY: [Binary; 13] = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Divide,
        Binary::Div,
        Binary::Mod,
        Binary::Equal,
        Binary::NotEqual,
        Binary::Less,
        Binary::LessEqual,
        Binary::Greater,
        Binary::GreaterEqual,
        Binary::Matches,
    ];
    leaf().prop_recursive(4, 24, 3, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let list = |count: std::ops::Range<usize>| vec(inner.clone(), count);
        prop_oneof![
            (select(BINARY.to_vec()), boxed(), boxed())
                .prop_map(|(operator, left, right)| ExprKind::Binary(operator, left, right)),
            // The sign of a number belongs to the number.
            (select(vec![Unary::Minus, Unary::Plus, Unary::Not]), boxed())
                .prop_map(|(operator, operand)| ExprKind::Unary(operator, operand)),
            list(2..4).prop_map(ExprKind::And),
            list(2..4).prop_map(ExprKind::Or),
            list(0..4).prop_map(ExprKind::List),
            (any::<bool>(), boxed(), list(1..4)).prop_map(|(is_negated, value, list)| ExprKind::In {
                is_negated,
                value,
                list
            }),
            (proptest::option::of(boxed()), vec((inner.clone(), inner.clone()), 1..3), proptest::option::of(boxed()))
                .prop_map(|(operand, arms, otherwise)| ExprKind::Case { operand, arms, otherwise }),
            (select(FUNCTIONS.to_vec()), list(2..3)).prop_map(|((name, count), mut arguments)| {
                arguments.truncate(count);
                ExprKind::Call(name.to_owned(), arguments)
            }),
            (boxed(), steps().prop_filter("steps", |steps| !steps.is_empty()))
                .prop_map(|(value, steps)| ExprKind::Into(value, steps)),
        ]
        .prop_map(expr)
    })
}

fn target() -> impl Strategy<Value = Target> {
    let step = prop_oneof![
        4 => select(vec!["a", "b", "l"]).prop_map(|name| Step::Name(name.to_owned())),
        1 => (-2_i64..4).prop_map(Step::Index),
        1 => Just(Step::Behind),
    ];
    let name = select(vec!["a", "b", "payload", "qos", "x y"]);
    (name, vec(step, 0..3)).prop_map(|(name, steps)| Target { name: name.to_owned(), steps, place: Place::default() })
}

fn items(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Item>> {
    let item = prop_oneof![
        1 => Just(Item::All),
        8 => (exprs(), proptest::option::weighted(0.8, target())).prop_map(|(expr, target)| Item::Column(expr, target)),
        2 => steps().prop_map(|steps| Item::Column(expr(ExprKind::Path("payload".to_owned(), steps)), None)),
    ];
    vec(item, count)
}

/// Statements.
pub(super) fn statements() -> impl Strategy<Value = Statement> {
    let source = Source { name: "t/#".to_owned(), place: Place::default() };
    let name = |name: &str| Target { name: name.to_owned(), steps: Vec::new(), place: Place::default() };
    let array = (exprs(), proptest::option::of(select(vec!["a", "item"])))
        .prop_map(move |(expr, target)| Item::Column(expr, target.map(name)));
    let foreach =
        (items(0..2), array, items(0..3), proptest::option::of(exprs())).prop_map(|(mut list, array, each, filter)| {
            list.push(array);
            Head::Foreach { list, each, filter }
        });
    let head = prop_oneof![2 => items(1..4).prop_map(Head::Select), 1 => foreach];
    (head, proptest::option::of(exprs())).prop_map(move |(head, condition)| Statement {
        head,
        from: vec![source.clone()],
        condition,
    })
}

/// Payloads: most are JSON, with the names in the statements.
pub(super) fn payloads() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        (-3_i64..20).prop_map(|number| number.to_string()),
        select(vec!["0.5", "1.0", "-2.5", "1e3", "9007199254740993"]).prop_map(str::to_owned),
        select(vec!["\"\"", "\"a\"", "\"1\"", "\"it\\u0027s\"", "\"{\\\"a\\\":[1]}\"", "\"true\""])
            .prop_map(str::to_owned),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        let member = (select(vec!["a", "b", "l", "o", "from", "\\u0061"]), inner.clone())
            .prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop_oneof![
            vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    });
    prop_oneof![9 => value, 1 => select(vec!["", "hello", "{", "[1,]"]).prop_map(str::to_owned)]
}

/// The statement as the parser returns it: a sign before a number belongs to the number, and a way into a way is one way.
pub(super) fn as_parsed(statement: &Statement) -> Option<Statement> {
    crate::sql::parse(&statement.to_string()).ok()
}
