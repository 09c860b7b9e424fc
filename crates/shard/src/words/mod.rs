//! Words that rooms of the shard have in common, and that know none of them.
//!
//! | | |
//! |---|---|
//! | `timer` | the purpose of a timer |
//! | `stall` | what a connection waits for that is left unread |
//! | `packet` | the sender of a packet, and how its reading goes on |
//! | `at_door` | a client before it has a session |
//! | `owner` | who gets the answer to a row |
//! | `far` | the other end of an outgoing connection |
//! | `feeds` | the destinations that a message may have |
//! | `objection` | why a sink never takes a message |
//! | `holder` | who goes without a copy |
//! | `search` | a text that is looked for |
//! | `told` | what events have in common |

mod at_door;
mod far;
mod feeds;
mod holder;
mod objection;
mod owner;
mod packet;
mod search;
mod stall;
mod timer;
mod told;

pub(crate) use self::at_door::AtDoor;
pub(crate) use self::far::Far;
pub(crate) use self::feeds::Feeds;
pub(crate) use self::holder::Whose;
pub(crate) use self::objection::Objection;
pub(crate) use self::owner::{Owner, ticket_of};
pub(crate) use self::packet::{Flow, Sample, Source, Used};
pub(crate) use self::search::Search;
pub(crate) use self::stall::{Stall, Wait};
pub(crate) use self::timer::Timer;
pub(crate) use self::told::{DROPPED, REJECTED, clipped, denied, of_client, publish_refused, second};
