//! Conversion of records to messages, one after the other, as long as the turn has time and their receivers have room.

use std::sync::Arc;

use forebay_broker::delivery::{packet_bytes, publish_of};
use forebay_broker::given::{Retains, RouteRecord};

use super::super::mail::Place;
use super::dead_letters::{self, Unwritten};
use super::ends;
use super::offer::{Again, Made, Offer, Offered, Parks, enter_made, offer_again};
use super::reader::{Pause, Reader};
use super::ruled::with_rules;
use super::window::{Parked, Window};
use super::{Sources, Tried};
use crate::Core;
use crate::publishing::Publishing;
use crate::publishing::admit::SourceRecord;
use crate::ring::Ring;
use forebay_config::{Config, NoSubscriber, OnBadRecord};
use forebay_kafka::consumer;
use forebay_metrics::spec::SourceMetric as M;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_record::names::CLIENT_ID;
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_session::{Claimed, is_expired};
use forebay_source::{Message, Reason, Record, TimestampType};

impl Core {
    /// Takes up records. True: there were some.
    pub(super) fn read_records(&mut self, io: &mut Ring<'_>) -> bool {
        if self.sources.readers.is_empty() {
            return false;
        }
        let config = Arc::clone(&self.here.config);
        io.next_quantum();
        self.try_again(&config);
        let mut count = self.try_parked(io, &config);
        let Self { here, broker, outlets, sources, .. } = self;
        let mut to = Publishing { here, broker, outlets };
        count += usize::from(sources.end_expired(io, &mut to, &config));
        let clusters = sources.consumers.len();
        // Each cluster is the first in its turn. A few records are read however little time there is.
        sources.turn = sources.turn.wrapping_add(1);
        for place in 0..clusters {
            let cluster = (sources.turn + place) % clusters;
            sources.take_consumer_news(to.here, &config, cluster, io.now());
            if config.is_of_broker(cluster) {
                sources.step_routes(to.broker, to.here, &config, io.now());
            }
            while sources.read_record(io, &mut to, &config, cluster) {
                count += 1;
                if io.is_over_after(count) {
                    io.go_on();
                    return true;
                }
            }
        }
        count > 0
    }

    /// Resumes partitions that waited for room, and has messages without receivers tried again, if some may have one now.
    fn try_again(&mut self, config: &Config) {
        let now = Tried { freed: self.publishing().freed(), grown: self.broker.delivery.grown() };
        let sources = &mut self.sources;
        let before = std::mem::replace(&mut sources.tried, now);
        sources.resume_with_room(config, before.freed != now.freed);
        for reader in sources.readers.values_mut() {
            // A message may have been offered before the subscription that it waits for, and reported as unwanted after it.
            let unmet = reader.unmet.take().filter(|grown| *grown != now.grown);
            let has_grown = before.grown != now.grown || unmet.is_some();
            if has_grown && reader.is_parking() && !reader.is_stopping() {
                match reader.trying {
                    // Records before the next one may have a receiver, too: all are tried once more after this round.
                    Some(_) => reader.again = true,
                    None => reader.trying = reader.window.as_ref().map(Window::first),
                }
            }
        }
    }

    /// Tries parked messages again as far as the turn has time, and drops them when `start_grace` is over. Returns how many were handled.
    fn try_parked(&mut self, io: &mut Ring<'_>, config: &Config) -> usize {
        let Self { here, broker, outlets, sources, .. } = self;
        let mut to = Publishing { here, broker, outlets };
        let now = io.now();
        // Most readers have no parked messages: a turn costs only those that have.
        let may_have_work = |reader: &Reader| {
            let releases = config.sources[reader.source].release_after.is_some();
            reader.trying.is_some() || reader.is_parking() || releases
        };
        let some = sources.readers.iter().filter(|(_, reader)| may_have_work(reader));
        let mut ids: Vec<u32> = some.map(|(id, _)| *id).collect();
        // Each reader is the first in its turn.
        let first = sources.turn % ids.len().max(1);
        ids.rotate_left(first);
        let mut count = 0_usize;
        for id in ids {
            let Some(reader) = sources.readers.get(&id).filter(|reader| !reader.is_stopping()) else { continue };
            let of = &config.sources[reader.source];
            let is_over = sources.grace_over(config, reader).is_some_and(|over| over <= now);
            let Some(reader) = sources.readers.get_mut(&id) else { continue };
            let Some(window) = &mut reader.window else { continue };
            if let Some(after) = of.release_after {
                let before = Monotonic(now.0.saturating_sub(after.as_nanos() as u64));
                let released = window.release(before, to.here.rules);
                to.here.numbers.count_source(reader.source, M::Released, released);
                if released > 0 {
                    sources.report_at = sources.report_at.min(reader.report_at);
                    io.go_on();
                }
            }
            if is_over && window.parked() > 0 {
                reader.trying.get_or_insert(window.first());
            }
            while let Some(number) = reader.trying.and_then(|from| window.parked_from(from)) {
                if count > 0 && io.is_over_after(count) {
                    io.go_on();
                    return count;
                }
                count += 1;
                reader.trying = Some(Claimed::after(number));
                let Some((mut parked, since)) = window.unpark(number) else { continue };
                parked.grown = to.broker.delivery.grown();
                let claimed = Claimed { shard: to.here.index, reader: id, number };
                let waited_s = u32::try_from(now.since(since).as_secs()).unwrap_or(u32::MAX);
                let Some(publish) = publish_of(&parked.packet).filter(|publish| !is_expired(publish, waited_s)) else {
                    to.here.numbers.count_source(reader.source, M::Expired, 1);
                    window.owes(number, 0, None);
                    sources.report_at = sources.report_at.min(reader.report_at);
                    continue;
                };
                // Later subscribers get a retained message anyway.
                let if_unmet = to.here.rules.parks(of.no_subscriber == NoSubscriber::Wait) && !publish.retain;
                let parks = Parks { if_nobody: !is_over, if_unmet };
                let again = Again { source: of, publish: &publish, parked: &parked, claimed };
                match offer_again(io, &mut to, &again) {
                    Ok(offered) => {
                        if offered != Offered::Nobody {
                            window.is_had(number);
                        }
                        let counted = (&mut to.here.numbers, reader.source);
                        offered.enter(counted, (window, number), parks, || parked);
                        sources.report_at = sources.report_at.min(reader.report_at);
                    }
                    Err(_) => {
                        window.park(number, parked);
                        reader.trying = Some(number);
                        break;
                    }
                }
            }
            if reader.trying.is_some_and(|from| window.parked_from(from).is_none()) {
                reader.trying =
                    Some(window.first()).filter(|_| std::mem::take(&mut reader.again) && window.parked() > 0);
                if reader.trying.is_some() {
                    io.go_on();
                } else if reader.pause == Some(Pause::Room) {
                    reader.resumes(&mut sources.consumers[reader.cluster], id);
                }
            }
        }
        count
    }
}

impl Sources {
    /// Takes up the next record of a cluster. False: there is none, or no room for it.
    fn read_record(&mut self, io: &mut Ring<'_>, to: &mut Publishing<'_>, config: &Config, cluster: usize) -> bool {
        let (now, wall) = (io.now(), io.wall());
        let Self {
            consumers,
            readers,
            mappings,
            scratch,
            facts,
            opened_at,
            report_at,
            tried,
            memory,
            copied,
            ends,
            ..
        } = self;
        let consumer = &mut consumers[cluster];
        let Some(record) = consumer.peek() else { return false };
        let id = record.id;
        let Some(reader) = readers.get_mut(&id).filter(|reader| !reader.is_stopping()) else {
            consumer.advance();
            return true;
        };
        if reader.trying.is_some() || reader.is_parking() && to.broker.delivery.grown() != tried.grown {
            // Parked messages go first, also to new subscribers.
            reader.pauses(consumer, id, Pause::Room);
            if reader.trying.is_none() {
                reader.trying = reader.window.as_ref().map(Window::first);
                io.go_on();
            }
            return true;
        }
        let source = &config.sources[reader.source];
        let rules = to.here.rules;
        let waits = rules.parks(source.no_subscriber == NoSubscriber::Wait);
        let is_in_grace = opened_at.is_none_or(|at| now < at.after(source.start_grace));
        let parks = Parks { if_nobody: waits || is_in_grace, if_unmet: waits };
        let at = Place { offset: record.offset, leader_epoch: record.leader_epoch };
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let window = reader.window.get_or_insert_with(|| Window::new(at));
        let number = window.next_number();
        let claimed = Claimed { shard: to.here.index, reader: id, number };
        let about = (reader.source, &*reader.topic, reader.partition);
        let mapping = &mappings[reader.source];
        let of = mapped_record(&reader.topic, reader.partition, &record);
        let client = of.header(CLIENT_ID.as_bytes()).filter(|_| source.is_of_broker);
        let client = client.and_then(|client| std::str::from_utf8(client).ok());
        let of_route = reader.of_route.as_ref().map(|of| of.record(record.offset));
        let is_again = of_route.is_some_and(|of| of.is_again);
        match mapping.message(&of, wall, scratch) {
            Ok(message) => {
                let publish = publish(&message);
                let is_copied = |of: &RouteRecord| message.retain && copied.has(of.place, message.topic);
                let of_route = of_route.map(|of| match is_copied(&of) {
                    true => RouteRecord { retains: Retains::Nothing, ..of },
                    false => of,
                });
                let made_of = SourceRecord { claimed, client, of_route: of_route.as_ref() };
                let (time, grown) = (WallMs(record.timestamp), to.broker.delivery.grown());
                let encoded = mapping.encoded(&of);
                let offered = with_rules(to, reader.source, &encoded, (wall, facts), |to, beside| {
                    let beside = beside.filter(|_| !is_again);
                    let offer = Offer { source, publish: &publish, time, hops: message.hops, parks };
                    offer.make(io, to, beside, made_of)
                });
                let here = &mut *to.here;
                match offered {
                    Err(_) => {
                        reader.pauses(consumer, id, Pause::Room);
                        return true;
                    }
                    Ok((offered, made)) => {
                        let is_new = |of: &RouteRecord| message.retain && of.retains != Retains::Nothing;
                        if let Some(of) = of_route.filter(is_new) {
                            let (until, most) = (ends::until(&publish, config, now), config.retained.messages_max);
                            ends.note(message.topic, of.place, until, most);
                        }
                        let of_rules = made.iter().map(Made::bytes).sum::<usize>();
                        let held = bytes.max(packet_bytes(publish.topic, &publish)) + of_rules;
                        window.take_up(at, held, now);
                        memory.used += held;
                        enter_made(made, (&mut here.numbers, reader.source), (window, number));
                        let parked = || Parked::of(&publish, (time, message.hops), grown);
                        let parks = Parks { if_unmet: parks.if_unmet && !message.retain, ..parks };
                        // All receivers except new slots have had the record.
                        let offered = if is_again && offered == Offered::Nobody { Offered::NOTHING } else { offered };
                        offered.enter((&mut here.numbers, reader.source), (window, number), parks, parked);
                        here.numbers.count_source(reader.source, M::HeadersLeftOut, message.left_out.into());
                    }
                }
            }
            // The topic was just removed from the source: the partition will end soon.
            Err(Reason::Unmapped) => {
                reader.pauses(consumer, id, Pause::Room);
                return true;
            }
            Err(reason) => {
                let Publishing { here, outlets, .. } = to;
                let decides = reason.is_bad().then_some(source.on_bad_record);
                let written = match decides {
                    Some(OnBadRecord::Stop) => Err(Unwritten::Stops(reason.to_string())),
                    Some(OnBadRecord::DeadLetter) => {
                        dead_letters::write(outlets, config, (reader.source, claimed), (&of, reason), (now, wall))
                    }
                    Some(OnBadRecord::Skip) | None => Ok(()),
                };
                if written == Err(Unwritten::NoRoom) {
                    reader.pauses(consumer, id, Pause::Room);
                    return true;
                }
                let is_bad = Self::count_bad(&mut here.numbers, reader.source, reason);
                if let Err(Unwritten::Stops(why)) = written {
                    Self::tell_stopped(here, config, (about, at.offset), &why, now);
                    reader.stops_at_bad(consumer, id, (at.offset, &why));
                    return true;
                }
                if is_bad {
                    Self::tell_bad(here, config, (about, at.offset), reason, now);
                }
                window.take_up(at, bytes, now);
                match decides {
                    Some(OnBadRecord::DeadLetter) => window.becomes_dead_letter(number),
                    _ => window.owes(number, 0, None),
                }
            }
        }
        let here = &mut *to.here;
        here.numbers.count_source(reader.source, M::Records, 1);
        here.numbers.count_source(reader.source, M::Bytes, bytes as u64);
        *report_at = (*report_at).min(reader.report_at);
        let is_full = memory.is_full(window, source, rules);
        consumer.advance();
        if is_full {
            if window.waits_for_nothing() {
                Self::tell_waiting(here, config, (about, window.low(rules).offset), now);
            }
            reader.pauses(consumer, id, Pause::Window);
        }
        true
    }
}

/// A consumer's record in the form for templates.
pub(super) fn mapped_record<'a>(topic: &'a str, partition: i32, record: &consumer::Record<'a>) -> Record<'a> {
    Record {
        topic,
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        timestamp_type: match record.timestamp_type {
            consumer::TimestampType::Append => TimestampType::Append,
            consumer::TimestampType::Create | consumer::TimestampType::Undefined => TimestampType::Create,
        },
        key: record.key,
        value: record.value,
        headers: record.headers.clone(),
    }
}

pub(super) fn publish<'a>(message: &Message<'a>) -> Publish<'a> {
    let Message { topic, payload, qos, retain, properties, .. } = *message;
    Publish { dup: false, qos, retain, topic, packet_id: u16::from(qos > QoS::AtMostOnce), properties, payload }
}
