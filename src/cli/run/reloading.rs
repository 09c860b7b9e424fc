//! A reload: of a signal, or of the control plane, which is told when it is in force.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use super::super::overview;
use super::super::reconfigure::Reconfiguring;
use super::{Event, Failure, Service, tokens};
use crate::config::Change;
use crate::control::{ReloadAnswer, ReloadRefused, Reloaded, Reloads, Tokens};

/// A reload that the control plane asks for.
pub(super) struct Wish {
    dry_run: bool,
    answer: ReloadAnswer,
}

fn answer(wish: Option<Wish>, outcome: Result<Reloaded, ReloadRefused>) {
    if let Some(wish) = wish {
        (wish.answer)(outcome);
    }
}

/// The control plane's way to a reload: the main thread does it.
pub(super) struct ByMainThread(pub(super) Sender<Event>);

impl Reloads for ByMainThread {
    fn reload(&self, dry_run: bool, answer: ReloadAnswer) -> bool {
        self.0.send(Event::Reload(Wish { dry_run, answer })).is_ok()
    }
}

/// What is done once all shards have a change.
pub(super) struct AfterReload {
    tokens: Option<Arc<Tokens>>,
    said: Reloaded,
    wish: Option<Wish>,
}

/// What is in the file now.
struct Read {
    change: Change,
    warnings: Vec<String>,
    /// The tokens that it names.
    tokens: Option<Arc<Tokens>>,
}

impl Service {
    /// Reads the configuration again and sends the shards what changes. `wish`: of the control plane, which is told; a
    /// signal's outcome is in the log.
    pub(super) fn reload(&mut self, wish: Option<Wish>) -> Result<(), Failure> {
        let dry_run = wish.as_ref().is_some_and(|wish| wish.dry_run);
        if self.reconfiguring.is_some() && wish.is_none() {
            self.reload_again = true;
            return Ok(());
        }
        let Read { change, warnings, tokens } = match self.read_again() {
            Ok(read) => read,
            Err(why) => {
                if !dry_run {
                    self.reload.refused(&why);
                }
                answer(wish, Err(why));
                return Ok(());
            }
        };
        let (applied, needs_restart) = (change.applied.clone(), change.waiting.clone());
        let said = Reloaded { dry_run, applied, needs_restart, warnings };
        if dry_run {
            answer(wish, Ok(said));
            return Ok(());
        }
        said.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if change.applied.is_empty() {
            self.shown.admit(tokens);
            self.reload.applied(change);
            answer(wish, Ok(said));
            return Ok(());
        }
        match Reconfiguring::new(&self.config, change, |config| self.dead_letters.of(config)) {
            Ok(begun) => {
                self.tell_each(|shard| begun.letter(shard))?;
                self.reconfiguring = Some(begun);
                self.after_reload = Some(AfterReload { tokens, said, wish });
            }
            Err(why) => {
                let why = ReloadRefused::Mistakes(vec![why]);
                self.reload.refused(&why);
                answer(wish, Err(why));
            }
        }
        Ok(())
    }

    /// What is in the file now, and the tokens that it names.
    fn read_again(&self) -> Result<Read, ReloadRefused> {
        if !self.ready.load(Ordering::Acquire) {
            return Err(ReloadRefused::NotNow("the service is still starting".to_owned()));
        }
        if self.reconfiguring.is_some() {
            return Err(ReloadRefused::NotNow("another reload is under way".to_owned()));
        }
        let (change, warnings) = self.reload.read()?;
        let tokens = tokens(&change.config).map_err(|why| ReloadRefused::Mistakes(vec![why]))?;
        Ok(Read { change, warnings, tokens })
    }

    /// A shard works with the new configuration.
    pub(super) fn reconfigured(&mut self) -> Result<(), Failure> {
        let Some(done) = self.reconfiguring.take_if(Reconfiguring::is_last) else { return Ok(()) };
        self.config = done.config;
        self.shown.show(done.boards, Arc::new(overview::of(&self.config)));
        self.reload.applied(done.change);
        if let Some(AfterReload { tokens, said, wish }) = self.after_reload.take() {
            self.shown.admit(tokens);
            answer(wish, Ok(said));
        }
        if std::mem::take(&mut self.reload_again) { self.reload(None) } else { Ok(()) }
    }
}
