//! Words that rooms of the shard have in common, and that know none of them.
//!
//! | | |
//! |---|---|
//! | `timer` | the purpose of a timer |
//! | `packet` | the sender of a packet, and how its reading goes on |
//! | `at_door` | a client before it has a session |
//! | `far` | the other end of an outgoing connection |
//! | `objection` | why a sink never takes a message |

mod at_door;
mod far;
mod objection;
mod packet;
mod timer;

pub(crate) use self::at_door::AtDoor;
pub(crate) use self::far::Far;
pub(crate) use self::objection::Objection;
pub(crate) use self::packet::{Sample, Source, Used};
pub(crate) use self::timer::Timer;
