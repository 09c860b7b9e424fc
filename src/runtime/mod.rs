//! The shard seam, the ring, the executors.

pub mod seam;
