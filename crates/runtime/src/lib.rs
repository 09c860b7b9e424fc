//! The lowest layer: the only module that knows io_uring, epoll and glommio. The layers above use plain calls ([`seam`]).
//!
//! # One turn, from start to end
//!
//! A shard is one thread with our loop (`executor`). The loop asks the kernel by a driver (`driver`): our own io_uring (`ring`), and
//! glommio's executor around the loop then; or `epoll` with threads for files (`files`), which answers as a ring does. In the loop are a
//! table of connections (`connections`) and the [`Shard`](seam::Shard) that is called. A turn (`turn`) goes like this:
//!
//! 1. **Clocks** are read once. All of the turn happens at that instant.
//! 2. **Mailbox** (`mailbox`): letters of other shards and of ordinary threads. A letter may bring a connection:
//!    its descriptor, and the bytes that were read before it moved.
//! 3. **Answers** of the kernel that are no bytes: accepted, connected, sent, synced. Receives are put aside.
//! 4. **Reads** (`receive`): each filled buffer is lent to the shard for one call and then goes back to the kernel's
//!    stock (`buffers`). A connection without bytes holds none.
//!    Bytes of a connection with a layer (TLS) go through that first (`layers`); handshakes have a part of the turn.
//! 5. **Timers** (`timer`) that are due.
//! 6. **The shard's own end of turn**: it seals batches, decides what can be acknowledged, writes answers.
//!    The syncs it asked for go to the driver (`segments`, `disk`).
//! 7. **Sends** (`send`): all that was appended for a connection, in whichever step, becomes one submission, unless
//!    its last one is still with the kernel. Then returned buffers are published, and only then receives armed.
//! 8. **Sleep** (`park`). If something was left over (each step has a budget), there is none. While there is work, the
//!    thread enters the kernel once, which takes all submissions of the turn and returns with the next answers. With a ring that
//!    one call is all a turn costs; without one each receive and each send is a call, too. An idle shard stays in it until a timer, an answer or a letter comes: there is no tick.
//!
//! A shard that keeps segment files (`segments`) also has a helper thread (`preparer`), which allocates and deletes
//! them; its results are reported after the kernel's answers. Segments are read through windows (`windows`, `fetch`):
//! bytes in none of them are fetched by the driver, and the shard tries again. A shard without segments has no cost.
//!
//! # Invariants
//!
//! - **The kernel may read and write our memory until it has answered.** So a slot, with the buffers it is sending, is
//!   freed only after the last answer, however dead the connection is for the shard; a file and its data stay until
//!   the sync has answered; and a loop that ends cancels everything and waits (`Turn`'s `Drop`).
//! - **Ids are checked, never trusted.** Slot and generation are in every id and in every answer. A late answer matches no
//!   connection.
//! - **The shard is never called from inside a call of the shard.** Events for the shard are noted and delivered afterwards.
//! - **Nothing is armed while the shard looks at first bytes**, so a connection moves to its owner with no read to
//!   cancel. From `stream` on, reads are armed for good.
//! - **A wish, not a state.** Pause, resume, the cap on unsent bytes and closing only change whether bytes are wanted. Whenever a
//!   receive answers for the last time, it is armed again if bytes are wanted. So a cancellation that crosses a resume needs no
//!   care.
//! - **A shard that is awake is not woken.** A letter rings a bell only if its reader has published that it sleeps, and
//!   where; the last look before sleeping comes after that.

mod accept;
mod bind;
mod buffers;
mod chunks;
mod connect;
mod connections;
mod core;
mod disk;
mod driver;
mod epoll;
pub mod evidence;
mod executor;
mod faults;
mod faults_file;
mod fetch;
mod files;
mod folder;
mod heap;
mod host;
mod layers;
mod listen;
mod mailbox;
mod map;
mod park;
mod preparer;
mod reads;
mod receive;
mod ring;
pub mod seam;
mod segment;
mod segments;
mod send;
mod sockets;
mod tag;
mod timer;
mod turn;
mod watchdog;
mod windows;

pub use self::core::boottime;
pub use bind::{Bind, SocketFile, UNIX, listen};
pub use executor::{IoDriver, Settings, ShardThread, spawn};
pub use faults::DiskFaults;
pub use folder::{
    FolderLock, InFolder, file_system_advice, in_folder, note_path, open_segment, read_note, segment_path, segments_in,
    sync_folder, write_note,
};
pub use heap::{configure_heap, trim_heap};
pub use host::{cpus, probe};
pub use listen::{Listener, Listeners};
pub use mailbox::{MailboxReceiver, Post, mailboxes};
pub use watchdog::{Heartbeat, Watchdog};

#[cfg(test)]
mod tests;
