//! The client against hand-written servers.

use super::*;
use crate::flow::plan::{Weights, example};
use crate::flow::told::{ABANDONED, ANEW, ANSWERED, REFUSED, RESENT};

const MANNER: Manner = Manner { kept: true, keep_alive_s: 30, window: 4, per_write: 2, spooled: false, insist: false };

struct Scene {
    plan: Plan,
    client: Client,
    tally: Tally,
}

impl Scene {
    fn new(qos: &str, v5: bool) -> Self {
        let versions = Weights::parse(if v5 { "0:1" } else { "1:0" }, 2).unwrap();
        let qos = Weights::parse(qos, 3).unwrap();
        let plan = Plan { qos, versions, clients: 1, messages: 6, topics: 1, reconnect_every: 0, ..example() };
        let mut client = Client::new(0, &plan, MANNER);
        client.due = 6;
        Self { plan, client, tally: Tally::new().unwrap() }
    }

    fn connect(&mut self, connack: &[u8]) {
        self.client.down();
        self.client.greet(&self.plan, 0);
        assert_eq!(self.sent(), ["10"]);
        self.hear(connack).unwrap();
        assert_eq!(self.client.state, State::Open);
    }

    fn hear(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        // Byte by byte: the result does not depend on how a stream is cut.
        bytes.iter().try_for_each(|byte| self.client.hear(&[*byte], 2_000, &self.plan, &mut self.tally))
    }

    fn fill(&mut self) -> usize {
        self.client.fill(1_000, &self.plan, &mut self.tally)
    }

    /// First byte and packet id of the packets since the last call, in hex.
    fn sent(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.client.out);
        let (mut rest, mut found) = (&out[..], Vec::new());
        while let [first, tail @ ..] = rest {
            let (length, used) = match tail {
                [low, high, ..] if low & 0x80 != 0 => (usize::from(low & 0x7f) | usize::from(*high) << 7, 2),
                [low, ..] => (usize::from(*low), 1),
                [] => panic!("half a packet"),
            };
            let body = &tail[used..used + length];
            found.push(match first >> 4 {
                3 if first & 6 > 0 => {
                    let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                    format!("{first:02x} {}", u16::from_be_bytes([body[at], body[at + 1]]))
                }
                6 => format!("{first:02x} {}", u16::from_be_bytes([body[0], body[1]])),
                _ => format!("{first:02x}"),
            });
            rest = &tail[used + length..];
        }
        found
    }
}

#[test]
fn what_is_owed_is_sent_again_in_order_with_dup() {
    let mut scene = Scene::new("0:0:1", false);
    scene.connect(&[0x20, 2, 0, 0]);
    assert_eq!((scene.fill(), scene.fill(), scene.fill()), (2, 2, 0));
    assert_eq!(scene.sent(), ["34 1", "34 2", "34 3", "34 4"]);
    scene.hear(&[0x50, 2, 0, 2, 0x50, 2, 0, 1]).unwrap();
    assert_eq!(scene.sent(), ["62 2", "62 1"]);
    scene.hear(&[0x70, 2, 0, 1]).unwrap();
    scene.connect(&[0x20, 2, 1, 0]);
    // PUBLISH and PUBREL in the order of their first sending, then new messages.
    assert_eq!(scene.fill(), 3);
    assert_eq!(scene.sent(), ["3c 3", "3c 4", "62 2"]);
    assert_eq!((scene.fill(), scene.tally.publishes_again, scene.tally.releases_again), (0, 2, 1));
    assert_eq!(scene.client.told.marks, [ANSWERED, ANSWERED, RESENT, RESENT]);
}

#[test]
fn a_server_that_forgot_the_session_gets_nothing_again() {
    let mut scene = Scene::new("0:0:1", true);
    scene.connect(&[0x20, 3, 0, 0, 0]);
    scene.fill();
    scene.hear(&[0x50, 2, 0, 1]).unwrap();
    scene.connect(&[0x20, 3, 0, 0, 0]);
    assert_eq!((scene.client.told.forgotten, scene.tally.abandoned), (1, 1));
    assert_eq!(scene.client.told.marks, [ANSWERED, ABANDONED]);
    scene.fill();
    assert_eq!(scene.sent(), ["34 1", "34 2"], "no DUP: new messages");
}

#[test]
fn a_client_that_insists_sends_it_as_a_new_message() {
    let mut scene = Scene::new("0:0:1", true);
    scene.client.manner.insist = true;
    scene.connect(&[0x20, 3, 0, 0, 0]);
    scene.fill();
    scene.fill();
    scene.sent();
    scene.hear(&[0x50, 2, 0, 1, 0x70, 2, 0, 1, 0x50, 2, 0, 2]).unwrap();
    scene.connect(&[0x20, 3, 0, 0, 0]);
    scene.sent();
    scene.fill();
    // Ids 1 and 2 are free again: they are used for new messages.
    assert_eq!(scene.sent(), ["34 3", "34 4", "34 2", "34 1"], "no DUP; what was handed over is not sent again");
    assert_eq!(scene.client.told.marks[2..4], [RESENT | ANEW, RESENT | ANEW]);
    assert_eq!(scene.tally.settled, 2);
    scene.connect(&[0x20, 3, 1, 0, 0]);
    scene.sent();
    scene.fill();
    assert_eq!(scene.sent(), ["3c 3", "3c 4", "3c 2", "3c 1"], "once it was sent in this session, it is a repeat");
}

#[test]
fn what_connack_says_of_the_session_is_judged() {
    // Spooled, the service was restarted, session present; lost and claimed.
    for (spooled, anew, present, judged) in [
        (false, false, true, (0, 0)),
        (false, false, false, (1, 0)),
        (false, true, false, (0, 0)),
        (false, true, true, (0, 1)),
        (true, true, true, (0, 0)),
        (true, true, false, (1, 0)),
    ] {
        let mut scene = Scene::new("0:1:0", false);
        scene.client.manner.spooled = spooled;
        scene.connect(&[0x20, 2, 0, 0]);
        scene.client.generation += u32::from(anew);
        scene.connect(&[0x20, 2, u8::from(present), 0]);
        let told = &scene.client.told;
        assert_eq!((told.sessions_lost, told.sessions_claimed), judged, "{spooled} {anew} {present}");
    }
    // A CONNECT without an answer may have begun a session all the same.
    let mut scene = Scene::new("0:1:0", false);
    scene.connect(&[0x20, 2, 0, 0]);
    scene.client.generation = 1;
    scene.client.down();
    scene.client.greet(&scene.plan, 0);
    scene.sent();
    scene.connect(&[0x20, 2, 1, 0]);
    assert_eq!((scene.client.told.sessions_lost, scene.client.told.sessions_claimed), (0, 0));
}

#[test]
fn a_client_that_is_to_end_sends_nothing_new() {
    let mut scene = Scene::new("1:0:0", false);
    scene.connect(&[0x20, 2, 0, 0]);
    scene.fill();
    scene.client.end();
    scene.fill();
    assert_eq!(scene.sent(), ["30", "30", "c0"]);
}

#[test]
fn a_client_that_hears_nothing_asks() {
    let mut scene = Scene::new("0:1:0", false);
    scene.connect(&[0x20, 2, 0, 0]);
    let at = |seconds: u64| seconds * 1_000_000_000;
    scene.client.last_out_ns = at(15);
    scene.client.keep_alive(at(16), at(16), &mut scene.tally);
    assert_eq!((scene.client.pinged_ns(), scene.sent()), (None, Vec::new()));
    scene.client.keep_alive(at(16), at(1), &mut scene.tally);
    assert_eq!((scene.client.pinged_ns(), scene.sent()), (Some(at(16)), vec!["c0".to_owned()]));
    scene.hear(&[0xd0, 0]).unwrap();
    assert_eq!(scene.client.pinged_ns(), None);
}

#[test]
fn what_was_refused_is_not_sent_again() {
    let mut scene = Scene::new("0:1:0", true);
    scene.connect(&[0x20, 3, 0, 0, 0]);
    scene.fill();
    scene.sent();
    scene.hear(&[0x40, 3, 0, 1, 0x87, 0x40, 3, 0, 2, 0x10]).unwrap();
    assert_eq!(scene.client.told.marks, [REFUSED, ANSWERED]);
    assert_eq!((scene.tally.refused[&0x87], scene.tally.unmatched, scene.tally.settled), (1, 1, 2));
    scene.connect(&[0x20, 3, 1, 0, 0]);
    scene.fill();
    assert_eq!(scene.sent(), ["32 2", "32 1"]);
}

#[test]
fn receive_maximum_is_kept_also_when_sending_again() {
    let mut scene = Scene::new("0:1:0", true);
    scene.connect(&[0x20, 6, 0, 0, 3, 0x21, 0, 3]);
    scene.fill();
    scene.fill();
    assert_eq!(scene.sent(), ["32 1", "32 2"], "room for one more, and a write is two");
    scene.connect(&[0x20, 6, 1, 0, 3, 0x21, 0, 1]);
    assert_eq!((scene.fill(), scene.fill()), (1, 0));
    scene.hear(&[0x40, 2, 0, 1]).unwrap();
    assert_eq!(scene.fill(), 1);
    assert_eq!(scene.sent(), ["3a 1", "3a 2"]);
}

#[test]
fn the_end_is_a_ping_and_a_disconnect() {
    for (v5, farewell) in [(false, 2), (true, 9)] {
        let mut scene = Scene::new("1:0:0", v5);
        scene.connect(if v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] });
        while scene.client.state == State::Open {
            scene.fill();
        }
        assert_eq!(scene.sent(), ["30", "30", "30", "30", "30", "30", "c0"]);
        scene.hear(&[0xd0, 0]).unwrap();
        assert_eq!((scene.client.state, scene.client.out.len()), (State::Done, farewell));
        assert!(scene.client.told.is_whole());
    }
}

#[test]
fn answers_that_nobody_asked_for_are_violations() {
    for wrong in
        [&[0x40, 2, 0, 9][..], &[0x40, 2, 0, 1], &[0x70, 2, 0, 1], &[0x50, 2, 0, 0], &[0xd0, 0], &[0x20, 2, 0, 0]]
    {
        let mut scene = Scene::new("0:0:1", false);
        scene.connect(&[0x20, 2, 0, 0]);
        scene.fill();
        assert!(scene.hear(wrong).is_err(), "{wrong:02x?}");
    }
    // An answer belongs to the connection of its PUBLISH.
    let mut scene = Scene::new("0:1:0", false);
    scene.connect(&[0x20, 2, 0, 0]);
    scene.fill();
    scene.sent();
    scene.connect(&[0x20, 2, 1, 0]);
    assert!(scene.hear(&[0x40, 2, 0, 1]).is_err());
}
