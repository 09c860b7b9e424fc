//! What logging in to Kafka needs and a core must not do, on one ordinary thread: keys are derived from passwords, which
//! takes up to tenths of a second, and tokens are read from files.

use std::io;
use std::sync::mpsc::{Sender, channel};

use crate::secure::sasl::{Helper, Prepared, Task};

type Answer = Box<dyn FnOnce(Result<Prepared, String>) + Send>;

/// A task; `answer` is called on the helper's thread. A connection has one at a time, so there are not many.
pub struct Question {
    /// What is to be done.
    pub task: Task,
    /// Gets what came of it.
    pub answer: Answer,
}

/// Starts the thread. It ends when the last sender is dropped.
///
/// # Errors
/// The thread cannot be made.
pub fn start() -> io::Result<Sender<Question>> {
    let (ask, questions) = channel::<Question>();
    std::thread::Builder::new().name("sasl".into()).spawn(move || {
        let mut helper = Helper::default();
        questions.iter().for_each(|question| (question.answer)(helper.run(&question.task)));
    })?;
    Ok(ask)
}
