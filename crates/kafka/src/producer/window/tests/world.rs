//! A window, its waiting rows and the log. Each action is one possible event; the invariants are checked after each.

use std::collections::VecDeque;

use super::log::{PartitionLog, Said, Sent};
use crate::producer::error::Verdict;
use crate::producer::window::{
    Divergence, Head, Identity, NewBatch, PartitionWindow, Resolution, Step, StepTerms, TakeBack,
};
use crate::types::{LogSays, NodeId, WhyNot};
use forebay_base::rules::Rules;
use forebay_record::Stamp;
use forebay_runtime::seam::{Monotonic, WallMs};

/// The initial state of runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scenario {
    pub(super) max_inflight: usize,
    /// Whether the timestamps are ones that Kafka may forget a producer by; then it does at some time.
    pub(super) old: bool,
    /// Whether batches are cut through the spool.
    pub(super) logged: bool,
    /// Number of batches that an earlier process has cut and sent, and how many of them the log took. The last is not loaded.
    pub(super) restored: (u32, u32),
    /// Whether the log is truncated.
    pub(super) truncates: bool,
    /// Whether the topic is recreated, and written to by name: a lost request may reach the new one.
    pub(super) recreates: bool,
}

/// One possible event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The oldest request reaches the log, and its answer comes back.
    Process,
    /// The oldest request reaches the log, and its answer is lost.
    LoseAnswer,
    /// The oldest request is not carried out, which the broker reports (19).
    NotNow,
    /// The oldest request is not carried out, and no answer arrives.
    LoseRequest,
    /// The oldest request is refused (10).
    Refuse,
    /// The question is answered correctly.
    Answer,
    /// The question is answered "not now".
    AnswerNotNow,
    /// The log gives no answer to the question.
    Silence,
    /// The spool is synced.
    Sync,
    /// The remaining cuts of an earlier process are loaded.
    Load,
    Forget,
    /// The log loses all but this many batches.
    Truncate(usize),
    /// The topic is recreated, and metadata reports it.
    Recreate,
    /// The topic is recreated, and the last lost request has reached the new one before metadata reports it.
    RecreateLate,
}

/// Modes, as in the window's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Open,
    Solo,
    Apart,
    Asking,
}

const WALL: WallMs = WallMs(1_000_000_000);
const NOW: Monotonic = Monotonic(1_000_000_000);
const ACKS: i16 = -1;
const VIA: (NodeId, bool) = (NodeId(1), false);
/// The identity of an earlier process, and that of this one.
const EARLIER: Identity = Identity { id: 6, epoch: 3 };
const OWN: Identity = Identity { id: 7, epoch: 0 };

#[derive(Clone, Debug)]
struct Cut {
    serial: u64,
    sent: Sent,
    group: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    scenario: Scenario,
    rules: &'static dyn Rules,
    window: PartitionWindow,
    /// The row of an earlier process's batch that is not loaded.
    unloaded: Option<u32>,
    /// Number of rows that were cut by an earlier process.
    old_rows: u32,
    queue: VecDeque<u32>,
    undone: VecDeque<Cut>,
    in_flight: VecDeque<Cut>,
    log: PartitionLog,
    log_next: Option<i64>,
    serial: u64,
    next_row: u32,
    group: u64,
    durable: u64,
    settled: Vec<u32>,
    rejected: Vec<u32>,
    unknown: u64,
    /// Whether the log was asked and gave no answer.
    silent: bool,
    forgotten: bool,
    truncated: bool,
    recreated: bool,
    /// The last lost request.
    late: Option<Sent>,
}

impl World {
    pub(super) fn new(scenario: Scenario, rules: &'static dyn Rules) -> Result<Self, String> {
        let (cut, there) = scenario.restored;
        let mut world = Self {
            scenario,
            rules,
            window: PartitionWindow::default(),
            unloaded: None,
            old_rows: cut,
            queue: VecDeque::new(),
            undone: VecDeque::new(),
            in_flight: VecDeque::new(),
            log: PartitionLog::default(),
            log_next: None,
            serial: 0,
            next_row: cut,
            group: 0,
            durable: 0,
            settled: Vec::new(),
            rejected: Vec::new(),
            unknown: 0,
            silent: false,
            forgotten: false,
            truncated: false,
            recreated: false,
            late: None,
        };
        for row in 0..cut {
            if row < there {
                world.log.append(of_earlier(row));
            }
            if row + 1 < cut {
                world.restore(row);
            } else {
                world.unloaded = Some(row);
            }
        }
        world.turn()?;
        Ok(world)
    }

    fn restore(&mut self, row: u32) {
        self.serial += 1;
        let sent = of_earlier(row);
        let batch = NewBatch { serial: self.serial, count: 2, newest: self.newest(), old: true, group: Some(0) };
        let stamp = Stamp { producer_id: sent.id, epoch: sent.epoch, sequence: sent.first };
        self.window.restored(batch, stamp, self.rules.is_forgettable(self.newest(), WALL.0));
        self.undone.push_back(Cut { serial: self.serial, sent, group: Some(0) });
    }

    fn newest(&self) -> i64 {
        if self.scenario.old { -1 } else { WALL.0 }
    }

    pub(super) fn mode(&self) -> Mode {
        if self.window.asking.is_some() {
            Mode::Asking
        } else if self.window.divergence != Divergence::No {
            Mode::Apart
        } else if NOW < self.window.proven_until {
            Mode::Open
        } else {
            Mode::Solo
        }
    }

    /// The actions possible now.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.in_flight.is_empty() {
            use Action::{LoseAnswer, LoseRequest, NotNow, Process, Refuse};
            actions.extend([Process, LoseAnswer, NotNow, LoseRequest, Refuse]);
        } else if self.window.asking.is_some() {
            actions.extend([Action::Answer, Action::AnswerNotNow, Action::Silence]);
        }
        if self.durable < self.group {
            actions.push(Action::Sync);
        }
        if self.unloaded.is_some() && self.window.len() < 5 {
            actions.push(Action::Load);
        }
        if self.scenario.old && !self.forgotten && self.log.len() > 0 {
            actions.push(Action::Forget);
        }
        if self.scenario.truncates && !self.truncated && self.log.len() > 0 {
            actions.extend([Action::Truncate(0), Action::Truncate(self.log.len() - 1)]);
        }
        if self.scenario.recreates && !self.recreated && self.in_flight.is_empty() {
            actions.push(Action::Recreate);
            actions.extend(self.late.map(|_| Action::RecreateLate));
        }
        actions
    }

    pub(super) fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Process => self.answered(true, None)?,
            Action::LoseAnswer => {
                self.answered(true, Some(Verdict::Again { refresh: false, maybe_there: true }))?;
            }
            Action::NotNow => self.answered(false, Some(Verdict::Again { refresh: false, maybe_there: false }))?,
            Action::LoseRequest => {
                self.late = self.in_flight.front().map(|cut| cut.sent).filter(|_| self.scenario.recreates);
                self.answered(false, Some(Verdict::Again { refresh: false, maybe_there: true }))?;
            }
            Action::Refuse => self.answered(false, Some(Verdict::Refused(10)))?,
            Action::Answer => {
                let (own, first, mut lasts) = self.window.question().ok_or("it asks for nothing")?;
                lasts.extend(self.unloaded.map(|row| of_earlier(row).last).filter(|_| own == EARLIER));
                let says = self.log.says((own.id, own.epoch), first, &lasts, self.log_next);
                self.log_said(says)?;
            }
            Action::AnswerNotNow => self.log_said(LogSays::Again)?,
            Action::Silence => {
                self.silent = true;
                self.log_said(LogSays::CannotTell(WhyNot::Forbidden))?;
            }
            Action::Sync => self.durable = self.group,
            Action::Load => {
                if self.window.identity() == Some(EARLIER) || self.window.is_empty() {
                    let row = self.unloaded.take().ok_or("nothing is left to load")?;
                    self.restore(row);
                }
            }
            Action::Forget => {
                self.forgotten = true;
                self.log.forget();
            }
            Action::Truncate(to) => {
                self.truncated = true;
                self.log.truncate(to);
            }
            Action::Recreate | Action::RecreateLate => {
                self.recreated = true;
                (self.log, self.log_next) = (PartitionLog::default(), Some(0));
                if let Some(late) = self.late.take_if(|_| action == Action::RecreateLate) {
                    self.log.append(late);
                }
                if self.window.topic_changed() {
                    self.window.take_back(self.rules);
                }
            }
        }
        if self.window.is_to_resolve() {
            let resolution = self.window.resolve(ACKS, self.rules);
            self.carry_out(resolution)?;
        }
        self.turn()?;
        self.check()
    }

    /// Ends the oldest request. `verdict`: overrides the log's answer.
    fn answered(&mut self, processed: bool, verdict: Option<Verdict>) -> Result<(), String> {
        let Cut { serial, sent, .. } = self.in_flight.pop_front().ok_or("nothing is in flight")?;
        let said = processed.then(|| self.log.append(sent));
        let verdict = match (verdict, said) {
            (Some(verdict), _) => verdict,
            (None, Some(Said::Offset(offset))) => {
                self.note_offset(serial, offset);
                Verdict::Done
            }
            (None, Some(Said::OutOfOrder)) => Verdict::OutOfOrder,
            (None, Some(Said::Fenced) | None) => Verdict::NewEpoch,
        };
        let settled = self.window.answered(serial, verdict, (false, false), NOW, self.rules);
        self.settle(settled.unwrap_or(0..0))
    }

    /// Notes an offset as the producer does (`lost`).
    fn note_offset(&mut self, serial: u64, offset: i64) {
        let Some(place) = self.window.place_of(serial) else { return };
        if self.log_next.is_some_and(|next| offset < next) {
            self.window.diverged(place);
        }
        self.log_next = Some(offset + 2);
    }

    fn log_said(&mut self, says: LogSays) -> Result<(), String> {
        self.window.asked(1, NOW);
        let unloaded = self.unloaded.filter(|_| self.window.identity() == Some(EARLIER));
        let behind = matches!((says, unloaded),
            (LogSays::There { last_sequence }, Some(row)) if of_earlier(row).last == last_sequence);
        let resolution = self.window.log_said(says, behind, NOW, (ACKS, self.rules));
        self.carry_out(resolution)
    }

    fn carry_out(&mut self, resolution: Resolution) -> Result<(), String> {
        match resolution {
            Resolution::Nothing | Resolution::Again | Resolution::Ask | Resolution::AskAgain => {}
            Resolution::Settle(places) => self.settle(places)?,
            Resolution::Unknown(rows) => self.unknown += rows,
            Resolution::TakeBack(TakeBack { unknown, restored_too, .. }) => {
                self.unknown += unknown;
                self.take_back(restored_too);
            }
            Resolution::Reject(_) => {
                self.take_back_unloaded(false);
                let first = self.undone.pop_front().ok_or("nothing is left to reject")?;
                if self.log.copies(first.sent.row) > 0 && self.unknown == 0 {
                    return Err(format!("row {} is rejected, and in the log", first.sent.row));
                }
                self.rejected.push(first.sent.row);
                self.window.reject_oldest();
                self.take_back(false);
            }
        }
        Ok(())
    }

    fn take_back(&mut self, unknown: bool) {
        self.take_back_unloaded(unknown);
        let rows: Vec<u32> = self.undone.drain(..).map(|cut| cut.sent.row).collect();
        rows.into_iter().rev().for_each(|row| self.queue.push_front(row));
        self.window.take_back(self.rules);
    }

    fn take_back_unloaded(&mut self, unknown: bool) {
        if let Some(row) = self.unloaded.take_if(|_| unknown || !self.undone.is_empty()) {
            self.unknown += if unknown { 2 } else { 0 };
            self.queue.push_front(row);
        }
    }

    fn settle(&mut self, places: std::ops::Range<usize>) -> Result<(), String> {
        let in_order = !self.has_other_log();
        for cut in self.undone.drain(places) {
            let row = cut.sent.row;
            if self.log.copies(row) == 0 {
                return Err(format!("row {row} is called delivered, and is not in the log"));
            }
            if in_order && self.settled.iter().any(|other| *other > row) {
                return Err(format!("row {row} is called delivered after a younger one"));
            }
            self.settled.push(row);
        }
        Ok(())
    }

    /// Does everything that is due now.
    fn turn(&mut self) -> Result<(), String> {
        self.window.end_pause();
        while self.window.asking.is_none() {
            if self.queue.is_empty() {
                self.queue.push_back(self.next_row);
                self.next_row += 1;
            }
            let row = self.queue[0];
            let old = row < self.old_rows;
            let head = Head { newest: self.newest(), logged: self.scenario.logged, old };
            let terms = StepTerms {
                rules: self.rules,
                now: NOW,
                wall: WALL,
                acks: ACKS,
                identity: Some(OWN),
                max_inflight: self.scenario.max_inflight,
                durable: self.durable,
                restored: usize::from(self.unloaded.is_some()),
            };
            match self.window.step(Some(head), &terms) {
                None => break,
                Some(Step::Ask(why)) => self.window.ask(why),
                Some(Step::Cut) => self.cut(row, old)?,
                Some(Step::Send(place)) => self.send(place)?,
            }
        }
        Ok(())
    }

    fn cut(&mut self, row: u32, old: bool) -> Result<(), String> {
        self.queue.pop_front();
        let stamp = self.window.next_stamp(old, Some(OWN), ACKS, self.rules).ok_or("no identity")?;
        self.serial += 1;
        self.group += u64::from(self.scenario.logged);
        let (serial, group) = (self.serial, self.scenario.logged.then_some(self.group));
        let batch = NewBatch { serial, count: 2, newest: self.newest(), old, group };
        self.window.cut(batch, stamp, self.rules.is_forgettable(self.newest(), WALL.0));
        let Stamp { producer_id: id, epoch, sequence: first } = stamp;
        self.undone.push_back(Cut { serial, sent: Sent { id, epoch, first, last: first + 1, row }, group });
        if self.window.len() > 5 {
            return Err("more are undone than Kafka remembers".into());
        }
        Ok(())
    }

    fn send(&mut self, place: usize) -> Result<(), String> {
        let cut = self.undone[place].clone();
        if cut.group.is_some_and(|group| group > self.durable) {
            return Err(format!("row {} is sent before its cut is durable", cut.sent.row));
        }
        self.unknown += self.window.sent(place, VIA, WALL, self.rules).1;
        self.in_flight.push_back(cut);
        Ok(())
    }

    /// Whether the undone batches may go to another log than the settled ones.
    fn has_other_log(&self) -> bool {
        self.truncated || self.recreated
    }

    fn check(&self) -> Result<(), String> {
        if self.window.len() != self.undone.len() {
            return Err("the window has not what it should".into());
        }
        let twice = (0..self.next_row).filter(|row| self.log.copies(*row) > 1).count();
        if 2 * twice as u64 > self.unknown {
            return Err(format!("{twice} batches are there twice, {} rows were counted", self.unknown));
        }
        if self.unknown > 0 && !self.silent && !self.has_other_log() {
            return Err("rows were counted as unknown, and the log could have told".into());
        }
        if self.unknown == 0 && !self.has_other_log() && !self.log.is_in_order() {
            return Err("rows are out of order".into());
        }
        Ok(())
    }

    /// Continues without faults: all rows so far must soon be delivered or rejected.
    pub(super) fn heal(mut self) -> Result<(), String> {
        let rows = self.next_row;
        for _ in 0..60 {
            let over = |row: &u32| self.settled.contains(row) || self.rejected.contains(row);
            if (0..rows).all(|row| over(&row)) {
                return Ok(());
            }
            let good = [Action::Sync, Action::Load, Action::Answer, Action::Process];
            let actions = self.actions();
            let Some(action) = good.into_iter().find(|action| actions.contains(action)) else {
                return Err("nothing goes on".into());
            };
            self.act(action)?;
        }
        Err("it goes on for ever".into())
    }
}

/// A batch that an earlier process has sent.
fn of_earlier(row: u32) -> Sent {
    let first = 2 * i32::try_from(row).expect("a few rows");
    Sent { id: EARLIER.id, epoch: EARLIER.epoch, first, last: first + 1, row }
}
