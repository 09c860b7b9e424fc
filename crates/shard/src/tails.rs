//! Buffers for packets that arrive in pieces, lent to a connection while it has one and taken back after.

use forebay_base::limits::{POOLED_TAIL_BYTES_MAX, POOLED_TAILS_MAX};

/// The pool of one shard.
#[derive(Debug, Default)]
pub(super) struct Tails {
    free: Vec<Vec<u8>>,
}

impl Tails {
    /// A buffer that holds `bytes`.
    pub(super) fn lend(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut tail = self.free.pop().unwrap_or_default();
        tail.extend_from_slice(bytes);
        tail
    }

    /// Takes a buffer back, unless it grew large or enough are there.
    pub(super) fn give_back(&mut self, mut tail: Vec<u8>) {
        if (1..=POOLED_TAIL_BYTES_MAX).contains(&tail.capacity()) && self.free.len() < POOLED_TAILS_MAX {
            tail.clear();
            self.free.push(tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_a_large_one_does_not() {
        let mut tails = Tails::default();
        let tail = tails.lend(b"half a packet");
        let at = tail.as_ptr();
        tails.give_back(tail);
        let again = tails.lend(b"x");
        assert_eq!((again.as_ptr(), again.as_slice()), (at, b"x".as_slice()));
        tails.give_back(Vec::with_capacity(POOLED_TAIL_BYTES_MAX + 1));
        assert!(tails.free.is_empty());
    }
}
