//! An instance among others: passes the group's assignments to the shards, and the shards' reports to the group, of which the
//! first shard is a member.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::super::session_logs::Takers;
use super::stopping::SECOND_SIGNAL;
use super::{Event, Failure, Service, Signal};
use crate::membership::{Do, Leave, Leaving, News, OwnSlots, SlotSet};
use crate::runtime::boottime;
use crate::runtime::seam::Monotonic;
use crate::shard::mail::{Mail, Notice, TakenLog, ToGroup, ToSlots};

/// The membership of this instance among the others.
#[derive(Debug)]
pub(super) struct Part {
    takers: Takers,
    slots: OwnSlots,
}

impl Part {
    pub(super) const fn new(takers: Takers, shards: usize) -> Self {
        Self { takers, slots: OwnSlots::new(shards) }
    }

    /// Whether clients are accepted.
    pub(super) fn is_ready(&self) -> bool {
        self.slots.is_ready(boottime())
    }
}

impl Service {
    /// Takes news of the group of instances, or the outcome for a slot.
    ///
    /// # Errors
    /// The process is over, in words.
    pub(super) fn hear_of_slots(&mut self, notice: Notice) -> Result<(), Failure> {
        let Some(part) = &mut self.part else { return Ok(()) };
        let todo = match notice {
            Notice::Group(News::Fenced) => {
                let name = self.peers.name();
                return Err(format!(
                    "another process has joined the instances of the broker with the same name, {name:?}: each needs a name of its own (name in [broker])"
                ));
            }
            Notice::Group(news) => part.slots.hear(&news, boottime()),
            // A slot that cannot be taken up is waited for no longer.
            Notice::SlotTaken(slot) | Notice::SlotUnreadable(slot) => {
                part.slots.up(slot);
                Vec::new()
            }
            Notice::SlotReleased(slot) | Notice::SlotLost(slot) => part.slots.gone(slot).into_iter().collect(),
            _ => Vec::new(),
        };
        todo.into_iter().try_for_each(|one| self.carry_out(one, None))
    }

    /// Takes a log that a thread has taken over; `None`: the log is not wanted any more.
    ///
    /// # Errors
    /// A shard has ended.
    pub(super) fn take_log(&mut self, slot: u16, log: Option<TakenLog>) -> Result<(), Failure> {
        let todo = self.part.as_mut().and_then(|part| part.slots.taken(slot, log.is_some()));
        todo.map_or(Ok(()), |one| self.carry_out(one, log))
    }

    fn carry_out(&self, todo: Do, log: Option<TakenLog>) -> Result<(), Failure> {
        let Some(part) = &self.part else { return Ok(()) };
        match todo {
            Do::TakeOver(slot) => part.takers.take(slot, &self.config),
            Do::WantNoMore(slot) => part.takers.want_no_more(slot),
            Do::Give(_, shard) => return self.tell(shard, Mail::Slots(ToSlots::TakeOver(log.into_iter().collect()))),
            Do::Release(slot, shard) => return self.tell(shard, Mail::Slots(ToSlots::Release(slot))),
            Do::Drop(slot, shard) => return self.tell(shard, Mail::Slots(ToSlots::Drop(SlotSet::from_iter([slot])))),
            Do::Released(slot) => return self.tell(0, Mail::Group(ToGroup::Released(SlotSet::from_iter([slot])))),
        }
        Ok(())
    }

    /// Gives all slots to other instances, if there are any, and leaves their group. A lone instance keeps its membership until
    /// its session times out: it may be back by then.
    ///
    /// # Errors
    /// The process has to end at once, in words.
    pub(super) fn leave_instances(&mut self, grace: Duration) -> Result<(), Failure> {
        if self.part.is_none() || self.peers.table().instances.len() < 2 {
            return Ok(());
        }
        self.tell(0, Mail::Group(ToGroup::GiveUp))?;
        let mut leaving = Leaving::new(grace, boottime());
        while let Some(part) = &self.part {
            match leaving.step(&part.slots, boottime()) {
                Leave::Wait(until) => self.hears_of_slots(until)?,
                Leave::Leave => self.tell(0, Mail::Group(ToGroup::Leave))?,
                Leave::Over => break,
            }
        }
        Ok(())
    }

    /// Waits for an event about slots, at most until this time, and takes it.
    fn hears_of_slots(&mut self, until: Monotonic) -> Result<(), Failure> {
        loop {
            match self.heard.recv_timeout(until.since(boottime())) {
                Ok(Event::Shard(
                    notice @ (Notice::Group(_)
                    | Notice::SlotTaken(_)
                    | Notice::SlotUnreadable(_)
                    | Notice::SlotReleased(_)
                    | Notice::SlotLost(_)),
                )) => return self.hear_of_slots(notice),
                Ok(Event::Taken(slot, log)) => return self.take_log(slot, log),
                Ok(Event::Signal(Signal::Stop(_))) => {
                    return Err(SECOND_SIGNAL.into());
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}
