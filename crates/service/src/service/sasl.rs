//! Work of logins to Kafka that a core must not do, on one ordinary thread: keys are derived from passwords, which takes up to
//! tenths of a second, and tokens are read from files. Tokens of identity providers: [`super::kafka_tokens`].

use std::io;
use std::sync::mpsc::{Sender, channel};

use super::kafka_tokens::{self, Asked, Told};
use forebay_guard::secure::sasl::{Helper, Prepared, Task, TokenFrom};

pub(super) type Answer = Box<dyn FnOnce(Result<Prepared, String>) + Send>;

/// A task; `answer` is called on another thread. A connection has one at a time, so there are few.
pub struct Question {
    /// The computation or fetch to do.
    pub task: Task,
    /// The callback for the result.
    pub answer: Answer,
}

/// Starts the thread. `tell` is called on another one, after each fetch of a token.
///
/// # Errors
/// A thread cannot be made.
pub fn start(tell: impl FnMut(Told) + Send + 'static) -> io::Result<Sender<Question>> {
    let (ask, questions) = channel::<Question>();
    let tokens = kafka_tokens::start(tell)?;
    std::thread::Builder::new().name("sasl".into()).spawn(move || {
        let mut helper = Helper::default();
        for Question { task, answer } in questions {
            match task {
                Task::Token { from: TokenFrom::Endpoint(endpoint), is_refused } => {
                    tokens.ask(Asked { endpoint, is_refused, answer });
                }
                task => answer(helper.run(&task)),
            }
        }
    })?;
    Ok(ask)
}
