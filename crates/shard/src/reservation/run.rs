//! Another message of the run that the last message has begun: its rows go to the same places, if there is room.

use forebay_broker::logs::Logs;
use forebay_kafka::types::Ticket;
use forebay_runtime::seam::{Monotonic, WallMs};

use super::super::outlets::Outlets;
use super::super::sinks::Message;
use super::ask::has_room;
use super::{Reservation, To, Told};

impl Outlets {
    /// Asks the sinks of the last message for room for another one that differs from it in nothing that the places of its rows are made of
    /// ([`Reservation::is_settled`]), and writes its rows. Returns how many sinks owe an answer. `None`: nothing was taken, and the message has to be
    /// matched and asked about as any other.
    #[inline]
    pub(crate) fn take_again(
        &mut self,
        logs: &mut Logs,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        (now, wall): (Monotonic, WallMs),
    ) -> Option<u16> {
        debug_assert!(self.workspace.is_settled, "no other reservation came in between");
        let (is_refused, is_repeat, told) = (false, false, Told::Not);
        let mut reservation = Reservation { outlets: self, logs, is_refused, is_repeat, told, of: 0, before: 0 };
        let outlets = &mut *reservation.outlets;
        let work = &mut outlets.workspace;
        work.needs.resize(outlets.upstreams.len(), 0);
        let has_room = work.sinks.iter_mut().all(|reserved| {
            let plan = &outlets.plans[usize::from(reserved.sink)];
            let producer = &outlets.upstreams[plan.cluster].producer;
            let To::Topic { asked, hash, is_spooled, .. } = &mut reserved.to else { return false };
            let Ok(bytes) = plan.row_bytes_max(message) else { return false };
            let buffer = if *is_spooled { reservation.logs.rows() } else { None };
            (asked.bytes, reserved.bytes) = (bytes, bytes);
            work.needs[plan.cluster] += bytes;
            producer.may_take(plan.sink, bytes)
                && buffer.is_none_or(|buffer| buffer.admit(plan.cluster, plan.sink, bytes).is_ok())
                && has_room(producer, plan.sink, asked, *hash).is_ok()
        });
        if !has_room {
            return None;
        }
        for cluster in 0..reservation.outlets.workspace.needs.len() {
            let promise = reservation.promise(cluster)?;
            reservation.outlets.workspace.promises.push(promise);
        }
        let all = 0..reservation.outlets.workspace.sinks.len();
        Some(reservation.take_rows::<false>(all, message, ticket, None, (now, wall)))
    }
}
