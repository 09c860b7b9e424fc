//! Reloads: by a signal, or by the control plane, which is answered when the new configuration is in force.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Map;

use super::super::auth_files;
use super::super::edge;
use super::super::overview;
use super::super::reconfigure::Reconfiguring;
use super::super::reload::{Proposal, Reload, several};
use super::super::spool_shares;
use super::starting::tokens;
use super::trials::beside;
use super::{Event, Failure, Service};
use crate::config::{self, Edit};
use crate::control::{
    AuthAnswer, AuthAsk, FileAnswer, KeysAnswer, Part, ReloadAnswer, ReloadRefused, Reloaded, Reloads, To, Tokens,
    Wanted,
};
use crate::dapr::{Bring, Brought, BroughtAnswer, NotBrought};
use crate::edge::Edge;
use crate::metrics::event::{Event as Said, Field, Kind};
use crate::runtime::seam::ListenerId;
use crate::shard::mail::{Mail, ToShard, WouldGo};
use crate::telemetry::{Span, TraceContext};

/// Time-out for the shards' answers, which take a few turns; the main thread is blocked until then.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// A requested change; the requester gets the outcome.
pub(super) struct Wish {
    wanted: Asked,
    dry_run: bool,
    under: Option<TraceContext>,
    answer: ReloadAnswer,
}

/// The change that is requested.
#[derive(Clone)]
enum Asked {
    /// A request of the control plane.
    Control(Wanted),
    /// A component that a sidecar has brought.
    Brought(Brought),
}

impl Wish {
    /// A component of a sidecar.
    fn brought(brought: Brought, answer: BroughtAnswer) -> Self {
        let answer = move |outcome: Result<Reloaded, ReloadRefused>| {
            answer(match outcome {
                Ok(_) => Ok(()),
                Err(ReloadRefused::NotNow(why)) => Err(NotBrought::Busy(why)),
                Err(why) => Err(NotBrought::Wrong(why.to_string())),
            });
        };
        Self { wanted: Asked::Brought(brought), dry_run: false, under: None, answer: Box::new(answer) }
    }
}

/// The way of components of a sidecar into the configuration.
pub(super) fn bring(tell: &Sender<Event>) -> Bring {
    let tell = tell.clone();
    // A stopping service takes none.
    Arc::new(move |brought, answer| drop(tell.send(Event::Reload(Wish::brought(brought, answer)))))
}

fn answer(wish: Option<Wish>, outcome: Result<Reloaded, ReloadRefused>) {
    if let Some(wish) = wish {
        (wish.answer)(outcome);
    }
}

/// A span with the outcome of a reload.
fn described(span: Span, said: &Reloaded) -> Span {
    span.with("forebay.reload.applied", said.applied.join(", "))
        .with("forebay.reload.needs_restart", said.needs_restart.join(", "))
}

/// The control plane's access to reloads: the main thread does them.
pub(super) struct ByMainThread(pub(super) Sender<Event>);

impl Reloads for ByMainThread {
    fn reload(&self, wanted: Wanted, dry_run: bool, under: Option<TraceContext>, answer: ReloadAnswer) -> bool {
        self.0.send(Event::Reload(Wish { wanted: Asked::Control(wanted), dry_run, under, answer })).is_ok()
    }

    fn file(&self, answer: FileAnswer) -> bool {
        self.0.send(Event::Look(Box::new(move |reload: &Reload| answer(reload.shown_file())))).is_ok()
    }

    fn written(&self, of: Part, name: String, answer: KeysAnswer) -> bool {
        let look = move |reload: &Reload| answer(reload.written(part(of), &name));
        self.0.send(Event::Look(Box::new(look))).is_ok()
    }

    fn auth_files(&self, name: String, ask: AuthAsk, answer: AuthAnswer) -> bool {
        self.would_be(config::Part::Cluster, String::new(), Map::new(), move |config| match config {
            Err(why) => answer(Err(why)),
            Ok(config) => beside(move || answer(auth_files::answer(&config, &name, ask))),
        })
    }

    fn schema(&self) -> serde_json::Value {
        config::schema()
    }
}

/// The part in the configuration's terms.
fn part(of: Part) -> config::Part {
    match of {
        Part::Sink => config::Part::Sink,
        Part::Source => config::Part::Source,
        Part::Rule => config::Part::Rule,
        Part::Bridge => config::Part::Bridge,
        Part::Cluster => config::Part::Cluster,
        Part::Listener => config::Part::Listener,
    }
}

/// The edit in the configuration's terms.
fn edit(of: Part, name: String, to: To) -> Edit {
    let to = match to {
        To::Entry(keys) => config::To::Entry(keys),
        To::Keys(keys) => config::To::Keys(keys),
        To::Removed => config::To::Removed,
    };
    Edit { part: part(of), name, to }
}

/// The steps that follow once all shards have a change.
pub(super) struct AfterReload {
    proposal: Proposal,
    tokens: Option<Arc<Tokens>>,
    edge: Edge,
    said: Reloaded,
    wish: Option<Wish>,
    span: Span,
}

impl Service {
    /// Reads the configuration again, or changes a part of it, and sends the shards the differences. `wish`: of the control
    /// plane, which gets the outcome; a signal's outcome is in the log.
    pub(super) fn reload(&mut self, wish: Option<Wish>) -> Result<(), Failure> {
        let dry_run = wish.as_ref().is_some_and(|wish| wish.dry_run);
        if self.reconfiguring.is_some() && wish.is_none() {
            self.reload_again = true;
            return Ok(());
        }
        let span = self.tracer.span("reload", wish.as_ref().and_then(|wish| wish.under));
        let span = span.with("forebay.reload.dry_run", dry_run);
        let wanted = wish.as_ref().map_or(Asked::Control(Wanted::File), |wish| wish.wanted.clone());
        let is_edit = !matches!(wanted, Asked::Control(Wanted::File | Wanted::Files) | Asked::Brought(_));
        let is_brought = matches!(wanted, Asked::Brought(_));
        match self.propose(wanted) {
            Ok((proposal, tokens, edge)) => {
                let (applied, needs_restart) = (proposal.change.applied.clone(), proposal.change.waiting.clone());
                let (not_in_file, warnings) = (proposal.not_in_file(), proposal.warnings.clone());
                let closes = proposal.change.closes.clone();
                let (is_new, also) = (proposal.is_new, proposal.also.clone());
                // Only a requester gets the number.
                let disconnected_clients = if wish.is_some() { self.would_go(&proposal, &edge)? } else { None };
                let said = Reloaded {
                    dry_run,
                    applied,
                    needs_restart,
                    not_in_file,
                    also,
                    warnings,
                    closes,
                    disconnected_clients,
                    is_new,
                };
                if dry_run {
                    self.tracer.end(described(span, &said));
                    answer(wish, Ok(said));
                    return Ok(());
                }
                self.apply(AfterReload { proposal, tokens, edge, said, wish, span })
            }
            Err(why) => {
                if is_brought && matches!(why, ReloadRefused::NotNow(_)) {
                    // The sidecar asks again.
                } else if is_edit && !dry_run {
                    Reload::change_refused(&why, &self.journal);
                } else if !dry_run {
                    Reload::refused(&why, &self.journal);
                }
                self.tracer.end(span.failed(why.to_string()));
                answer(wish, Err(why));
                Ok(())
            }
        }
    }

    /// Reads changed certificates and other files again. The rest of the configuration is not looked at.
    pub(super) fn renew_files(&mut self) -> Result<(), Failure> {
        if self.reconfiguring.is_some() || !self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.shown.renew_tokens() {
            None => {}
            Some(Ok(())) => {
                self.journal.say(Said::now(Kind::Reloaded).with(Field::Applied, "control (changed: tokens)"));
            }
            Some(Err(why)) => {
                let reason = format!("a file has changed and cannot be used: {why}");
                self.journal.say(Said::now(Kind::ReloadFailed).with(Field::Reason, reason));
            }
        }
        self.edge.tell_expiring();
        self.edge.key_sets.refresh_missed(&self.edge.in_force);
        let Some(Ok(edge)) = self.edge.look(&self.config) else { return Ok(()) };
        let Ok(mut proposal) = self.reload.propose_running() else { return Ok(()) };
        let tokens = tokens(&self.config)?;
        proposal.change.applied = edge::changed(&self.config, &self.edge.in_force, &edge);
        let span = self.tracer.span("reload", None);
        let (not_in_file, applied) = (proposal.not_in_file(), proposal.change.applied.clone());
        let said = Reloaded { applied, not_in_file, ..Reloaded::default() };
        self.apply(AfterReload { proposal, tokens, edge, said, wish: None, span })
    }

    /// The wanted configuration, checked; the tokens, and the contents of its files.
    fn propose(&self, wanted: Asked) -> Result<(Proposal, Option<Arc<Tokens>>, Edge), ReloadRefused> {
        if !self.ready.load(Ordering::Acquire) {
            return Err(ReloadRefused::NotNow("the service is still starting".to_owned()));
        }
        if self.reconfiguring.is_some() {
            return Err(ReloadRefused::NotNow("another reload is under way".to_owned()));
        }
        let mut proposal = match wanted {
            Asked::Control(Wanted::File) => self.reload.propose_file()?,
            Asked::Control(Wanted::Files) => self.reload.propose_running()?,
            Asked::Control(Wanted::Text { text, etag }) => self.reload.propose_text(text, etag.as_deref())?,
            Asked::Control(Wanted::Edit { part, name, to, persist }) => {
                self.reload.propose_edit(edit(part, name, to), persist)?
            }
            Asked::Brought(brought) => self.reload.propose_brought(&brought)?,
        };
        let tokens = tokens(&proposal.change.config).map_err(|why| several(vec![why]))?;
        let config = &proposal.change.config;
        let edge = edge::load_again(config, &self.edge.in_force).map_err(several)?;
        let changed = edge::changed(config, &self.edge.in_force, &edge);
        // A listener or cluster with changed settings is reported already.
        let is_named = |what: &str| {
            let place = what.split(" (").next().unwrap_or_default();
            proposal.change.applied.iter().any(|applied| applied.split(" (").next() == Some(place))
        };
        let more: Vec<String> = changed.into_iter().filter(|what| !is_named(what)).collect();
        proposal.change.applied.extend(more);
        let boards = &self.shown.view().boards;
        proposal.warnings.extend(spool_shares::change(&self.config, &proposal.change.config, boards));
        Ok((proposal, tokens, edge))
    }

    /// The number of clients that a change disconnects; `None`: a shard has not answered in time.
    fn would_go(&self, proposal: &Proposal, edge: &Edge) -> Result<Option<u64>, Failure> {
        let now = &proposal.change.config.listeners;
        let was_there = |place: usize| self.config.listeners.get(place).is_some_and(|listener| !listener.is_removed);
        let removed = (0..now.len()).filter(|place| now[*place].is_removed && was_there(*place));
        let removed: Vec<_> = removed.filter_map(|place| u16::try_from(place).ok().map(ListenerId)).collect();
        if removed.is_empty() && edge.admits_as(&self.edge.in_force) {
            return Ok(Some(0));
        }
        let (tell, told) = channel();
        self.tell_all(|| {
            let tell = tell.clone();
            let answer = Box::new(move |count| {
                let _ = tell.send(count);
            });
            Mail::Shard(ToShard::WouldGo(Box::new(WouldGo { edge: edge.clone(), removed: removed.clone(), answer })))
        })?;
        let mut sum = 0;
        let until = Instant::now() + ANSWERED_WITHIN;
        for _ in 0..self.shards.len() {
            let Ok(count) = told.recv_timeout(until.saturating_duration_since(Instant::now())) else { return Ok(None) };
            sum += count as u64;
        }
        Ok(Some(sum))
    }

    /// Applies a change: all steps that can fail are done before any shard gets it.
    fn apply(&mut self, after: AfterReload) -> Result<(), Failure> {
        let proposal = &after.proposal;
        for warning in &proposal.warnings {
            tracing::warn!("{warning}");
        }
        let begun = if proposal.change.applied.is_empty() {
            Ok(None)
        } else {
            let dead_letters = |config: &_| self.dead_letters.of(config);
            Reconfiguring::new(&self.config, &proposal.change, after.edge.clone(), dead_letters).map(Some)
        };
        let begun = begun.map_err(|why| several(vec![why]));
        match begun.and_then(|begun| proposal.write().map(|()| begun)) {
            Ok(Some(mut begun)) => {
                self.tell_each(|shard| begun.letter(shard))?;
                self.reconfiguring = Some(begun);
                self.after_reload = Some(after);
            }
            Ok(None) => self.finish(after),
            Err(why) => {
                Reload::refused(&why, &self.journal);
                self.tracer.end(after.span.failed(why.to_string()));
                answer(after.wish, Err(why));
            }
        }
        Ok(())
    }

    fn finish(&mut self, after: AfterReload) {
        let AfterReload { proposal, tokens, edge, said, wish, span } = after;
        self.shown.admit(tokens, edge.control.as_ref().map(|server| server.config()));
        self.reload.applied(proposal, &self.journal);
        self.tracer.end(described(span, &said));
        answer(wish, Ok(said));
    }

    /// Notes that a shard works with the new configuration.
    pub(super) fn reconfigured(&mut self) -> Result<(), Failure> {
        let Some(done) = self.reconfiguring.take_if(Reconfiguring::is_last) else { return Ok(()) };
        self.config = done.config;
        self.edge.replace(done.edge);
        self.bindings.iter().for_each(|bindings| bindings.set(&self.config));
        self.shown.show(done.boards, Arc::new(overview::of(&self.config)));
        for addr in done.listening {
            self.journal.say(Said::now(Kind::Listening).with(Field::Listener, addr.to_string()));
        }
        if let Some(after) = self.after_reload.take() {
            self.finish(after);
        }
        if std::mem::take(&mut self.reload_again) { self.reload(None) } else { Ok(()) }
    }
}
