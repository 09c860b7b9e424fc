//! The runtime from outside: real sockets on the loopback, real threads, one or two shards. One suite, over each driver.

mod epoll;
#[path = "suite.rs"]
#[allow(clippy::duplicate_mod)]
mod over_epoll;
#[path = "suite.rs"]
#[allow(clippy::duplicate_mod)]
mod over_ring;

use super::seam;
