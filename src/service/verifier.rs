//! Passwords are compared with their hashes, and signatures checked, on threads of their own: that takes up to half a second,
//! and no core that serves devices waits for it. What was right before is answered first, so guesses with slow hashes do not
//! delay known clients.

mod queue;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::address::Address;
use crate::auth::{Answer, Proofs, Question};

pub use self::queue::Bounds;
use self::queue::{Next, Queue};

/// A question with the way back for its answer.
pub struct Task {
    /// What is asked.
    pub question: Question,
    /// The client's address.
    pub from: Option<IpAddr>,
    /// After this the answer is not waited for.
    pub until: Instant,
    /// Takes the answer; `None`: others came, and there is no room any more.
    pub answer: Box<dyn FnOnce(Option<Answer>) + Send>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.question.fmt(f)
    }
}

/// The way to the threads.
#[derive(Clone)]
pub struct Verifiers(Arc<Threads>);

/// Ends the threads when it is dropped.
struct Threads(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    proofs: Mutex<Proofs>,
}

/// A question that was asked. It is taken back when this is dropped: nobody waits for its answer any more.
pub struct Asked {
    shared: Arc<Shared>,
    number: u64,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asked").field(&self.number).finish()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.shared.queue().take_back(self.number);
    }
}

/// What waits, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Questions.
    pub questions: usize,
    /// Bytes of their passwords and tokens.
    pub bytes: usize,
}

impl Verifiers {
    /// Starts `count` threads, at least one. They end when the last of these is dropped.
    ///
    /// # Errors
    /// A thread cannot be made, or the system gives no random numbers.
    pub fn start(count: usize) -> io::Result<Self> {
        let verifiers = Self::without_threads(Bounds::DEFAULT)?;
        for index in 0..count.max(1) {
            let shared = Arc::clone(&verifiers.0.0);
            std::thread::Builder::new().name(format!("verifier-{index}")).spawn(move || shared.run())?;
        }
        Ok(verifiers)
    }

    /// The queue without anybody who answers: see [`Verifiers::next`].
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn without_threads(bounds: Bounds) -> io::Result<Self> {
        let proofs = Mutex::new(Proofs::new(Instant::now()).map_err(io::Error::other)?);
        let shared = Shared { queue: Mutex::new(Queue::new(bounds)), news: Condvar::new(), proofs };
        Ok(Self(Arc::new(Threads(Arc::new(shared)))))
    }

    /// Asks. `None`: as many wait as may, of this address or of all.
    #[must_use]
    pub fn ask(&self, task: Task) -> Option<Asked> {
        let shared = &self.0.0;
        let number = shared.queue().ask(task)?;
        shared.news.notify_one();
        Some(Asked { shared: Arc::clone(shared), number })
    }

    /// The question that is next to be answered, for a simulation in place of the threads.
    #[must_use]
    pub fn next(&self) -> Option<Task> {
        let mut queue = self.0.0.queue();
        match queue.next(Instant::now())? {
            Next::Look(number, task) | Next::Compare(number, task, _) => {
                queue.done(number);
                Some(task)
            }
            Next::Refuse(_) => None,
        }
    }

    /// What waits at present.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.0.0.queue().waiting()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.queue().close();
        self.0.news.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proofs(&self) -> MutexGuard<'_, Proofs> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(next) = self.wait() {
            self.carry_out(next);
        }
    }

    /// The next check to do. `None`: nobody will ask any more.
    fn wait(&self) -> Option<Next> {
        let mut queue = self.queue();
        loop {
            if queue.is_closed() {
                return None;
            }
            if let Some(next) = queue.next(Instant::now()) {
                return Some(next);
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn carry_out(&self, next: Next) {
        match next {
            Next::Refuse(answer) => answer(None),
            Next::Look(number, task) => {
                let proof = self.proofs().of(&task.question);
                if !self.proofs().knows(&proof, Instant::now()) {
                    self.queue().look_later(number, task, proof);
                    // Another thread may have found nothing to do meanwhile.
                    return self.news.notify_one();
                }
                if self.queue().done(number) {
                    (task.answer)(Some(task.question.answer_known()));
                }
            }
            Next::Compare(number, task, proof) => {
                let answer = task.question.answer();
                if answer.is_ok() {
                    self.proofs().add(proof, Instant::now());
                }
                if self.queue().done(number) {
                    (task.answer)(Some(answer));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "verifier/tests.rs"]
mod tests;
