//! What is made of a message on its way to a sink. Today: templates. Rules in SQL follow and share the variables.

pub mod envelope;
mod json;
pub mod members;
pub mod template;
mod variable;
