//! The subject of an evaluation: a message, or a record or an event, which are a list of fields.

use super::arena::Arena;
use super::failure::Reason;
use super::field::Field;
use super::message::{Message, metadata};
use super::value::Value;

/// A record of a source, or an event.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'m> {
    /// The value of each field that the subject has but `metadata`, in any order.
    pub fields: &'m [(Field, Value<'m>)],
    /// The text that rules are most likely to look into as JSON: a record's value.
    pub text: &'m [u8],
}

/// The subject of an evaluation.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'m> {
    /// A message.
    Message(&'m Message<'m>),
    /// A record of a source, or an event.
    Facts(&'m Facts<'m>),
}

impl<'m> Subject<'m> {
    /// The value of a field. `None`: the subject does not have the field.
    pub(super) fn field<'a>(self, field: Field, rule: &'a str, arena: &'a Arena) -> Result<Option<Value<'a>>, Reason>
    where
        'm: 'a,
    {
        match self {
            Self::Message(message) => message.field(field, rule, arena),
            Self::Facts(facts) => match facts.fields.iter().find(|(of, _)| *of == field) {
                Some((_, value)) => Ok(Some(*value)),
                None if field == Field::Metadata => metadata(rule, arena).map(Some),
                None => Ok(None),
            },
        }
    }

    /// The text that rules are most likely to look into.
    pub(super) const fn text(self) -> &'m [u8] {
        match self {
            Self::Message(message) => message.context.payload,
            Self::Facts(facts) => facts.text,
        }
    }
}
