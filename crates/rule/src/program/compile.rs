//! A tree to a program.

use super::check::{self, Warning};
use super::eval::ARGUMENTS_MAX;
use super::from::Origins;
use super::node::{Assign, Constant, Node, NodeId, Part};
use super::{Column, Each, Plan, Program, Reads};
use crate::arena::Arena;
use crate::around::{Around, Environment};
use crate::failure::Reason;
use crate::field::Field;
use crate::functions::{self, Body, Context, Function, Pattern, format};
use crate::sql::ast::{Binary, Expr, ExprKind, Head, Item, Statement, Step, Target, Unary};
use crate::sql::error::nearest;
use crate::sql::{Error, Place, parse};
use crate::value::Value;

/// Compiles a rule.
pub(super) fn compile(sql: &str, name: &str) -> Result<Program, Error> {
    let tree = parse(sql)?;
    let program = Program {
        name: name.into(),
        sql: sql.into(),
        from: Origins::of(&tree)?,
        nodes: Vec::new(),
        places: Vec::new(),
        operands: Vec::new(),
        steps: Vec::new(),
        patterns: Vec::new(),
        plan: Plan::default(),
        columns: Vec::new(),
        reads: Reads::default(),
        warnings: Vec::new(),
    };
    let mut compiler = Compiler {
        program,
        scope: Scope::default(),
        slots: 0,
        used: Vec::new(),
        fields: Vec::new(),
        scratch: Arena::new(),
    };
    compiler.statement(&tree)?;
    let mut program = compiler.program;
    program.reads.fields.sort_unstable();
    program.reads.fields.dedup();
    check::statement(&tree, &mut program.warnings);
    Ok(program)
}

/// The meaning of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Column(u16),
    Item,
    Field(Field),
}

/// The meanings of names at an expression.
#[derive(Debug, Default)]
struct Scope {
    /// Columns that this list has written so far.
    selected: Vec<(String, Meaning)>,
    /// In DO and INCASE: columns of FOREACH and its item.
    around: Vec<(String, Meaning)>,
    /// Whether a name that the list has written is also looked up around the list, where the list has nothing: in its own items.
    is_list: bool,
}

fn meaning(names: &[(String, Meaning)], name: &str) -> Option<Meaning> {
    names.iter().rev().find(|(other, _)| other == name).map(|(_, meaning)| *meaning)
}

struct Compiler {
    program: Program,
    scope: Scope,
    slots: u16,
    /// Columns that were read, to find those that WHERE needs.
    used: Vec<u16>,
    /// Columns that only `*` has written: they are the fields.
    fields: Vec<u16>,
    /// The arena for the evaluation of constants.
    scratch: Arena,
}

/// An item of a list, compiled.
struct Compiled {
    assigns: Vec<Assign>,
    /// Columns that the item reads.
    uses: Vec<u16>,
}

impl Compiler {
    fn statement(&mut self, tree: &Statement) -> Result<(), Error> {
        match &tree.head {
            Head::Select(items) => {
                let list = self.list(items)?;
                self.condition(tree, list)?;
                let selected = std::mem::take(&mut self.scope.selected);
                self.columns(selected);
            }
            Head::Foreach { list, each, filter } => self.foreach(tree, list, each, filter.as_ref())?,
        }
        self.program.plan.slots = self.slots;
        Ok(())
    }

    fn foreach(&mut self, tree: &Statement, list: &[Item], each: &[Item], filter: Option<&Expr>) -> Result<(), Error> {
        let Some((Item::Column(array, target), before)) = list.split_last() else {
            let place = tree.from.first().map(|source| source.place).unwrap_or_default();
            return Err(Error::new(place, "FOREACH ends with an array, not with *")
                .hint("name it: FOREACH payload.items AS item"));
        };
        if let Some(target) = target.as_ref().filter(|target| !target.steps.is_empty()) {
            return Err(Error::new(target.place, "the item of FOREACH has a name, not a path"));
        }
        let mut compiled = self.list(before)?;
        self.scope.is_list = true;
        let items = self.expr(array)?;
        self.scope.is_list = false;
        // The array is also a column, which WHERE and INCASE see.
        let own = match (target, &array.kind) {
            (Some(target), _) => Some((target.name.clone(), Vec::new())),
            (None, ExprKind::Path(name, steps)) if !steps.iter().any(|step| matches!(step, Step::Slice(..))) => {
                Some((name.clone(), steps.clone()))
            }
            _ => None,
        };
        if let Some((name, steps)) = own {
            let target = Target { name, steps, place: array.place };
            let uses = std::mem::take(&mut self.used);
            let assign = self.assign(items, &target)?;
            compiled.push(Compiled { assigns: vec![assign], uses });
        }
        self.condition(tree, compiled)?;
        // DO and INCASE.
        let name = target.as_ref().map_or("item", |target| target.name.as_str());
        let mut around = std::mem::take(&mut self.scope.selected);
        around.push((name.to_owned(), Meaning::Item));
        self.scope.around = around.clone();
        let filter = filter.map(|filter| self.expr(filter)).transpose()?;
        self.program.plan.kept = self.slots;
        let mut assigns = Vec::new();
        if each.is_empty() {
            assigns.extend(self.fields_but(&around)?);
            let fields = std::mem::take(&mut self.scope.selected);
            self.program.plan.kept = self.slots;
            self.program.plan.after.append(&mut assigns);
            around.extend(fields);
            self.columns(around);
        } else {
            for item in self.list(each)? {
                assigns.extend(item.assigns);
            }
            let selected = std::mem::take(&mut self.scope.selected);
            self.columns(selected);
        }
        self.program.plan.each = Some(Each { items, filter, list: assigns });
        Ok(())
    }

    /// The output's columns.
    fn columns(&mut self, names: Vec<(String, Meaning)>) {
        let mut columns: Vec<Column> = Vec::new();
        for (name, meaning) in names.into_iter().rev() {
            let slot = match meaning {
                Meaning::Column(slot) => Some(slot),
                Meaning::Item => None,
                Meaning::Field(_) => continue,
            };
            if !columns.iter().any(|column| *column.name == *name) {
                let begin = format!(",{}:", serde_json::Value::from(&*name)).into_bytes().into();
                columns.push(Column { name: name.into(), slot, begin });
            }
        }
        columns.sort_by(|one, other| other.name.cmp(&one.name));
        self.program.columns = columns;
    }

    /// Compiles WHERE, and selects the list's items that are evaluated before it: those that it needs. A column that more than one
    /// item writes has to be written in order: all items are selected then.
    fn condition(&mut self, tree: &Statement, list: Vec<Compiled>) -> Result<(), Error> {
        self.used.clear();
        self.scope.is_list = false;
        let condition = tree.condition.as_ref().map(|condition| self.expr(condition)).transpose()?;
        let mut wanted = std::mem::take(&mut self.used);
        let mut written: Vec<u16> = list.iter().flat_map(|item| &item.assigns).map(Assign::slot).collect();
        written.sort_unstable();
        let is_in_order = written.windows(2).any(|pair| pair.first() == pair.last());
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for item in list.into_iter().rev() {
            let is_wanted = |assign: &Assign| wanted.contains(&assign.slot());
            if condition.is_some() && (is_in_order || item.assigns.iter().any(is_wanted)) {
                wanted.extend(item.uses);
                before.push(item.assigns);
            } else {
                after.push(item.assigns);
            }
        }
        let in_order = |list: Vec<Vec<Assign>>| list.into_iter().rev().flatten().collect();
        self.program.plan.before = in_order(before);
        self.program.plan.after = in_order(after);
        self.program.plan.condition = condition;
        Ok(())
    }

    /// The items of a list.
    fn list(&mut self, items: &[Item]) -> Result<Vec<Compiled>, Error> {
        let mut list = Vec::new();
        self.scope.is_list = true;
        for (n, item) in items.iter().enumerate() {
            self.used.clear();
            let assigns = match item {
                Item::All => self.all()?,
                Item::Column(expr, target) => {
                    let node = self.expr(expr)?;
                    let target = match (target, &expr.kind) {
                        (Some(target), _) => target.clone(),
                        (None, ExprKind::Path(name, steps))
                            if !steps.iter().any(|step| matches!(step, Step::Slice(..))) =>
                        {
                            Target { name: name.clone(), steps: steps.clone(), place: expr.place }
                        }
                        _ => {
                            let name = format!("_{}", n + 1);
                            let what = format!("this column has no name and becomes `{name}`");
                            self.warn(expr.place, what, "name it with AS");
                            Target { name, steps: Vec::new(), place: expr.place }
                        }
                    };
                    vec![self.assign(node, &target)?]
                }
            };
            list.push(Compiled { assigns, uses: std::mem::take(&mut self.used) });
        }
        self.scope.is_list = false;
        Ok(list)
    }

    /// `*`.
    fn all(&mut self) -> Result<Vec<Assign>, Error> {
        let mut assigns = Vec::new();
        // In DO: FOREACH's columns and the item, before the fields.
        let mut around = self.scope.around.clone();
        around.retain(|(_, meaning)| !matches!(meaning, Meaning::Column(slot) if self.fields.contains(slot)));
        for (name, meaning) in around.clone() {
            let node = self.named(meaning, Place::default())?;
            assigns.push(self.assign(node, &Target { name, steps: Vec::new(), place: Place::default() })?);
        }
        assigns.extend(self.fields_but(&around)?);
        Ok(assigns)
    }

    /// All fields but those with names of another meaning.
    fn fields_but(&mut self, around: &[(String, Meaning)]) -> Result<Vec<Assign>, Error> {
        let fields = self.program.from.fields.clone();
        let fields = fields.into_iter().filter(|field| meaning(around, field.as_str()).is_none());
        fields.map(|field| self.assign_field(field)).collect()
    }

    fn slot(&mut self, name: &str) -> Result<(u16, bool), Error> {
        if let Some(Meaning::Column(slot)) = meaning(&self.scope.selected, name) {
            return Ok((slot, true));
        }
        let slot = self.slots;
        self.slots = slot.checked_add(1).ok_or_else(|| Error::new(Place::default(), "too many columns"))?;
        self.scope.selected.push((name.to_owned(), Meaning::Column(slot)));
        Ok((slot, false))
    }

    fn assign_field(&mut self, field: Field) -> Result<Assign, Error> {
        self.program.reads.fields.push(field);
        let (slot, _) = self.slot(field.as_str())?;
        self.fields.push(slot);
        Ok(Assign::Field { slot, field })
    }

    fn assign(&mut self, node: NodeId, target: &Target) -> Result<Assign, Error> {
        let (slot, is_there) = self.slot(&target.name)?;
        // A payload that the list names explicitly is read as JSON when a value is put into it; that of `*` is not.
        let decodes = is_there && target.name == "payload" && !self.fields.contains(&slot);
        let steps = self.steps(&target.steps);
        if !target.steps.is_empty() {
            self.used.push(slot);
        }
        self.fields.retain(|other| *other != slot);
        Ok(Assign::Column { slot, node, steps, decodes })
    }

    fn steps(&mut self, steps: &[Step]) -> Part {
        let start = length(&self.program.steps);
        self.program.steps.extend_from_slice(steps);
        start..length(&self.program.steps)
    }

    fn warn(&mut self, place: Place, what: impl Into<String>, hint: impl Into<String>) {
        self.program.warnings.push(Warning { place, what: what.into(), hint: hint.into() });
    }

    fn node(&mut self, node: Node, place: Place) -> NodeId {
        let id = length(&self.program.nodes);
        self.program.nodes.push(node);
        self.program.places.push(place);
        id
    }

    fn operands(&mut self, nodes: &[NodeId]) -> Part {
        let start = length(&self.program.operands);
        self.program.operands.extend_from_slice(nodes);
        start..length(&self.program.operands)
    }

    fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) -> Result<Vec<NodeId>, Error> {
        exprs.into_iter().map(|expr| self.expr(expr)).collect()
    }

    fn expr(&mut self, expr: &Expr) -> Result<NodeId, Error> {
        let place = expr.place;
        let node = match &expr.kind {
            ExprKind::Text(text) => Node::Constant(Constant::Text(text.as_bytes().into())),
            ExprKind::Int(number) => Node::Constant(Constant::Int(*number)),
            ExprKind::Float(number) => Node::Constant(Constant::Float(*number)),
            ExprKind::Bool(value) => Node::Constant(Constant::Bool(*value)),
            ExprKind::Path(name, steps) => return self.path(name, steps, place),
            ExprKind::Into(value, steps) => {
                // `(payload).a` is `payload.a`.
                if let ExprKind::Path(name, first) = &value.kind {
                    return self.path(name, &[first.as_slice(), steps].concat(), place);
                }
                let base = self.expr(value)?;
                let steps = self.steps(steps);
                Node::Path { base, steps }
            }
            ExprKind::List(items) => {
                let items = self.exprs(items)?;
                Node::List(self.operands(&items))
            }
            ExprKind::Range(from, to) => Node::Range(*from, *to),
            ExprKind::Unary(operator, operand) => {
                let operand = self.expr(operand)?;
                match operator {
                    Unary::Minus => Node::Minus(operand),
                    Unary::Plus => Node::Plus(operand),
                    Unary::Not => Node::Not(operand),
                }
            }
            ExprKind::Binary(operator, left, right) => {
                let (left, right) = (self.expr(left)?, self.expr(right)?);
                match operator {
                    Binary::Add | Binary::Sub | Binary::Mul | Binary::Divide | Binary::Div | Binary::Mod => {
                        Node::Arithmetic(*operator, left, right)
                    }
                    Binary::Matches => Node::Matches(left, right),
                    _ => Node::Compare(*operator, left, right),
                }
            }
            ExprKind::And(items) => {
                let items = self.exprs(items)?;
                Node::And(self.operands(&items))
            }
            ExprKind::Or(items) => {
                let items = self.exprs(items)?;
                Node::Or(self.operands(&items))
            }
            ExprKind::In { is_negated, value, list } => {
                let value = self.expr(value)?;
                let list = self.exprs(list)?;
                Node::In { is_negated: *is_negated, value, list: self.operands(&list) }
            }
            ExprKind::Case { operand, arms, otherwise } => {
                let operand = operand.as_ref().map(|operand| self.expr(operand)).transpose()?;
                let arms = self.exprs(arms.iter().flat_map(|(when, then)| [when, then]))?;
                let arms = self.operands(&arms);
                let otherwise = otherwise.as_ref().map(|otherwise| self.expr(otherwise)).transpose()?;
                Node::Case { operand, arms, otherwise }
            }
            ExprKind::Call(name, arguments) => return self.call(name, arguments, place),
        };
        Ok(self.node(node, place))
    }

    /// A name and the way into its value.
    fn path(&mut self, name: &str, steps: &[Step], place: Place) -> Result<NodeId, Error> {
        let selected = meaning(&self.scope.selected, name);
        let around = meaning(&self.scope.around, name).or_else(|| self.program.from.field(name).map(Meaning::Field));
        let is_field = matches!(selected, Some(Meaning::Column(slot)) if self.fields.contains(&slot));
        let base = match (selected, around) {
            (_, Some(around)) if is_field => around,
            (Some(selected), Some(around)) if self.scope.is_list => {
                let first = self.way(selected, steps, place)?;
                let second = self.way(around, steps, place)?;
                return Ok(self.node(Node::Either(first, second), place));
            }
            (Some(selected), _) => selected,
            (None, Some(around)) => around,
            (None, None) => {
                self.unknown(name, place);
                return Ok(self.node(Node::Constant(Constant::Absent), place));
            }
        };
        self.way(base, steps, place)
    }

    fn unknown(&mut self, name: &str, place: Place) {
        let known: Vec<String> =
            self.scope.selected.iter().chain(&self.scope.around).map(|(name, _)| name.clone()).collect();
        let known = known.iter().map(String::as_str).chain(self.program.from.fields.iter().map(|field| field.as_str()));
        let hint = match (name.to_ascii_lowercase().as_str(), nearest(name, known)) {
            ("null" | "undefined", _) => {
                "is_null(x) asks whether x is absent, is_null_var(x) whether it is absent or null".to_owned()
            }
            (_, Some(near)) => format!("did you mean `{near}`?"),
            _ if functions::named(name).is_some() => format!("a function has brackets: `{name}(…)`"),
            _ => format!("it is neither a column nor a field of {}", self.program.from.what()),
        };
        self.warn(place, format!("`{name}` is always absent"), hint);
    }

    fn way(&mut self, base: Meaning, steps: &[Step], place: Place) -> Result<NodeId, Error> {
        if base == Meaning::Field(Field::Payload) && !steps.is_empty() {
            let path = place.of(&self.program.sql).to_owned();
            if !self.program.reads.payload_paths.contains(&path) {
                self.program.reads.payload_paths.push(path);
            }
        }
        let base = self.named(base, place)?;
        if steps.is_empty() {
            return Ok(base);
        }
        let steps = self.steps(steps);
        Ok(self.node(Node::Path { base, steps }, place))
    }

    fn named(&mut self, meaning: Meaning, place: Place) -> Result<NodeId, Error> {
        let node = match meaning {
            Meaning::Column(slot) => {
                self.used.push(slot);
                Node::Column(slot)
            }
            Meaning::Item => Node::Item,
            Meaning::Field(field) => {
                self.program.reads.fields.push(field);
                Node::Field(field)
            }
        };
        Ok(self.node(node, place))
    }

    fn call(&mut self, name: &str, arguments: &[Expr], place: Place) -> Result<NodeId, Error> {
        let Some(function) = functions::named(name) else {
            let error = Error::new(place, format!("there is no function `{name}`"));
            return Err(match (functions::left_out(name), nearest(name, functions::names())) {
                (Some(hint), _) => error.hint(hint),
                (None, Some(near)) => error.hint(format!("did you mean `{near}`?")),
                _ => error.hint("docs/SQL_FUNCTIONS.md lists them"),
            });
        };
        let wanted = usize::from(function.least)..=usize::from(function.most);
        if !wanted.contains(&arguments.len()) || arguments.len() > ARGUMENTS_MAX {
            return Err(Error::new(
                place,
                format!("{} takes {}, here are {}", function.name, function.count(), arguments.len()),
            )
            .hint(format!("{}{}", function.name, function.arguments)));
        }
        let nodes = self.exprs(arguments)?;
        if let Body::OfField(field, _) = &function.body {
            self.program.reads.fields.push(*field);
        }
        match self.constant(function, &nodes) {
            Some(Ok(Some(constant))) => return Ok(self.node(Node::Constant(constant), place)),
            Some(Err(reason)) => self.warn(place, format!("this always fails: {reason}"), "see docs/SQL_FUNCTIONS.md"),
            _ => {}
        }
        let node = match &function.body {
            Body::Pattern(_) => {
                let pattern = self.pattern(function, arguments.get(1), place)?;
                Node::Pattern { function, arguments: self.operands(&nodes), pattern }
            }
            Body::Format(_) => {
                let first = arguments.first();
                let Some(ExprKind::Text(text)) = first.map(|first| &first.kind) else {
                    let place = first.map_or(place, |first| first.place);
                    return Err(Error::new(
                        place,
                        format!("the format of {} is a text that stands in the rule", function.name),
                    )
                    .hint("concat(…) and + join texts of any kind"));
                };
                let given = arguments.len() - 1;
                format::check(text, (function.name == "sprintf").then_some(given))
                    .map_err(|what| Error::new(first.map_or(place, |first| first.place), what))?;
                Node::Call { function, arguments: self.operands(&nodes) }
            }
            _ => Node::Call { function, arguments: self.operands(&nodes) },
        };
        Ok(self.node(node, place))
    }

    /// A pattern, compiled.
    fn pattern(&mut self, function: &Function, argument: Option<&Expr>, place: Place) -> Result<u32, Error> {
        let Some(Expr { kind: ExprKind::Text(text), place }) = argument else {
            let place = argument.map_or(place, |argument| argument.place);
            return Err(Error::new(
                place,
                format!("the pattern of {} is a text that stands in the rule", function.name),
            )
            .hint("for patterns out of data there are =~, split and find"));
        };
        let pattern = Pattern::compile(text).map_err(|error| {
            let what = error.to_string();
            let what = what.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::new(*place, format!("the pattern cannot be used: {what}"))
        })?;
        self.program.patterns.push(pattern);
        Ok(length(&self.program.patterns) - 1)
    }

    /// The result of a call with only constants as arguments, if it is small; `None`: some argument is no constant.
    fn constant(
        &mut self,
        function: &'static Function,
        arguments: &[NodeId],
    ) -> Option<Result<Option<Constant>, Reason>> {
        let Body::Pure(call) = &function.body else { return None };
        let mut values = Vec::new();
        for argument in arguments {
            match self.program.nodes.get(*argument as usize)? {
                Node::Constant(constant) => values.push(constant.value()),
                _ => return None,
            }
        }
        self.scratch.begin_message(&[], 0);
        self.scratch.begin_rule();
        let (zone, environment) = (jiff::tz::TimeZone::UTC, Environment::default());
        let around = Around { now_ns: 0, zone: &zone, environment: &environment, seed: 0 };
        let context = Context { arena: &self.scratch, around: &around };
        let is_small = |value: &Value<'_>| !matches!(value, Value::Text(text) if text.len() > 1024);
        Some(call(&context, &values).map(|value| Some(value).filter(is_small).and_then(Constant::of)))
    }
}

fn length<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
