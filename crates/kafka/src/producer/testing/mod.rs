//! A producer in the hand: requests and answers one by one, over a log in memory. For tests here and of the crates above.

pub mod hand;
pub mod hand_log;
