//! Templates over the output of a rule: `${column}`, a way into one, or the whole output, `${.}`.

use std::cell::Cell;
use std::fmt;

use super::failure::Failure;
use super::json::JsonPath;
use super::program::Output;
use super::sql::ast::Step;
use super::template::{Absent, Fixed, MessageContext, Named, Template, TemplateError, TemplateOf, Vocabulary, Wrong};
use super::value::Value;
use super::variable::{Variable, environment, metadata};

/// The name of the whole output.
const WHOLE: &str = ".";

/// A reference of a template to an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// `None` is the whole output as a JSON object.
    way: Option<Way>,
    absent: IfAbsent,
}

/// A column, and the steps into its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    /// The way as written.
    path: JsonPath,
    column: Box<str>,
    steps: Box<[Step]>,
}

/// The handling of a column that an output does not have, or that is absent in it: it holds for each column of a template, whatever text is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfAbsent {
    /// The column is rendered as empty text.
    Empty,
    /// The template cannot be rendered: there is no header.
    Missing,
    /// The template cannot be rendered for null either: there is no topic, or no key.
    MissingOrNull,
}

/// The output that the templates of a row are rendered for.
pub trait Columns: fmt::Debug {
    /// Appends the text of a reference.
    ///
    /// # Errors
    /// [`Absent::Column`]: the column is absent, or could not be written; `out` is unchanged then.
    fn write(&self, column: &Column, out: &mut Vec<u8>) -> Result<(), Absent>;
}

/// An output, and the failure of a part that could not be written.
#[derive(Debug)]
pub struct Row<'o, 'a> {
    output: &'o Output<'a>,
    failure: Cell<Option<Failure>>,
    defaults: Option<Defaults<'o>>,
}

/// The key and the time of rows that do not set them, if these are not those of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults<'a> {
    /// The key of rows without one; `None`: they have no key.
    pub key: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch; `None`: the time of receipt.
    pub time_ms: Option<i64>,
}

impl<'o, 'a> Row<'o, 'a> {
    /// The row of an output.
    #[must_use]
    pub const fn new(output: &'o Output<'a>) -> Self {
        Self { output, failure: Cell::new(None), defaults: None }
    }

    /// The row with other defaults than those of a message.
    #[must_use]
    pub fn by_default(self, defaults: Option<Defaults<'o>>) -> Self {
        Self { defaults, ..self }
    }

    /// The key and time of rows that do not set them; `None`: those of the message.
    #[must_use]
    pub const fn defaults(&self) -> Option<Defaults<'o>> {
        self.defaults
    }

    /// The failure of a part that could not be written: the rule fails for the message.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }
}

impl Columns for Row<'_, '_> {
    fn write(&self, column: &Column, out: &mut Vec<u8>) -> Result<(), Absent> {
        let start = out.len();
        let written = match &column.way {
            None => self.output.write(out),
            Some(way) => match (self.output.at(&way.column, &way.steps), column.absent) {
                (Ok(Value::Absent), IfAbsent::Missing | IfAbsent::MissingOrNull)
                | (Ok(Value::Null), IfAbsent::MissingOrNull) => return Err(Absent::Column),
                (Ok(value), _) => self.output.write_value(value, out),
                (Err(failure), _) => Err(failure),
            },
        };
        written.map_err(|failure| {
            out.truncate(start);
            self.failure.set(Some(failure));
            Absent::Column
        })
    }
}

impl Column {
    /// The name of the column; `None`: the whole output.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.way.as_ref().map(|way| &*way.column)
    }

    /// The name of the column, if the reference is to all of it.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        self.way.as_ref().filter(|way| way.steps.is_empty()).map(|way| &*way.column)
    }
}

impl fmt::Display for Column {
    /// Writes the reference as between `${` and `}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            None => f.write_str(WHOLE),
            Some(way) => {
                let path = way.path.to_string();
                // A name in quotes keeps the dot before it.
                f.write_str(path.strip_prefix('.').filter(|rest| !rest.starts_with('\'')).unwrap_or(&path))
            }
        }
    }
}

impl Vocabulary for Column {
    type Context<'a> = MessageContext<'a>;
    type Absent = Absent;

    fn named(name: &str, fixed: &Fixed<'_>) -> Result<Named<Self>, Wrong> {
        if name == WHOLE {
            return Ok(Named::Variable(Self { way: None, absent: IfAbsent::Empty }));
        }
        match name.split_once('.') {
            Some(("env", name)) if !name.is_empty() => return environment(name, fixed).map(Named::Text),
            // `metadata` is a field of each message, too.
            Some(("metadata", name)) if fixed.metadata.iter().any(|(known, _)| known == name) => {
                return metadata(name, fixed).map(Named::Text);
            }
            _ => {}
        }
        let hint = || "name a column, as in `${temp}`, a way into one, as in `${payload.a[0]}`, or `${.}`".to_owned();
        let path = if name.starts_with(['.', '[']) { name.to_owned() } else { format!(".{name}") };
        let path = JsonPath::parse(&path).map_err(|what| (what, hint()))?;
        let Some((column, steps)) = path.in_output() else {
            return Err((format!("`{name}` does not begin with a name"), hint()));
        };
        let (column, steps) = (column.into(), steps.into());
        Ok(Named::Variable(Self { way: Some(Way { path, column, steps }), absent: IfAbsent::Empty }))
    }

    fn has_path(_: &str) -> bool {
        true
    }

    fn write(&self, context: &MessageContext<'_>, out: &mut Vec<u8>) -> Result<(), Absent> {
        context.output.ok_or(Absent::Column)?.write(self, out)
    }
}

impl Template {
    /// Compiles `text` as a template over the output of a rule. `absent`: the handling of an absent column.
    ///
    /// # Errors
    /// Like [`TemplateOf::parse_with`].
    pub fn over_output(text: &str, fixed: &Fixed<'_>, absent: IfAbsent) -> Result<Self, TemplateError> {
        let parsed = TemplateOf::<Column>::parse_with(text, fixed)?;
        Ok(parsed.map(|column| Variable::Column(Column { absent, ..column })))
    }

    /// The columns of a rule's output that the template refers to.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.variables().filter_map(|variable| match variable {
            Variable::Column(column) => Some(column),
            _ => None,
        })
    }
}
