//! Rows that rules feed. A rule is evaluated while room is asked for, and each of its outputs is rendered at once into the reservation's memory, as the
//! output is gone when the rows are written.

use smallvec::SmallVec;

use forebay_base::rules::Rules as Guarantees;
use forebay_broker::words::Wait;
use forebay_config::OnError;
use forebay_kafka::producer::Producer;
use forebay_kafka::types::SinkId;
use forebay_rule::column::Row as Output;
use forebay_rule::failure::{Clause, Code, Failure, Reason};
use forebay_rule::message::{Given as GivenFields, Id, Message as RuleMessage};
use forebay_rule::program::{self, Input};

use super::super::outlets::Outlets;
use super::super::rules::{Address, Outcome, RULE, RulePlan, Rules};
use super::super::sinks::{Message, Plan};
use super::super::words::Objection;
use super::beside::Turns;
use super::made::render;
use super::{Asking, Fed, RENDERED_KEPT, Republished, Reservation, Reserved, To, Told, Unreserved, Workspace};

/// The most rows that the rules of one message may make.
const ROWS_MAX: usize = 1_024;
/// The number of steps of a rule that cost as much as a packet.
const STEPS_A_PACKET: u64 = 64;
/// The most bytes that the rules of one message may render, including headers of the device.
pub(super) const RENDERED_MAX: usize = 8 << 20;
/// The most rows of one message of QoS 2 in a sink that keeps its packet identifier with each.
const ROWS_OF_EXCHANGE_MAX: usize = 64;

/// The room that the rows of rules for a message take of one sink.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    sink: u16,
    cluster: usize,
    is_spooled: bool,
    rows: usize,
    bytes: usize,
    /// The message with a row that the sink has refused, and which it keeps as a dead letter.
    letter_of: Option<u16>,
}

/// The room that the rows before another one take.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    /// Bytes of the sink's share of the memory.
    pub(super) share: usize,
    /// Bytes of the disk buffer.
    pub(super) spool: usize,
}

/// A message that rules are evaluated for.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) message: &'a Message<'a>,
    /// Numbers of the rules that match it.
    pub(super) matched: &'a [u16],
    /// The rules that it comes from.
    pub(super) ancestry: &'a [u16],
    /// Whether rows in the disk buffer have the packet identifier of the message that it all began with.
    pub(super) is_exchange: bool,
}

/// Numbers of rules that match a message.
pub(super) type Matched = SmallVec<[u16; 4]>;

/// The most room that the rows of a message may take together.
pub(super) struct Most<'a> {
    /// Memory, by cluster.
    memory: &'a [usize],
    /// Bytes of the disk buffer.
    spool: usize,
    guarantees: &'static dyn Guarantees,
}

/// The reason why no more room is asked for an output.
pub(super) enum Stop {
    /// The rule fails for the message.
    Failed(Failure),
    /// The reservation is decided: no destination gets the message, or nothing is reserved.
    Ended(Result<(), Unreserved>),
}

impl Reservation<'_> {
    /// Evaluates the rules that match the message, from an index in the matches on, and those that match messages made by them; and asks for room for their
    /// results. `waits`: the room that the message waits for already.
    #[inline(never)]
    pub(super) fn ask_rules(
        &mut self,
        from: usize,
        message: &Message<'_>,
        asking: &Asking<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Unreserved> {
        let Some(mut rules) = self.outlets.rules.take() else { return Ok(()) };
        self.outlets.workspace.is_ruled = true;
        let matched: Matched = self.outlets.workspace.matched[from..].into();
        let input = Given { message, matched: &matched, ancestry: &[], is_exchange: message.qos == 2 };
        let mut asked = self.evaluate(&mut rules, &input, asking, waits);
        if asked.is_ok() && !self.is_refused && self.has_republished() {
            asked = self.ask_republished(&mut rules, message, asking, waits);
        }
        self.outlets.rules = Some(rules);
        asked
    }

    /// Evaluates the rules that match a message, and asks for room for their results.
    pub(super) fn evaluate(
        &mut self,
        rules: &mut Rules,
        given: &Given<'_>,
        asking: &Asking<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Unreserved> {
        let Rules { plans, fed, arena, machine, guarantees, random, console, memory_max, spool_max, .. } = rules;
        let guarantees = *guarantees;
        let most = Most { memory: memory_max, spool: *spool_max, guarantees };
        let message = given.message;
        let address = asking.peer.map(Address::of);
        let of = RuleMessage {
            context: *message,
            id: Id::Number(random.u128(..)),
            peerhost: address.as_ref().map(Address::host),
            peername: address.as_ref().map(Address::whole),
            node: &machine.node,
            given: GivenFields::default(),
        };
        let around = machine.around(asking.wall.0, random.u64(..));
        let mut input = if given.ancestry.is_empty() {
            Input::new(&of, &around, arena)
        } else {
            Input::of_republished(&of, &around, arena)
        };
        let (mut mixed, mut steps) = (input.mixed_comparisons(), input.steps());
        // Rules beside the message do not apply to messages that rules make of it.
        let turns = Turns::new(asking.beside.filter(|_| given.ancestry.is_empty()), given.matched.len());
        for (place, number) in given.matched.iter().enumerate() {
            let number = number & !RULE;
            let defaults = turns.begin(place, &mut input);
            let Some(Some(rule)) = plans.get(usize::from(number)) else { continue };
            let mark = Mark::of(&self.outlets.workspace, *waits);
            let (mut stop, mut outputs, noted) = (None, 0, console.noted());
            let outcome = rule.program.evaluate(&mut input, |output| {
                outputs += 1;
                if rule.console {
                    console.note(number, output, asking.wall);
                }
                let row = Output::new(output).by_default(defaults);
                let of = Message { output: Some(&row), ..*message };
                let asked = rule.sinks.iter().try_for_each(|sink| {
                    let Some(Some(plan)) = fed.get(usize::from(*sink)) else { return Err(Stop::Failed(NO_SINK)) };
                    self.ask_row((*sink, plan), (&of, &row, given.is_exchange), (&most, asking.told), waits)
                });
                let asked = asked.and_then(|()| {
                    let each = &mut rule.republish.iter();
                    each.try_for_each(|made| self.republish((number, made), (&of, &row), (given, &most), waits))
                });
                asked.map_err(|why| match why {
                    Stop::Failed(failure) => failure,
                    Stop::Ended(ended) => {
                        stop = Some(ended);
                        ENDED
                    }
                })
            });
            let outcome = match outcome {
                _ if stop.is_some() => Outcome::Passed(outputs),
                Ok(program::Outcome::Passed(_)) => Outcome::Passed(outputs),
                Ok(program::Outcome::Filtered) => Outcome::Filtered,
                Err(failure) => {
                    *waits = mark.restore(&mut self.outlets.workspace);
                    console.forget_from(noted);
                    Outcome::Failed(failure)
                }
            };
            // A rule counts as a packet, and each of its rows as another, even if that ends the message's way here.
            let taken = input.steps();
            let cost = (taken - std::mem::replace(&mut steps, taken)) / STEPS_A_PACKET;
            self.outlets.workspace.cost += 1 + cost as u32 + outputs * rule.sinks.len() as u32;
            let compared = input.mixed_comparisons();
            self.outlets.workspace.outcomes.push((number, outcome, compared - std::mem::replace(&mut mixed, compared)));
            if let Some(ended) = stop {
                return ended;
            }
            if matches!(outcome, Outcome::Failed(_)) && !guarantees.may_skip(rule.on_error == OnError::Skip) {
                self.fail(number, rule, message, asking, waits)?;
            }
            if self.is_refused {
                break;
            }
        }
        Ok(())
    }

    /// Renders the row of an output, and asks for room for it.
    fn ask_row(
        &mut self,
        (sink, plan): (u16, &Plan),
        (of, output, is_exchange): (&Message<'_>, &Output<'_, '_>, bool),
        (most, told): (&Most<'_>, Told),
        waits: &mut Option<Wait>,
    ) -> Result<(), Stop> {
        let number = self.of;
        let work = &mut self.outlets.workspace;
        work.has_room_for_row()?;
        let rendered = render(plan, of, output.defaults(), work);
        if let Some(failure) = output.failure() {
            return Err(Stop::Failed(failure));
        }
        if work.rendered_bytes() > RENDERED_MAX {
            return Err(Stop::Failed(TOO_MUCH_RENDERED));
        }
        let (bytes, row) = match rendered {
            Ok((bytes, topic, made)) => {
                work.rows.push(made);
                (bytes, Ok((bytes, topic, work.rows.len() as u32 - 1)))
            }
            Err(objection) => (0, Err(objection)),
        };
        let (at, before) = self.sum_of((sink, plan.cluster, plan.sink));
        let sum = &self.outlets.workspace.sums[at];
        let has_letter = sum.letter_of == Some(number);
        self.add_row(at, bytes, most, is_exchange && plan.keeps_packet_ids)?;
        if has_letter && row.is_err() {
            // A single letter has the whole message.
            return Ok(());
        }
        let asked = self.ask(sink, of, told, before, Some(Fed { plan, row }));
        let (to, bytes, room) = asked.map_err(|why| Stop::Ended(Err(why)))?;
        let is_letter = matches!(to, To::DeadLetters(..));
        if is_letter && has_letter {
            return Ok(());
        }
        if is_letter {
            self.outlets.workspace.sums[at].letter_of = Some(number);
        }
        let beside = if matches!(to, To::Topic { .. }) { Producer::BATCH_ROOM } else { 0 };
        self.push(Reserved { sink, of: number, to, bytes: bytes + beside }, before.share + bytes, room, waits);
        if self.is_refused { Err(Stop::Ended(Ok(()))) } else { Ok(()) }
    }

    /// The index of the sum for a sink, and the room that the message takes of it so far.
    pub(super) fn sum_of(&mut self, (sink, cluster, number): (u16, usize, SinkId)) -> (usize, Before) {
        let is_spooled = self.logs.rows().is_some_and(|buffer| buffer.keeps(cluster, number));
        let work = &mut self.outlets.workspace;
        let found = work.sums.iter().position(|sum| sum.sink == sink);
        let at = found.unwrap_or_else(|| {
            let (rows, bytes, letter_of) = (0, 0, None);
            work.sums.push(Sum { sink, cluster, is_spooled, rows, bytes, letter_of });
            work.sums.len() - 1
        });
        (at, Before { share: work.sums[at].memory(), spool: work.spooled() })
    }

    /// Adds a row to the room that the message takes of a sink. `keeps_packet_id`: the row has the packet identifier of the message.
    pub(super) fn add_row(
        &mut self,
        at: usize,
        bytes: usize,
        most: &Most<'_>,
        keeps_packet_id: bool,
    ) -> Result<(), Stop> {
        let work = &mut self.outlets.workspace;
        let Sum { cluster, is_spooled, rows, .. } = work.sums[at];
        let memory: usize = work.sums.iter().filter(|sum| sum.cluster == cluster).map(Sum::memory).sum();
        let memory_max = most.memory.get(cluster).copied().unwrap_or(usize::MAX);
        let is_too_much =
            memory + bytes + Producer::BATCH_ROOM > memory_max || is_spooled && work.spooled() + bytes > most.spool;
        // A message's only row may be as large as any.
        if most.guarantees.is_too_much(is_too_much && work.sums.iter().any(|sum| sum.rows > 0)) {
            return Err(Stop::Failed(limit("the rules make more data of a message than its buffers take at a time")));
        }
        if keeps_packet_id && rows >= ROWS_OF_EXCHANGE_MAX {
            return Err(Stop::Failed(limit(
                "the rule makes more records of a message of QoS 2 than the disk buffer takes",
            )));
        }
        let sum = &mut work.sums[at];
        sum.rows += 1;
        sum.bytes += bytes;
        Ok(())
    }

    /// Asks for the place of a message for which a rule has failed.
    #[cold]
    fn fail(
        &mut self,
        number: u16,
        rule: &RulePlan,
        message: &Message<'_>,
        asking: &Asking<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Unreserved> {
        let alone = match rule.on_error {
            OnError::Reject if asking.told == Told::Code && !self.is_repeat => return Err(Unreserved::RuleFailed),
            OnError::Reject => !self.is_repeat,
            OnError::DeadLetter | OnError::Skip => false,
        };
        let Some(sink) = rule.letters else {
            // Without dead letters `"dead-letter"` is impossible; no other destination goes without the message for that.
            return if alone { Err(Unreserved::RuleFailed) } else { Ok(()) };
        };
        let outlets = &mut *self.outlets;
        let plan = &outlets.plans[usize::from(sink)];
        let Some(place) = plan.place(message) else { return Err(Unreserved::RuleFailed) };
        let room = place.room(&outlets.letters, &outlets.upstreams[plan.cluster].producer, sink);
        let goes_without = room.is_err() && plan.goes_without(message.qos);
        self.is_refused = alone;
        if goes_without {
            if alone {
                return Err(Unreserved::RuleFailed);
            }
            let to = To::Nowhere(forebay_metrics::spec::RefusalReason::NoRoom);
            self.push(Reserved { sink, of: self.of, to, bytes: 0 }, 0, Ok(()), waits);
            return Ok(());
        }
        let to = To::DeadLetters(Objection::RuleFailed(number), place);
        let bytes = place.bytes();
        self.push(Reserved { sink, of: self.of, to, bytes }, bytes, room, waits);
        Ok(())
    }
}

impl Sum {
    /// Memory of the cluster.
    const fn memory(&self) -> usize {
        self.bytes + self.rows * Producer::BATCH_ROOM
    }

    /// Bytes in the disk buffer.
    const fn spool(&self) -> usize {
        self.bytes + self.rows * forebay_buffer::ROW_COST as usize
    }
}

/// The contents of a reservation before a rule was evaluated.
struct Mark {
    sinks: usize,
    rows: usize,
    headers: usize,
    rendered: usize,
    republished: usize,
    looped: usize,
    needs: smallvec::SmallVec<[usize; 4]>,
    sums: smallvec::SmallVec<[Sum; 4]>,
    waits: Option<Wait>,
}

impl Mark {
    fn of(work: &Workspace, waits: Option<Wait>) -> Self {
        Self {
            sinks: work.sinks.len(),
            rows: work.rows.len(),
            headers: work.made_headers.len(),
            rendered: work.rendered.len(),
            republished: work.republished.len(),
            looped: work.looped.len(),
            needs: work.needs.iter().copied().collect(),
            sums: work.sums.iter().copied().collect(),
            waits,
        }
    }

    /// Takes back later additions: outputs of a rule that has failed do not count.
    fn restore(self, work: &mut Workspace) -> Option<Wait> {
        work.sinks.truncate(self.sinks);
        work.rows.truncate(self.rows);
        work.made_headers.truncate(self.headers);
        work.rendered.truncate(self.rendered);
        work.republished.truncate(self.republished);
        work.looped.truncate(self.looped);
        work.needs.clear();
        work.needs.extend(self.needs);
        work.sums.clear();
        work.sums.extend(self.sums);
        self.waits
    }
}

/// The end of an evaluation, which is no failure of the rule.
const ENDED: Failure = limit("ended");
/// A change of the configuration has taken a sink and left the rule, which does not happen.
const NO_SINK: Failure = limit("a sink of the rule is not there");

/// The memory of a message for what is rendered of it.
pub(super) const TOO_MUCH_RENDERED: Failure = limit("the rules make more data than a message may");

pub(super) const fn limit(what: &'static str) -> Failure {
    Failure {
        reason: Reason { code: Code::Limit, what, found: None },
        clause: Clause::Output,
        place: forebay_rule::sql::Place { start: 0, end: 0 },
    }
}

impl Workspace {
    /// Begins with a message other than the last one that rules were evaluated for.
    pub(super) fn forget_rows(&mut self) {
        if self.rendered.capacity() > RENDERED_KEPT {
            self.rendered.shrink_to(RENDERED_KEPT);
        }
        self.outcomes.clear();
        self.republished.clear();
        self.looped.clear();
        self.rows.clear();
        self.made_headers.clear();
        self.sums.clear();
    }

    /// Whether there may be one more row.
    pub(super) fn has_room_for_row(&self) -> Result<(), Stop> {
        let rows: usize = self.sums.iter().map(|sum| sum.rows).sum();
        let failure = limit("the rules make more records than a message may");
        if rows < ROWS_MAX { Ok(()) } else { Err(Stop::Failed(failure)) }
    }

    /// Bytes of all that was rendered for the message.
    pub(super) fn rendered_bytes(&self) -> usize {
        self.rendered.len() + self.republished.iter().map(Republished::bytes).sum::<usize>()
    }

    /// Bytes in the disk buffer.
    fn spooled(&self) -> usize {
        self.sums.iter().filter(|sum| sum.is_spooled).map(Sum::spool).sum()
    }
}

impl Outlets {
    /// Whether there are uncounted outcomes of rules.
    pub(crate) fn has_outcomes(&self) -> bool {
        !self.workspace.outcomes.is_empty()
    }

    /// The cost of rules since this was last asked, in packets.
    pub(crate) fn take_cost_of_rules(&mut self) -> u32 {
        std::mem::take(&mut self.workspace.cost)
    }
}
