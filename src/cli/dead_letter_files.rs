//! The threads that write dead-letter files: one for each file, which begins with the first sink or bridge that uses it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::config::{Config, DeadLettersFile};
use crate::runtime::Post;
use crate::service::dead_letters::{self, Answer, Letter, Ways};
use crate::service::sandbox;
use crate::shard::mail::{Mail, ToDeadLetters};

/// The running threads, and their channels.
pub(super) struct DeadLetterFiles {
    /// The mail by which the shards get the counts of written letters.
    post: Post<Mail>,
    started: HashMap<PathBuf, Sender<Letter>>,
    by_sink: Vec<Option<Sender<Letter>>>,
    /// The channels of bridges, each by its place in the configuration.
    of_bridges: HashMap<(usize, PathBuf), Sender<Letter>>,
}

impl DeadLetterFiles {
    pub(super) fn new(post: Post<Mail>) -> Self {
        Self { post, started: HashMap::new(), by_sink: Vec::new(), of_bridges: HashMap::new() }
    }

    /// Opens the files that are new since the last call. Returns the channels to the threads.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(super) fn of(&mut self, config: &Config) -> Result<Ways, String> {
        for sink in &config.sinks[self.by_sink.len()..] {
            let Some(file) = sink.dead_letters.as_ref().and_then(|dead| dead.file.as_ref()) else {
                self.by_sink.push(None);
                continue;
            };
            // Sinks that configure no file share one.
            if let Some(to) = self.started.get(&file.path) {
                self.by_sink.push(Some(to.clone()));
                continue;
            }
            let post = self.post.clone();
            let answer = move |shard, sink, count| {
                // The mailbox may be full; a shard that has ended needs no count.
                post.send(shard, Mail::DeadLetters(ToDeadLetters::Filed { sink, count })).is_ok()
                    || post.has_ended(shard)
            };
            let to = start(file, &format!("sink {}", sink.name), Arc::new(answer))?;
            self.started.insert(file.path.clone(), to.clone());
            self.by_sink.push(Some(to));
        }
        let mut bridges = Vec::new();
        for (bridge, of) in config.bridges.iter().enumerate() {
            let file = of.dead_letters.as_ref().filter(|_| !of.is_removed).and_then(|dead| dead.file.as_ref());
            let Some(file) = file else {
                bridges.push(None);
                continue;
            };
            let key = (bridge, file.path.clone());
            if !self.of_bridges.contains_key(&key) {
                let post = self.post.clone();
                let answer = move |shard, number, count| {
                    let mail = Mail::DeadLetters(ToDeadLetters::FiledOfBridge { bridge, number, count });
                    post.send(shard, mail).is_ok() || post.has_ended(shard)
                };
                let to = start(file, &format!("bridge {}", of.name), Arc::new(answer))?;
                self.of_bridges.insert(key.clone(), to);
            }
            bridges.push(self.of_bridges.get(&key).cloned());
        }
        Ok(Ways { sinks: self.by_sink.clone(), bridges })
    }
}

/// Opens a file, and starts its thread. `of`: the owner of the file.
fn start(file: &DeadLettersFile, of: &str, answer: Answer) -> Result<Sender<Letter>, String> {
    let settings = dead_letters::Settings { path: file.path.clone(), bytes_max: file.bytes_max, files: file.files };
    dead_letters::start(settings, answer).map_err(|e| {
        let (shown, hint) = (file.path.display(), sandbox::hint(&e));
        format!("dead letters of {of}: {shown}: {e}; dead_letters_file of it names the file{hint}")
    })
}
