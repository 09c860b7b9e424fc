//! The expected results of rules in SQL for each message, for `flow --ruled`: plain code for the rules of tests/faults/rules.py.
//!
//! - **Q1** a message is only where its rules put it.
//! - **Q2** the rows of one message are all of one form of a rule that is changed meanwhile.
//! - **Q3** a publisher that gets reason codes is told that a rule rejects its message.

use super::judge::{Record, Verdict};
use super::payload;
use super::plan::Plan;

/// A message, with the fields that rules see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) number: u64,
    pub(crate) topic: u32,
    /// Whether its publisher gets reason codes.
    pub(crate) is_told: bool,
}

impl Message {
    pub(crate) fn of(plan: &Plan, client: u32, number: u64) -> Self {
        let is_told = plan.is_v5(client) && plan.qos(client, number) > 0;
        Self { number, topic: plan.topic_number(client, number), is_told }
    }

    /// Whether the rule with `on_error = "reject"`, which is for one of two topics, fails for it.
    pub(crate) const fn is_rejected(&self) -> bool {
        self.topic == 1 && self.number % 7 == 3
    }
}

/// A part of the messages: Kafka topics that together have each message that is due there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// The suffixes of the topics after the first one's name; of the form `a` of the changing rule, then of its form `b`.
    pub(crate) topics: &'static [&'static str],
    pub(crate) is_due: fn(&Message) -> bool,
    /// Whether a message that is sent again after a crash has its letters written again.
    pub(crate) may_double: bool,
}

/// The part of a sink with filters, which match one of two topics; messages of the other one are in the parts of rules only.
pub(crate) const FIRST: &str = "filtered";

/// All parts.
pub(crate) const PARTS: [Part; 9] = [
    part(FIRST, &[""], |message| message.topic == 0),
    part("first 1", &["-first-a1", "-first-b1"], |message| !message.is_rejected()),
    part("first 2", &["-first-a2", "-first-b2"], |message| !message.is_rejected()),
    part("second 1", &["-second-a1", "-second-b1"], |message| !message.is_rejected()),
    part("second 2", &["-second-a2", "-second-b2"], |message| !message.is_rejected()),
    part("skip", &["-skip"], |message| !message.is_rejected() && !message.number.is_multiple_of(5)),
    part("letters", &["-letters"], |message| !message.is_rejected() && message.number % 5 != 1),
    Part { may_double: true, ..part("dead", &["-dead"], |message| !message.is_rejected() && message.number % 5 == 1) },
    Part { may_double: true, ..part("rejected", &["-rejected"], |message| message.is_rejected() && !message.is_told) },
];

const fn part(name: &'static str, topics: &'static [&'static str], is_due: fn(&Message) -> bool) -> Part {
    Part { name, topics, is_due, may_double: false }
}

/// The rows of a message in the parts of the changing rule, by part: its form `a`, its form `b`, more than one row.
type Seen = [u8; PARTS.len()];

const TWICE: u8 = 4;

/// The forms of the messages' rows.
pub(crate) struct Forms<'a> {
    plan: &'a Plan,
    /// The rows seen, by client and number.
    seen: Vec<Vec<Seen>>,
    scratch: Vec<u8>,
}

impl<'a> Forms<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self { plan, seen: vec![Vec::new(); plan.clients as usize], scratch: Vec::new() }
    }

    /// Takes a record of a part.
    pub(crate) fn record(&mut self, part: usize, record: &Record<'_>) {
        let read = payload::read(record.value, self.plan.run, self.plan.payload_bytes, &mut self.scratch);
        let Some((header, of)) =
            read.ok().and_then(|header| Some((header, self.seen.get_mut(header.client as usize)?)))
        else {
            return;
        };
        let number = header.number as usize;
        if of.len() <= number {
            of.resize(number + 1, Seen::default());
        }
        let seen = &mut of[number][part];
        *seen |= if *seen == 0 { 1 << record.log } else { TWICE };
    }

    /// Judges all messages that are once in each part of the changing rule.
    pub(crate) fn end(self, verdict: &mut Verdict) {
        let parts: Vec<usize> = (0..PARTS.len()).filter(|part| PARTS[*part].topics.len() == 2).collect();
        for (client, messages) in self.seen.iter().enumerate() {
            for (number, seen) in messages.iter().enumerate() {
                let forms: Vec<u8> = parts.iter().map(|part| seen[*part]).collect();
                if forms.iter().any(|form| *form == 0 || form & TWICE != 0) {
                    continue;
                }
                verdict.count(if forms[0] == 1 { "messages of form a" } else { "messages of form b" }, 1);
                if forms.iter().any(|form| *form != forms[0]) {
                    let text = || format!("client {client} message {number}: forms {forms:?}");
                    verdict.fault("Q2: half of a changed rule", text);
                }
            }
        }
    }
}
