//! Tasks that wait for a partition's next progress. A waiter that gave up is only a dead pointer until it is swept.

use std::rc::{Rc, Weak};

use tokio::sync::Notify;

/// The number of waiters from which on they are swept.
const SWEEP_FROM: usize = 16;

/// Tasks to wake.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Vec<Weak<Notify>>,
    sweep_at: usize,
}

impl Waiters {
    /// Registers `notify` for the next [`Waiters::wake`], if it still lives then.
    pub(crate) fn add(&mut self, notify: &Rc<Notify>) {
        if self.waiting.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.waiting.retain(|waiting| waiting.strong_count() > 0);
            self.sweep_at = self.waiting.len() * 2;
        }
        self.waiting.push(Rc::downgrade(notify));
    }

    /// Wakes all waiters, once.
    pub(crate) fn wake(&mut self) {
        for notify in self.waiting.drain(..).filter_map(|waiting| waiting.upgrade()) {
            notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_gave_up_do_not_pile_up() {
        let mut waiters = Waiters::default();
        let stays: Vec<_> = (0..10).map(|_| Rc::new(Notify::new())).collect();
        stays.iter().for_each(|notify| waiters.add(notify));
        for _ in 0..10_000 {
            waiters.add(&Rc::new(Notify::new()));
            assert!(waiters.waiting.len() <= 40);
        }
        assert_eq!(waiters.waiting.iter().filter(|waiting| waiting.strong_count() > 0).count(), 10);
    }
}
