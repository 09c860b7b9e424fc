//! What is made of a message on its way to a sink, and of a record on its way from a source. Today: templates. Rules in SQL follow and share
//! the variables.

pub mod envelope;
mod json;
pub mod members;
pub mod record;
pub mod template;
pub mod time;
mod variable;
mod vocabulary;
