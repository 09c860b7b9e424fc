//! Passwords are compared with their hashes on threads of their own: that takes up to half a second, and no core that serves
//! devices waits for it. Passwords that were right before are answered first, so guesses with slow hashes
//! do not delay known clients.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::auth::{Answer, Proof, Proofs, Question};

/// Questions that wait for one thread.
const QUEUE_MAX: usize = 4_096;
/// Of these, from one address.
const QUEUE_OF_ADDRESS_MAX: usize = 64;

/// A question with the way back for its answer.
pub struct Task {
    /// What is asked.
    pub question: Question,
    /// The client's address.
    pub from: Option<IpAddr>,
    /// After this the answer is not waited for.
    pub until: Instant,
    /// Takes the answer; `None`: too many of this address wait.
    pub answer: Box<dyn FnOnce(Option<Answer>) + Send>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.question.fmt(f)
    }
}

/// The way to the threads.
#[derive(Clone)]
pub struct Verifiers(Arc<[SyncSender<Task>]>);

impl Verifiers {
    /// Starts so many threads, at least one. They end when the last of these is dropped.
    ///
    /// # Errors
    /// A thread cannot be made, or the system gives no random numbers.
    pub fn start(count: usize) -> io::Result<Self> {
        let proofs = Arc::new(Mutex::new(Proofs::new(Instant::now()).map_err(io::Error::other)?));
        let threads = (0..count.max(1)).map(|index| {
            let (ask, tasks) = sync_channel(QUEUE_MAX);
            let mut verifier = Verifier::new(Arc::clone(&proofs));
            std::thread::Builder::new().name(format!("verifier-{index}")).spawn(move || verifier.run(&tasks))?;
            Ok(ask)
        });
        threads.collect::<io::Result<_>>().map(Self::to)
    }

    /// The queues that questions go into: each shard has one.
    #[must_use]
    pub fn to(queues: Arc<[SyncSender<Task>]>) -> Self {
        Self(queues)
    }

    /// Asks the thread for this shard. False: as many wait for it as may.
    #[must_use]
    pub fn ask(&self, shard: usize, task: Task) -> bool {
        self.0[shard % self.0.len()].try_send(task).is_ok()
    }
}

struct Verifier {
    /// Of all threads.
    proofs: Arc<Mutex<Proofs>>,
    /// Those that take long.
    waiting: VecDeque<(Task, Proof)>,
    by_address: HashMap<IpAddr, usize>,
}

impl Verifier {
    fn new(proofs: Arc<Mutex<Proofs>>) -> Self {
        Self { proofs, waiting: VecDeque::new(), by_address: HashMap::new() }
    }

    fn run(&mut self, tasks: &Receiver<Task>) {
        loop {
            // All that can be answered at once goes before the next that cannot.
            let is_idle = self.waiting.is_empty();
            let next = if is_idle { tasks.recv().map_err(|_| TryRecvError::Disconnected) } else { tasks.try_recv() };
            match next {
                Ok(task) => self.take(task),
                Err(TryRecvError::Empty) => self.compare_next(),
                Err(TryRecvError::Disconnected) => return,
            }
            // As many as the channel holds: so the bound is twice that, whatever comes.
            if self.waiting.len() >= QUEUE_MAX {
                self.compare_next();
            }
        }
    }

    fn take(&mut self, task: Task) {
        let now = Instant::now();
        if task.until <= now {
            return;
        }
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = proofs.of(&task.question);
        if proofs.knows(&proof, now) {
            drop(proofs);
            return (task.answer)(Some(task.question.answer_known()));
        }
        drop(proofs);
        if let Some(from) = task.from {
            let count = self.by_address.entry(from).or_default();
            if *count >= QUEUE_OF_ADDRESS_MAX {
                return (task.answer)(None);
            }
            *count += 1;
        }
        self.waiting.push_back((task, proof));
    }

    fn compare_next(&mut self) {
        let Some((task, proof)) = self.waiting.pop_front() else { return };
        if let Some(from) = task.from
            && let Some(count) = self.by_address.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&from);
            }
        }
        if task.until <= Instant::now() {
            return;
        }
        let answer = task.question.answer();
        if answer.is_ok() {
            self.proofs.lock().unwrap_or_else(PoisonError::into_inner).add(proof, Instant::now());
        }
        (task.answer)(Some(answer));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::auth::{Claim, Judgement, Method, Policy, Refusal, Settings};

    /// Of PBKDF2 with 100,000 iterations over `secret`: tens of milliseconds.
    const SLOW: &str = include_str!("verifier_hash.txt");

    fn verifier() -> Verifier {
        Verifier::new(Arc::new(Mutex::new(Proofs::new(Instant::now()).unwrap())))
    }

    fn policy(dir: &std::path::Path) -> Arc<Policy> {
        let file = dir.join("passwords");
        std::fs::write(&file, format!("a:{}\n", SLOW.trim())).unwrap();
        let settings = Settings { password_file: Some(file), ..Settings::new("devices", &[Method::Password]) };
        Arc::new(Policy::load(&settings).unwrap())
    }

    fn question(policy: &Arc<Policy>, user: &str, password: &str) -> Question {
        match policy.judge(Claim { username: Some(user), password: Some(password.as_bytes()), ..Claim::default() }) {
            Judgement::Ask(question) => question,
            other => panic!("{other:?}"),
        }
    }

    /// X25, X26: remembered proofs first; 64 questions of one address.
    #[test]
    fn what_is_known_goes_before_what_takes_long() {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy(dir.path());
        let (said, answers) = channel();
        let mut verifier = verifier();
        let task = |name: &'static str, password: &str, from: &str| {
            let (said, from) = (said.clone(), Some(from.parse().unwrap()));
            let answer = Box::new(move |answer: Option<Answer>| {
                let outcome = answer.map(|answer| answer.map(|admission| admission.identity.unwrap_or_default()));
                said.send((name, outcome)).unwrap();
            });
            let until = Instant::now() + Duration::from_secs(600);
            Task { question: question(&policy, "a", password), from, until, answer }
        };
        verifier.take(task("first", "secret", "192.0.2.1"));
        assert!(answers.try_recv().is_err(), "it takes long");
        verifier.compare_next();
        assert_eq!(answers.try_recv().unwrap(), ("first", Some(Ok("a".into()))));
        // Now it is known: wrong ones that were there before do not hold it up.
        for _ in 0..QUEUE_OF_ADDRESS_MAX {
            verifier.take(task("wrong", "guess", "192.0.2.66"));
        }
        verifier.take(task("again", "secret", "192.0.2.1"));
        assert_eq!(answers.try_recv().unwrap(), ("again", Some(Ok("a".into()))));
        // One more of the guesser is one too many, of another address it is not.
        verifier.take(task("too many", "guess", "192.0.2.66"));
        assert_eq!(answers.try_recv().unwrap(), ("too many", None));
        verifier.take(task("another", "guess", "192.0.2.67"));
        assert!(answers.try_recv().is_err());
        verifier.compare_next();
        assert_eq!(answers.try_recv().unwrap(), ("wrong", Some(Err(Refusal::Credentials))));
        // Room again.
        verifier.take(task("one more", "guess", "192.0.2.66"));
        assert!(answers.try_recv().is_err());
    }

    /// X25: a question behind its deadline is skipped.
    #[test]
    fn who_does_not_wait_any_more_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy(dir.path());
        let mut verifier = verifier();
        let gone = |until| Task {
            question: question(&policy, "a", "secret"),
            from: Some([127, 0, 0, 1].into()),
            until,
            answer: Box::new(|_| panic!("it is too late")),
        };
        verifier.take(gone(Instant::now()));
        assert!(verifier.waiting.is_empty());
        let soon = Instant::now() + Duration::from_millis(20);
        verifier.take(gone(soon));
        std::thread::sleep(Duration::from_millis(40));
        verifier.compare_next();
        assert!(verifier.waiting.is_empty() && verifier.by_address.is_empty());
    }

    #[test]
    fn the_threads_answer() {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy(dir.path());
        let verifiers = Verifiers::start(2).unwrap();
        let (said, answers) = channel();
        for shard in 0..3 {
            let said = said.clone();
            let answer = Box::new(move |answer: Option<Answer>| said.send(answer.unwrap().is_ok()).unwrap());
            let until = Instant::now() + Duration::from_secs(600);
            let question = question(&policy, "a", if shard == 1 { "guess" } else { "secret" });
            assert!(verifiers.ask(shard, Task { question, from: None, until, answer }));
        }
        let mut all: Vec<bool> = (0..3).map(|_| answers.recv().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [false, true, true]);
    }
}
