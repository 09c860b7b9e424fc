//! The parts of users in a shard's room for retained messages. Each user has at most the free fraction of the free room (`free² / whole`), as the topics of a
//! cluster divide its memory. A single user gets 38 %; after n users some 1 / (n + 1) is free, in whatever order they came. Without any `[auth.NAME]` all
//! clients are one user, which has all of it.

use std::collections::HashMap;

use forebay_base::limits::part_of;

/// A number of messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// The messages that each user holds, by [`super::Publisher::user`]. A user that holds none is not listed.
#[derive(Debug, Default)]
pub(super) struct Holders {
    all: Held,
    each: HashMap<Box<[u8]>, Held>,
}

impl Holders {
    /// The messages of all users together.
    pub(super) const fn all(&self) -> Held {
        self.all
    }

    /// Adds a message of a user.
    pub(super) fn add(&mut self, user: &[u8], bytes: usize) {
        let held = match self.each.get_mut(user) {
            Some(held) => held,
            None => self.each.entry(user.into()).or_default(),
        };
        for held in [held, &mut self.all] {
            *held = Held { messages: held.messages + 1, bytes: held.bytes + bytes };
        }
    }

    /// Subtracts a message of a user.
    pub(super) fn subtract(&mut self, user: &[u8], bytes: usize) {
        let less = |held: Held| Held { messages: held.messages - 1, bytes: held.bytes - bytes };
        self.all = less(self.all);
        let Some(held) = self.each.get_mut(user) else { return };
        *held = less(*held);
        if held.messages == 0 {
            self.each.remove(user);
        }
    }

    /// Whether a user has used its part up. A user that holds nothing has not, while there is room at all.
    pub(super) fn has_its_part(&self, user: &[u8], bounds: Held) -> bool {
        let Some(held) = self.each.get(user) else { return false };
        let is_past = |held, all, whole: usize| held >= part_of(whole.saturating_sub(all), whole);
        is_past(held.messages, self.all.messages, bounds.messages) || is_past(held.bytes, self.all.bytes, bounds.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_gets_a_part_of_what_the_others_left() {
        let mut holders = Holders::default();
        let bounds = Held { messages: 1_000, bytes: usize::MAX };
        let mut parts = Vec::new();
        for user in 0_u8..4 {
            let mut count = 0;
            while !holders.has_its_part(&[user], bounds) {
                holders.add(&[user], 1);
                count += 1;
            }
            parts.push(count);
        }
        assert!((380..385).contains(&parts[0]), "{parts:?}");
        assert!(parts[3] > 60, "{parts:?}");
        assert!(holders.all().messages < 850);
        for _ in 0..parts[0] {
            holders.subtract(&[0], 1);
        }
        assert!(!holders.has_its_part(&[3], bounds), "what one gives back is for all");
        assert_eq!(holders.each.len(), 3);
    }
}
