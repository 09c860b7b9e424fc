//! Templates and rules in SQL: the texts that a sink writes for a message, and the mapping of a record to a message.
//!
//! A rule is a text that is compiled to a [`program::Program`] once; a program is evaluated for a message and yields outputs.
//! Nothing here knows a shard or a clock: [`around::Around`] brings the time, the environment and the random numbers.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "testing"))]
pub mod any_input;
pub mod arena;
pub mod around;
pub mod column;
mod compare;
pub mod envelope;
pub mod event;
pub mod facts;
pub mod failure;
pub mod field;
pub mod functions;
mod json;
pub mod members;
pub mod message;
pub mod program;
pub mod record;
pub mod record_fields;
pub mod sql;
pub mod template;
#[cfg(test)]
mod tests;
pub mod time;
pub mod value;
mod variable;
mod vocabulary;
