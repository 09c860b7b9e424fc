//! The writing of a message's rows, after room was reserved.

use std::ops::Range;
use std::time::Duration;

use forebay_kafka::producer::row_log::Origin;
use forebay_kafka::producer::{Row, Target, Terms};
use forebay_kafka::types::Ticket;
use forebay_record::timestamp_at;
use forebay_runtime::seam::{Monotonic, WallMs};

use super::super::rules::Rules;
use super::super::sinks::Message;
use super::made::span;
use super::{Reservation, Reserved, To};

impl Reservation<'_> {
    /// Writes the message's rows, and those of rules for it. Returns the number of answers pending from sinks. `origin`: the publisher and its open packet
    /// identifier, which the rows in the spool carry.
    #[inline]
    pub(crate) fn take(
        mut self,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        origin: Option<Origin>,
        now: Monotonic,
        wall: WallMs,
    ) -> u16 {
        if self.outlets.workspace.is_ruled {
            return self.take_all(message, ticket, origin, (now, wall));
        }
        let all = 0..self.outlets.workspace.sinks.len();
        self.take_rows::<false>(all, message, ticket, origin, (now, wall))
    }

    /// Writes the rows of a message that are at these places. `RULED`: some may be of rules.
    #[inline]
    pub(super) fn take_rows<const RULED: bool>(
        &mut self,
        places: Range<usize>,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        origin: Option<Origin>,
        (now, wall): (Monotonic, WallMs),
    ) -> u16 {
        let mut expires = Monotonic::NEVER;
        if !message.properties.is_empty()
            && let Some(seconds) = message.properties.message_expiry_interval_s()
        {
            expires = now.after(Duration::from_secs(seconds.into()));
        }
        let (outlets, logs) = (&mut *self.outlets, &mut *self.logs);
        let work = &mut outlets.workspace;
        let outputs_owe = |rules: &Rules| rules.guarantees.waits_for_outputs();
        let outputs_owe = !RULED || outlets.rules.as_deref().is_none_or(outputs_owe);
        let timestamp = timestamp_at(wall, outlets.clock_set_after);
        let (mut owed, mut has_letters) = (0, false);
        for Reserved { sink, to, .. } in &work.sinks[places.clone()] {
            let plan = &outlets.plans[usize::from(*sink)];
            let To::Topic { asked, key, hash, is_spooled, made } = to else {
                match to {
                    To::Nowhere(why) => outlets.passed_over.push((*sink, *why)),
                    To::DeadLetters(..) | To::Topic { .. } => has_letters = true,
                }
                continue;
            };
            if *is_spooled && let Some(buffer) = logs.rows_mut() {
                buffer.promise(plan.cluster, plan.sink, asked.bytes);
            }
            let made = made.filter(|_| RULED).and_then(|row| work.rows.get(row as usize));
            let key = plan.key.as_ref().and_then(|of| key.bytes(of, message, &work.rendered));
            let (value, time) = match made {
                Some(made) => (made.value.map(|value| span(&work.rendered, value)), made.time),
                // Room was asked for the message: it can be rendered.
                None => {
                    let time = plan.time(message).ok().flatten();
                    (plan.value(message, &mut work.value).unwrap_or(Some(&[])), time)
                }
            };
            let timestamp = time.unwrap_or(timestamp);
            let topic = || {
                let topic = asked.topic.bytes(&plan.topic, message, &work.rendered).unwrap_or_default();
                std::str::from_utf8(topic).unwrap_or_default()
            };
            let topic = if asked.known.is_some() { "" } else { topic() };
            let target = Target { sink: plan.sink, topic, known: asked.known, hash: *hash };
            let origin = origin.filter(|_| plan.keeps_packet_ids);
            let terms = Terms { expires, hash: hash.filter(|_| plan.keeps_hash), origin };
            let owes = plan.owes_answer && (made.is_none() || outputs_owe);
            let owner = ticket.filter(|_| owes);
            let upstream = &mut outlets.upstreams[plan.cluster];
            let promise = &mut work.promises[plan.cluster];
            // The plan is compiled for rows without headers as well.
            if let Some(made) = made {
                outlets.headers_left_out[usize::from(*sink)] += made.left_out;
                let headers = made.headers(&work.made_headers, &work.rendered);
                let row = Row { key, value, headers, timestamp };
                upstream.producer.take(&target, row, owner, terms, (promise, now));
            } else if plan.is_bare(message) {
                let row = Row { key, value, headers: std::iter::empty(), timestamp };
                upstream.producer.take(&target, row, owner, terms, (promise, now));
            } else {
                work.headers.clear();
                let ranges = plan.render_headers(message, &mut work.headers);
                if ranges.left_out > 0 {
                    outlets.headers_left_out[usize::from(*sink)] += ranges.left_out;
                }
                let headers = plan.headers(message, &work.headers, &ranges);
                let row = Row { key, value, headers, timestamp };
                upstream.producer.take(&target, row, owner, terms, (promise, now));
            }
            upstream.busy = true;
            owed += u16::from(owes);
        }
        if has_letters { owed + self.write_off(places, message, ticket, (now, wall)) } else { owed }
    }

    /// Writes the message to the dead letters of the sinks that will never take it. Returns the number of answers pending for them.
    #[cold]
    fn write_off(
        &mut self,
        places: Range<usize>,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        (now, wall): (Monotonic, WallMs),
    ) -> u16 {
        let mut owed = 0;
        for place in places {
            let reserved = self.outlets.workspace.sinks[place];
            let Reserved { sink, to: To::DeadLetters(objection, to), .. } = reserved else { continue };
            let ticket = ticket.filter(|_| self.outlets.plans[usize::from(sink)].owes_answer);
            owed += self.outlets.write_off((sink, objection, to), message, ticket, (now, wall));
        }
        owed
    }
}
