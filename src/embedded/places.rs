//! Which connections are open, and which of them a new one takes the place of when there are as many as may be: one that waits
//! for a request, so that connections that only stand keep nobody out, this process's own sinks least of all. One that has
//! never asked for anything goes first, then the one that has waited for longest, then one that waits for records. While a request
//! is worked at its connection keeps its place.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::AbortHandle;
use tokio::time::Instant;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It has not asked for anything since then.
    New(Instant),
    /// It waits for the next request since then.
    Waits(Instant),
    /// It waits for records since then.
    Polls(Instant),
    /// A request of it is worked at.
    Works,
}

#[derive(Debug)]
struct Taken {
    state: Rc<Cell<State>>,
    task: Option<AbortHandle>,
}

/// The places.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: RefCell<BTreeMap<u64, Taken>>,
    next: Cell<u64>,
}

/// A connection's place, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    places: Rc<Places>,
    number: u64,
    state: Rc<Cell<State>>,
}

impl Places {
    /// How many are taken.
    pub(crate) fn len(&self) -> usize {
        self.taken.borrow().len()
    }

    /// A place for a new connection.
    pub(crate) fn take(self: &Rc<Self>) -> Place {
        let number = self.next.replace(self.next.get() + 1);
        let state = Rc::new(Cell::new(State::New(Instant::now())));
        self.taken.borrow_mut().insert(number, Taken { state: Rc::clone(&state), task: None });
        Place { places: Rc::clone(self), number, state }
    }

    /// The task that ends with its place.
    pub(crate) fn is_served_by(&self, number: u64, task: AbortHandle) {
        if let Some(taken) = self.taken.borrow_mut().get_mut(&number) {
            taken.task = Some(task);
        }
    }

    /// Ends one that waits. `false`: all work.
    pub(crate) fn make_room(&self) -> bool {
        let mut taken = self.taken.borrow_mut();
        let waits = taken.iter().filter(|(_, taken)| taken.state.get() != State::Works && taken.task.is_some());
        let Some(number) = waits.min_by_key(|(_, taken)| taken.state.get()).map(|(number, _)| *number) else {
            return false;
        };
        if let Some(task) = taken.remove(&number).and_then(|taken| taken.task) {
            task.abort();
        }
        true
    }
}

impl Place {
    /// The number of the place.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// A request has come.
    pub(crate) fn works(&self) {
        self.state.set(State::Works);
    }

    /// There is nothing to answer it with yet.
    pub(crate) fn polls(&self) {
        self.state.set(State::Polls(Instant::now()));
    }

    /// It was answered.
    pub(crate) fn waits(&self) {
        self.state.set(State::Waits(Instant::now()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().remove(&self.number);
    }
}
