//! The threads that write dead-letter files: one for each file, which begins with the first sink that uses it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::config::Config;
use crate::runtime::Post;
use crate::service::dead_letters::{self, Letter};
use crate::service::sandbox;
use crate::shard::mail::Mail;

/// The threads that run, and the ways to them.
pub(super) struct DeadLetterFiles {
    /// Mail, by which the shards hear of their letters.
    post: Post<Mail>,
    started: HashMap<PathBuf, Sender<Letter>>,
    by_sink: Vec<Option<Sender<Letter>>>,
}

impl DeadLetterFiles {
    pub(super) fn new(post: Post<Mail>) -> Self {
        Self { post, started: HashMap::new(), by_sink: Vec::new() }
    }

    /// Opens the files of sinks that have come since the last time. Returns the way to the file of each sink, by its place in the
    /// configuration.
    ///
    /// # Errors
    /// A file cannot be opened, in words for a person.
    pub(super) fn of(&mut self, config: &Config) -> Result<Vec<Option<Sender<Letter>>>, String> {
        for sink in &config.sinks[self.by_sink.len()..] {
            let Some(file) = sink.dead_letters.as_ref().and_then(|dead| dead.file.clone()) else {
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
                // The mailbox may be full; nobody waits for this in a shard that has ended.
                post.send(shard, Mail::Filed { sink, count }).is_ok() || post.has_ended(shard)
            };
            let path = file.path.clone();
            let settings = dead_letters::Settings { path: file.path, bytes_max: file.bytes_max, files: file.files };
            let to = dead_letters::start(settings, Arc::new(answer)).map_err(|e| {
                let shown = path.display();
                format!(
                    "dead letters of sink {}: {shown}: {e}; dead_letters_file of that sink names the file{}",
                    sink.name,
                    sandbox::hint(&e)
                )
            })?;
            self.started.insert(path, to.clone());
            self.by_sink.push(Some(to));
        }
        Ok(self.by_sink.clone())
    }
}
