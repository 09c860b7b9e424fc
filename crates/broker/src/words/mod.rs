//! Words that the shard and its broker have in common.
//!
//! | | |
//! |---|---|
//! | `feeds` | the destinations that a message may have |
//! | `flow` | how the reading of a connection goes on |
//! | `holder` | who goes without a copy |
//! | `owner` | who gets the answer to a row |
//! | `search` | a text that is looked for |
//! | `stall` | what a connection waits for that is left unread |
//! | `told` | what events have in common |

mod feeds;
mod flow;
mod holder;
mod owner;
mod search;
mod stall;
mod told;

pub use self::feeds::Feeds;
pub use self::flow::Flow;
pub use self::holder::Whose;
pub use self::owner::{Owner, ticket_of};
pub use self::search::Search;
pub use self::stall::{Stall, Wait};
pub use self::told::{DROPPED, REJECTED, clipped, denied, of_client, publish_refused, second};
