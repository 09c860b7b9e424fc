//! Compares passwords with their hashes, and checks signatures, on threads of their own: that takes up to half a second, and no
//! core that serves devices waits for it. Remembered proofs are answered first, so guesses with slow hashes do not delay known
//! clients.

mod queue;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use forebay_base::address::Address;
use forebay_guard::auth::{Answer, Proofs, Question};

pub use self::queue::Bounds;
use self::queue::{Next, Queue};

/// A question with the callback for its answer.
pub struct Task {
    /// The question.
    pub question: Question,
    /// The client's address.
    pub from: Option<IpAddr>,
    /// The deadline, after which the answer is not needed.
    pub until: Instant,
    /// Takes the answer; `None`: the question was dropped to make room for others.
    pub answer: Box<dyn FnOnce(Option<Answer>) + Send>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.question.fmt(f)
    }
}

/// The handle of the threads.
#[derive(Clone)]
pub struct Verifiers(Arc<Threads>);

/// Ends the threads when it is dropped.
struct Threads(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    proofs: Mutex<Proofs>,
}

/// A pending question. Dropping this takes the question back: its answer is not needed any more.
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

/// Pending questions, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The number of questions.
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

    /// A queue without threads that answer: see [`Verifiers::next`].
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn without_threads(bounds: Bounds) -> io::Result<Self> {
        let proofs = Mutex::new(Proofs::new(Instant::now()).map_err(io::Error::other)?);
        let shared = Shared { queue: Mutex::new(Queue::new(bounds)), news: Condvar::new(), proofs };
        Ok(Self(Arc::new(Threads(Arc::new(shared)))))
    }

    /// Queues a question. `None`: the bound of this address or of all is reached.
    #[must_use]
    pub fn ask(&self, task: Task) -> Option<Asked> {
        let shared = &self.0.0;
        let number = shared.queue().ask(task)?;
        shared.news.notify_one();
        Some(Asked { shared: Arc::clone(shared), number })
    }

    /// The next question to answer, for a simulation in place of the threads.
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

    /// The pending questions.
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

    /// The next check to do. `None`: all handles are dropped.
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
                    // Another thread may have gone to sleep meanwhile.
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
