//! `Whose` is the holder of a dropped copy.

use forebay_session::{ClientKey, SessionKey};

/// The holder of a dropped copy.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// A session held it.
    Session(SessionKey),
    /// A client held it, and its session has ended.
    Client(ClientKey<'a>),
    /// A share held it for any member: `$share/NAME/FILTER`.
    Share(&'a str),
}
