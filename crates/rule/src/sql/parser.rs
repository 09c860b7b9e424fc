//! Tokens to a tree: a Pratt parser. Bounds: the length of the text, its nodes and how deep they nest.

use super::ast::{Binary, Expr, ExprKind, Head, Item, KEYWORDS, Source, Statement, Step, Target, Unary, is_keyword};
use super::error::{Error, Place, nearest};
use super::lexer::{Kind, Token, tokens};

/// The longest text of a rule, in bytes.
pub(super) const TEXT_MAX: usize = 64 * 1024;
/// The most nodes of a rule.
pub(super) const NODES_MAX: usize = 4_096;
/// The deepest nesting of expressions.
pub(super) const NESTING_MAX: usize = 64;

/// Binding powers, the weakest first.
mod power {
    pub(super) const LOWEST: u8 = 0;
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const COMPARISON: u8 = 4;
    pub(super) const SUM: u8 = 5;
    pub(super) const PRODUCT: u8 = 6;
    pub(super) const SIGN: u8 = 7;
}

/// Reads a statement.
///
/// # Errors
/// The error in the text, and its place.
pub fn parse(sql: &str) -> Result<Statement, Error> {
    if sql.len() > TEXT_MAX {
        return Err(Error::new(
            Place::new(0, 1),
            format!("a rule has at most {TEXT_MAX} bytes, this one {}", sql.len()),
        ));
    }
    let mut parser = Parser { tokens: tokens(sql)?, at: 0, nodes: 0, depth: 0 };
    let statement = parser.statement()?;
    let _ = parser.takes_symbol(";");
    match parser.peek().kind {
        Kind::End => Ok(statement),
        _ => Err(parser.unexpected("the end of the statement")),
    }
}

/// An expression and its depth.
struct Tree {
    expr: Expr,
    height: usize,
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    nodes: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        const END: Token = Token { kind: Kind::End, place: Place { start: 0, end: 0 } };
        self.tokens.get(self.at).or(self.tokens.last()).unwrap_or(&END)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    fn is_symbol_ahead(&self, ahead: usize, symbol: &str) -> bool {
        self.tokens
            .get(self.at + ahead)
            .is_some_and(|token| matches!(token.kind, Kind::Symbol(found) if found == symbol))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, Kind::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.at += usize::from(is);
        is
    }

    fn takes_symbol(&mut self, symbol: &str) -> bool {
        let is = self.is_symbol_ahead(0, symbol);
        self.at += usize::from(is);
        is
    }

    fn wants_symbol(&mut self, symbol: &'static str) -> Result<(), Error> {
        if self.takes_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    /// The error at the next token, if another one is wanted there.
    fn unexpected(&self, wanted: &str) -> Error {
        let token = self.peek();
        let found = match &token.kind {
            Kind::Word(word) | Kind::Quoted(word) => format!("`{word}`"),
            Kind::Text(text) => format!("the text '{text}'"),
            Kind::Int(number) => format!("`{number}`"),
            Kind::Float(number) => format!("`{number}`"),
            Kind::Symbol(symbol) => format!("`{symbol}`"),
            Kind::End => "the end".to_owned(),
        };
        let error = Error::new(token.place, format!("{found} where {wanted} is needed"));
        match &token.kind {
            Kind::Word(word) if !is_keyword(word) => {
                match nearest(word, KEYWORDS.map(str::to_ascii_lowercase).iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("did you mean `{}`?", near.to_ascii_uppercase())),
                    None => error,
                }
            }
            Kind::Word(_) => error.hint("a keyword is a name only in double quotes"),
            Kind::Symbol("=>") => error.hint("at least is `>=`"),
            Kind::Symbol("..") => error.hint("ranges are `[1..5]` and slices `a[1..2]`, of whole numbers"),
            _ => error,
        }
    }

    fn statement(&mut self) -> Result<Statement, Error> {
        let head = if self.takes_word("SELECT") {
            Head::Select(self.list("FROM")?)
        } else if self.takes_word("FOREACH") {
            let list = self.list("DO, INCASE or FROM")?;
            let each = if self.takes_word("DO") { self.list("INCASE or FROM")? } else { Vec::new() };
            let filter = if self.takes_word("INCASE") { Some(self.whole()?) } else { None };
            Head::Foreach { list, each, filter }
        } else {
            return Err(self.unexpected("SELECT or FOREACH"));
        };
        if !self.takes_word("FROM") {
            let error = self.unexpected("FROM");
            let is_end = self.peek().kind == Kind::End;
            return Err(if is_end { error.hint("FROM \"t/#\" says which topics the rule is for") } else { error });
        }
        let mut from = vec![self.source()?];
        while self.takes_symbol(",") {
            from.push(self.source()?);
        }
        let condition = if self.takes_word("WHERE") { Some(self.whole()?) } else { None };
        Ok(Statement { head, from, condition })
    }

    fn source(&mut self) -> Result<Source, Error> {
        match self.peek().kind.clone() {
            Kind::Word(name) if is_keyword(&name) => {}
            Kind::Word(name) | Kind::Quoted(name) | Kind::Text(name) => {
                let place = self.next().place;
                if self.is_symbol_ahead(0, "/") {
                    return Err(self
                        .unexpected("`,`, WHERE or the end")
                        .hint(format!("a topic stands in quotes: \"{name}/…\"")));
                }
                return Ok(Source { name, place });
            }
            Kind::Symbol("#" | "+" | "*") => {
                return Err(self.unexpected("a topic filter").hint("it stands in quotes: FROM \"t/#\""));
            }
            _ => {}
        }
        Err(self.unexpected("a topic filter"))
    }

    /// Items up to a keyword.
    fn list(&mut self, after: &str) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        loop {
            items.push(self.item(after)?);
            if !self.takes_symbol(",") {
                return Ok(items);
            }
        }
    }

    fn item(&mut self, after: &str) -> Result<Item, Error> {
        if self.takes_symbol("*") {
            return Ok(Item::All);
        }
        let expr = self.whole()?;
        if self.takes_word("AS") {
            return Ok(Item::Column(expr, Some(self.target()?)));
        }
        let is_target = match &self.peek().kind {
            Kind::Word(word) => !is_keyword(word),
            Kind::Quoted(_) => true,
            _ => false,
        };
        // A word that is no keyword may be a misspelt keyword.
        if is_target
            && (self.is_symbol_ahead(1, ",")
                || self.is_symbol_ahead(1, ".")
                || self.is_symbol_ahead(1, "[")
                || self.keyword_ahead())
        {
            return Ok(Item::Column(expr, Some(self.target()?)));
        }
        if is_target {
            return Err(self.unexpected(&format!("`,`, AS or {after}")));
        }
        Ok(Item::Column(expr, None))
    }

    /// Whether the token after the next one is a keyword or the end.
    fn keyword_ahead(&self) -> bool {
        self.tokens.get(self.at + 1).is_none_or(|token| match &token.kind {
            Kind::Word(word) => is_keyword(word),
            kind => *kind == Kind::End,
        })
    }

    fn target(&mut self) -> Result<Target, Error> {
        let token = self.next();
        let (Kind::Word(name) | Kind::Quoted(name) | Kind::Text(name)) = token.kind else {
            self.at = self.at.saturating_sub(1);
            return Err(self.unexpected("the name of a column"));
        };
        let steps = self.steps()?;
        let place = token.place.to(self.before());
        if steps.iter().any(|step| matches!(step, Step::Slice(..))) {
            return Err(Error::new(place, "a column is not put into a slice").hint("name one index: `a[1]`"));
        }
        Ok(Target { name, steps, place })
    }

    /// The place of the token before.
    fn before(&self) -> Place {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|token| token.place).unwrap_or_default()
    }

    /// `.name` and `[n]`, as many as follow.
    fn steps(&mut self) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        loop {
            if self.takes_symbol(".") {
                match self.next().kind {
                    Kind::Word(name) | Kind::Quoted(name) | Kind::Text(name) => steps.push(Step::Name(name)),
                    Kind::Int(number) => steps.push(Step::Name(number.to_string())),
                    _ => {
                        self.at = self.at.saturating_sub(1);
                        return Err(self.unexpected("the name of a member"));
                    }
                }
            } else if self.is_symbol_ahead(0, "[") {
                self.at += 1;
                let (index, is_negative) = self.bound()?;
                if self.takes_symbol("..") {
                    let (to, _) = self.bound()?;
                    steps.push(Step::Slice(index, to));
                } else if index == 0 && is_negative {
                    steps.push(Step::Behind);
                } else {
                    steps.push(Step::Index(index));
                }
                self.wants_symbol("]")?;
            } else {
                if steps.len() > NESTING_MAX {
                    return Err(Error::new(self.before(), format!("a path has at most {NESTING_MAX} steps")));
                }
                return Ok(steps);
            }
        }
    }

    /// A whole number with its sign.
    fn bound(&mut self) -> Result<(i64, bool), Error> {
        let is_negative = self.takes_symbol("-");
        match self.peek().kind {
            Kind::Int(number) => match i64::try_from(number) {
                Ok(number) => {
                    self.at += 1;
                    Ok((if is_negative { -number } else { number }, is_negative))
                }
                Err(_) => Err(self.unexpected("a smaller number")),
            },
            _ => Err(self
                .unexpected("a whole number")
                .hint("indexes are written out: from 1, or from the end: `a[-1]`; `nth(n, a)` takes any n")),
        }
    }

    /// Parses an expression from its lowest precedence.
    fn whole(&mut self) -> Result<Expr, Error> {
        self.expr(power::LOWEST).map(|tree| tree.expr)
    }

    fn tree(&mut self, kind: ExprKind, place: Place, below: usize) -> Result<Tree, Error> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Error::new(place, format!("a rule has at most {NODES_MAX} parts")));
        }
        if below >= NESTING_MAX {
            return Err(Error::new(place, format!("expressions nest at most {NESTING_MAX} deep")));
        }
        Ok(Tree { expr: Expr { kind, place }, height: below + 1 })
    }

    fn expr(&mut self, least: u8) -> Result<Tree, Error> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Error::new(self.peek().place, format!("expressions nest at most {NESTING_MAX} deep")));
        }
        let mut left = self.prefix()?;
        // An AND or OR that was begun here takes further operands; one in brackets does not.
        let mut open = 0;
        while let Some((operator, binds)) = self.operator() {
            if binds <= least {
                break;
            }
            left = match operator {
                Operator::And | Operator::Or => {
                    self.at += 1;
                    let right = self.expr(binds)?;
                    let height = left.height.max(right.height + 1);
                    let place = left.expr.place.to(right.expr.place);
                    match &mut left.expr.kind {
                        ExprKind::And(items) | ExprKind::Or(items) if open == binds => {
                            items.push(right.expr);
                            left.expr.place = place;
                            Tree { expr: left.expr, height }
                        }
                        _ => {
                            open = binds;
                            let below = left.height.max(right.height);
                            let items = vec![left.expr, right.expr];
                            let kind = if binds == power::AND { ExprKind::And(items) } else { ExprKind::Or(items) };
                            self.tree(kind, place, below)?
                        }
                    }
                }
                Operator::In { is_negated } => {
                    self.at += 1 + usize::from(is_negated);
                    self.wants_symbol("(")?;
                    let (list, below) = self.expressions(")")?;
                    let place = left.expr.place.to(self.before());
                    let kind = ExprKind::In { is_negated, value: Box::new(left.expr), list };
                    open = 0;
                    self.tree(kind, place, left.height.max(below))?
                }
                Operator::Binary(operator) => {
                    self.at += 1;
                    let right = self.expr(binds)?;
                    let place = left.expr.place.to(right.expr.place);
                    let below = left.height.max(right.height);
                    open = 0;
                    self.tree(ExprKind::Binary(operator, Box::new(left.expr), Box::new(right.expr)), place, below)?
                }
            };
            let is_comparison = binds == power::COMPARISON;
            if is_comparison && self.operator().is_some_and(|(_, next)| next == power::COMPARISON) {
                return Err(
                    Error::new(self.peek().place, "comparisons are not chained").hint("write `a < b AND b < c`")
                );
            }
        }
        self.depth -= 1;
        Ok(left)
    }

    /// The operator at the next token, and its precedence.
    fn operator(&self) -> Option<(Operator, u8)> {
        let binary = |operator, binds| Some((Operator::Binary(operator), binds));
        match &self.peek().kind {
            Kind::Symbol(symbol) => match *symbol {
                "+" => binary(Binary::Add, power::SUM),
                "-" => binary(Binary::Sub, power::SUM),
                "*" => binary(Binary::Mul, power::PRODUCT),
                "/" => binary(Binary::Divide, power::PRODUCT),
                "=" => binary(Binary::Equal, power::COMPARISON),
                "!=" | "<>" => binary(Binary::NotEqual, power::COMPARISON),
                "<" => binary(Binary::Less, power::COMPARISON),
                "<=" => binary(Binary::LessEqual, power::COMPARISON),
                ">" => binary(Binary::Greater, power::COMPARISON),
                ">=" => binary(Binary::GreaterEqual, power::COMPARISON),
                "=~" => binary(Binary::Matches, power::COMPARISON),
                _ => None,
            },
            Kind::Word(word) => match word.to_ascii_uppercase().as_str() {
                "AND" => Some((Operator::And, power::AND)),
                "OR" => Some((Operator::Or, power::OR)),
                "DIV" => binary(Binary::Div, power::PRODUCT),
                "MOD" => binary(Binary::Mod, power::PRODUCT),
                "IN" => Some((Operator::In { is_negated: false }, power::COMPARISON)),
                "NOT" => {
                    let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
                    let is_in = matches!(next, Some(Kind::Word(word)) if word.eq_ignore_ascii_case("IN"));
                    is_in.then_some((Operator::In { is_negated: true }, power::COMPARISON))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Expressions with commas between them, up to a bracket, and how deep the deepest is.
    fn expressions(&mut self, close: &'static str) -> Result<(Vec<Expr>, usize), Error> {
        let (mut items, mut below) = (Vec::new(), 0);
        if self.takes_symbol(close) {
            return Ok((items, below));
        }
        loop {
            let item = self.expr(power::LOWEST)?;
            below = below.max(item.height);
            items.push(item.expr);
            if !self.takes_symbol(",") {
                if self.takes_symbol(close) {
                    return Ok((items, below));
                }
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
    }

    fn prefix(&mut self) -> Result<Tree, Error> {
        let start = self.peek().place;
        if self.takes_word("NOT") {
            let operand = self.expr(power::NOT)?;
            let place = start.to(operand.expr.place);
            return self.tree(ExprKind::Unary(Unary::Not, Box::new(operand.expr)), place, operand.height);
        }
        if self.takes_symbol("-") {
            // The sign belongs to the number.
            let number = match self.peek().kind {
                Kind::Int(number) => Some(ExprKind::Int(0_i64.wrapping_sub_unsigned(number))),
                Kind::Float(number) => Some(ExprKind::Float(-number)),
                _ => None,
            };
            if let Some(number) = number {
                let place = start.to(self.next().place);
                return self.tree(number, place, 0);
            }
            return self.sign(Unary::Minus, start);
        }
        if self.takes_symbol("+") {
            return self.sign(Unary::Plus, start);
        }
        let value = self.primary()?;
        if !self.is_symbol_ahead(0, ".") && !self.is_symbol_ahead(0, "[") {
            return Ok(value);
        }
        let steps = self.steps()?;
        let place = start.to(self.before());
        self.tree(ExprKind::Into(Box::new(value.expr), steps), place, value.height)
    }

    fn sign(&mut self, sign: Unary, start: Place) -> Result<Tree, Error> {
        let operand = self.expr(power::SIGN)?;
        let place = start.to(operand.expr.place);
        self.tree(ExprKind::Unary(sign, Box::new(operand.expr)), place, operand.height)
    }

    fn primary(&mut self) -> Result<Tree, Error> {
        let start = self.peek().place;
        let is_call = self.is_symbol_ahead(1, "(");
        match self.peek().kind.clone() {
            Kind::Text(text) => {
                self.at += 1;
                self.tree(ExprKind::Text(text), start, 0)
            }
            Kind::Int(number) => {
                let Ok(number) = i64::try_from(number) else {
                    return Err(self.unexpected("at most 9223372036854775807"));
                };
                self.at += 1;
                self.tree(ExprKind::Int(number), start, 0)
            }
            Kind::Float(number) => {
                self.at += 1;
                self.tree(ExprKind::Float(number), start, 0)
            }
            Kind::Symbol("(") => {
                self.at += 1;
                let inner = self.expr(power::LOWEST)?;
                self.wants_symbol(")")?;
                Ok(inner)
            }
            Kind::Symbol("[") => {
                self.at += 1;
                self.list_or_range(start)
            }
            Kind::Word(word)
                if is_call
                    && (!is_keyword(&word) || word.eq_ignore_ascii_case("div") || word.eq_ignore_ascii_case("mod")) =>
            {
                self.at += 2;
                let (arguments, below) = self.expressions(")")?;
                let place = start.to(self.before());
                self.tree(ExprKind::Call(word.to_ascii_lowercase(), arguments), place, below)
            }
            Kind::Word(word) if word.eq_ignore_ascii_case("CASE") => {
                self.at += 1;
                self.case(start)
            }
            Kind::Word(word) if word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false") => {
                self.at += 1;
                self.tree(ExprKind::Bool(word.eq_ignore_ascii_case("true")), start, 0)
            }
            Kind::Word(name) | Kind::Quoted(name)
                if !(matches!(self.peek().kind, Kind::Word(_)) && is_keyword(&name)) =>
            {
                self.at += 1;
                let steps = self.steps()?;
                let place = start.to(self.before());
                self.tree(ExprKind::Path(name, steps), place, 0)
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Parses after `[`: a list, or a range of whole numbers.
    fn list_or_range(&mut self, start: Place) -> Result<Tree, Error> {
        let behind_number = 1 + usize::from(self.is_symbol_ahead(0, "-"));
        if self.is_symbol_ahead(behind_number, "..") {
            let (from, _) = self.bound()?;
            self.wants_symbol("..")?;
            let (to, _) = self.bound()?;
            self.wants_symbol("]")?;
            let place = start.to(self.before());
            return self.tree(ExprKind::Range(from, to), place, 0);
        }
        let (items, below) = self.expressions("]")?;
        let place = start.to(self.before());
        self.tree(ExprKind::List(items), place, below)
    }

    /// Parses after `CASE`.
    fn case(&mut self, start: Place) -> Result<Tree, Error> {
        let mut below = 0;
        let mut part = |parser: &mut Self| -> Result<Expr, Error> {
            let tree = parser.expr(power::LOWEST)?;
            below = below.max(tree.height);
            Ok(tree.expr)
        };
        let operand = if self.is_word("WHEN") { None } else { Some(Box::new(part(self)?)) };
        let mut arms = Vec::new();
        while self.takes_word("WHEN") {
            let when = part(self)?;
            if !self.takes_word("THEN") {
                return Err(self.unexpected("THEN"));
            }
            arms.push((when, part(self)?));
        }
        if arms.is_empty() {
            return Err(self.unexpected("WHEN"));
        }
        let otherwise = if self.takes_word("ELSE") { Some(Box::new(part(self)?)) } else { None };
        if !self.takes_word("END") {
            return Err(self.unexpected("WHEN, ELSE or END"));
        }
        let place = start.to(self.before());
        self.tree(ExprKind::Case { operand, arms, otherwise }, place, below)
    }
}

/// An operator between operands.
enum Operator {
    Binary(Binary),
    And,
    Or,
    In { is_negated: bool },
}
