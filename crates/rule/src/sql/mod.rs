//! The text of a rule: its tokens, its tree, and its errors. The language is that of EMQX's rule engine; `docs/SQL.md` teaches it.

pub mod ast;
pub mod error;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use ast::Statement;
pub use error::{Error, Place};
pub use parser::parse;
