//! The places of open connections. When all places are taken, a new connection replaces one that waits for a request, so that idle
//! connections keep no client out, least of all this process's own sinks. A connection that has never sent a request goes first,
//! then the one that has waited longest, then one that waits for records. A connection keeps its place while a request is being
//! handled.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// The connection has sent no request since it opened, at this time.
    New(Instant),
    /// The connection has waited for the next request since this time.
    Waits(Instant),
    /// The connection has waited for records since this time.
    Polls(Instant),
    /// A request of the connection is being handled.
    Works,
}

#[derive(Debug)]
struct Taken {
    state: Rc<Cell<State>>,
    task: Option<AbortHandle>,
}

/// The places of all connections.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: RefCell<BTreeMap<u64, Taken>>,
    next: Cell<u64>,
}

/// A connection's place, which it keeps until it ends.
#[derive(Debug)]
pub(crate) struct Place {
    places: Rc<Places>,
    number: u64,
    state: Rc<Cell<State>>,
}

impl Places {
    /// The number of places taken.
    pub(crate) fn len(&self) -> usize {
        self.taken.borrow().len()
    }

    /// Takes a place for a new connection.
    pub(crate) fn take(self: &Rc<Self>) -> Place {
        let number = self.next.replace(self.next.get() + 1);
        let state = Rc::new(Cell::new(State::New(Instant::now())));
        self.taken.borrow_mut().insert(number, Taken { state: Rc::clone(&state), task: None });
        Place { places: Rc::clone(self), number, state }
    }

    /// Sets the task that ends with its place.
    pub(crate) fn is_served_by(&self, number: u64, task: AbortHandle) {
        if let Some(taken) = self.taken.borrow_mut().get_mut(&number) {
            taken.task = Some(task);
        }
    }

    /// Ends a connection that waits. `false`: all are handling requests.
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

    /// Notes that a request has arrived.
    pub(crate) fn works(&self) {
        self.state.set(State::Works);
    }

    /// Notes that there is nothing yet to answer the request with.
    pub(crate) fn polls(&self) {
        self.state.set(State::Polls(Instant::now()));
    }

    /// Notes that the request was answered.
    pub(crate) fn waits(&self) {
        self.state.set(State::Waits(Instant::now()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().remove(&self.number);
    }
}
