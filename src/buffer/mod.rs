//! The disk buffer of one shard: what producers and sessions have to know after a crash, written into the spool's log
//! ([`crate::spool`]). Sans-I/O: the disk is behind the log's own seam, time is given.
