//! Tests of channels with a protocol that sends nothing: each rule of the module, without sockets.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Channel, Connected, Effect, Ended, Endpoint, LinkId, LoginRefused, News, Refused, Settings, Shared};
use crate::secure::Outgoing;
use forebay_runtime::seam::{Closed, LayerError, LayerFault, Monotonic};

const START: Monotonic = Monotonic(1_000_000_000);
const MS: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct Mute {
    silences: u32,
    /// The time by which the peer has to answer.
    owed: Option<Monotonic>,
    is_moving: bool,
}

#[derive(Debug)]
struct Of(Settings);

impl AsRef<Settings> for Of {
    fn as_ref(&self) -> &Settings {
        &self.0
    }
}

impl Connected for Mute {
    type Settings = Of;
    type Owner = char;
    type Event = News;

    fn begin(_: LinkId, _: Option<Arc<Outgoing>>, silences: u32) -> Self {
        Self { silences, owed: None, is_moving: false }
    }
    fn deadline(&self) -> Monotonic {
        self.owed.unwrap_or(Monotonic::NEVER)
    }
    fn overdue(&self) -> &'static str {
        "not a word"
    }
    fn is_moving(&mut self, unacked: usize, _: Monotonic) -> bool {
        self.is_moving && unacked > 0
    }
    fn is_idle(&self) -> bool {
        self.owed.is_none()
    }
}

fn shared() -> Shared<Mute> {
    Shared::new(Of(Settings::default()), 7)
}

fn channel(owner: char, host: &str) -> Channel<Mute> {
    Channel::new(owner, Endpoint { host: Rc::from(host), port: 1 })
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 1))
}

/// The effects since the last call: `?` is a ticket, `+` a connection, `-` its end.
fn wanted(shared: &mut Shared<Mute>) -> Vec<String> {
    let told = |effect| match effect {
        Effect::Resolve { ticket, host, .. } => format!("?{ticket} {host}"),
        Effect::Prepare { ticket, .. } => format!("?{ticket}"),
        Effect::Connect { link, to, layer } => {
            format!("+{} {}{}", link.0, to.ip(), if layer.is_some() { " tls" } else { "" })
        }
        Effect::Close { link } => format!("-{}", link.0),
        Effect::Send { .. } => "bytes".to_owned(),
        Effect::Event(News::Reachable(yes)) => format!("reachable {yes}"),
        Effect::Event(News::BrokerReachable(broker)) => format!("{broker} again"),
        Effect::Event(News::TlsFailed(broker, reason)) => format!("tls {broker}: {reason}"),
        Effect::Event(News::LoginRefused(login)) => format!("login {}: {}", login.broker, login.reason),
    };
    std::mem::take(&mut shared.effects).into_iter().map(told).collect()
}

/// A connection to an address, with link 0.
fn up() -> (Channel<Mute>, Shared<Mute>) {
    let (mut channel, mut shared) = (channel('a', "10.0.0.1"), shared());
    channel.dial(&mut shared, START);
    assert!(channel.connected(LinkId(0)).is_some());
    channel.established(&mut shared);
    wanted(&mut shared);
    (channel, shared)
}

#[test]
fn addresses_are_tried_in_their_order_with_equal_parts_of_what_is_left() {
    let (mut channel, mut shared) = (channel('a', "host"), shared());
    channel.dial(&mut shared, START);
    assert_eq!(channel.deadline(), START.after(5000 * MS));
    let mut now = START.after(2000 * MS);
    channel.resolved(0, Ok(vec![address(3), address(1), address(2)]), &mut shared, now).expect("an address");
    // 3 s are left for three addresses; the second uses none of its second, so the third has two.
    assert_eq!(channel.deadline(), now.after(1000 * MS));
    now = channel.deadline();
    assert_eq!(channel.overdue(), "no connection in time");
    assert!(channel.next_address(&mut shared, now));
    assert_eq!(channel.deadline(), now.after(1000 * MS));
    assert!(channel.next_address(&mut shared, now));
    assert_eq!(channel.deadline(), now.after(2000 * MS));
    assert!(!channel.next_address(&mut shared, now), "no fourth one");
    assert_eq!(wanted(&mut shared), ["?0 host", "+0 10.0.0.3", "-0", "+1 10.0.0.1", "-1", "+2 10.0.0.2", "-2"]);
}

#[test]
fn a_literal_address_is_not_resolved() {
    let (mut channel, mut shared) = (channel('a', "10.0.0.9"), shared());
    channel.dial(&mut shared, START);
    assert_eq!(wanted(&mut shared), ["+0 10.0.0.9"]);
    assert_eq!(channel.deadline(), START.after(5000 * MS), "all of it for the only one");
}

#[test]
fn a_ticket_comes_back_once_and_only_to_the_attempt_that_it_was_for() {
    let (mut channel, mut shared) = (channel('a', "host"), shared());
    channel.dial(&mut shared, START);
    assert_eq!((shared.take_ticket(0), shared.take_ticket(0)), (Some('a'), None));
    channel.down(START, &mut shared);
    channel.dial(&mut shared, START);
    channel.down(START, &mut shared);
    assert_eq!(shared.take_ticket(1), None, "it was given up");
    channel.dial(&mut shared, START);
    for ticket in [0, 1] {
        assert_eq!(channel.resolved(ticket, Ok(vec![address(1)]), &mut shared, START), Ok(()));
        assert_eq!(channel.resolved(ticket, Err("no such name".to_owned()), &mut shared, START), Ok(()));
    }
    assert_eq!(wanted(&mut shared), ["?0 host", "?1 host", "?2 host"], "late answers");
    let why = channel.resolved(2, Ok(Vec::new()), &mut shared, START);
    assert_eq!(why, Err("the host name has no address".to_owned()));
    let why = channel.resolved(2, Err("no such name".to_owned()), &mut shared, START);
    assert_eq!(why, Err("no such name".to_owned()));
}

#[test]
fn what_was_asked_for_a_login_ends_with_its_connection() {
    let (mut channel, mut shared) = up();
    let task =
        crate::secure::sasl::Task::Token { from: crate::secure::sasl::TokenFrom::File("t".into()), is_refused: false };
    let others = shared.ask('b', |ticket| Effect::Prepare { ticket, task: task.clone() });
    let ticket = shared.ask('a', |ticket| Effect::Prepare { ticket, task });
    assert!(channel.fail(&mut shared, START).is_some());
    assert_eq!((shared.take_ticket(ticket), shared.take_ticket(others)), (None, Some('b')));
    assert_eq!(wanted(&mut shared)[2..], ["-0"]);
}

#[test]
fn a_link_that_was_given_up_or_is_gone_is_nobodys_and_is_closed_once() {
    let (mut first, mut shared) = up();
    let mut other = channel('b', "10.0.0.2");
    other.dial(&mut shared, START);
    assert_eq!((shared.owner(LinkId(0)), shared.owner(LinkId(1))), (Some('a'), Some('b')));
    assert!(other.connected(LinkId(0)).is_none(), "another one's");
    first.pause(&mut shared, START);
    assert_eq!(shared.owner(LinkId(0)), None);
    assert_eq!((shared.take_link(LinkId(1)), shared.take_link(LinkId(1))), (Some('b'), None));
    assert!(!other.next_address(&mut shared, START));
    assert_eq!(wanted(&mut shared), ["+1 10.0.0.2", "-0"]);
}

#[test]
fn failures_wait_ever_longer_up_to_the_bound_and_refusals_up_to_theirs() {
    let waits = |count: usize, refuse: fn(&mut Channel<Mute>, &mut Shared<Mute>)| {
        let (mut channel, mut shared) = (channel('a', "10.0.0.1"), shared());
        let mut waits = Vec::new();
        for _ in 0..count {
            refuse(&mut channel, &mut shared);
            channel.fail(&mut shared, START);
            assert!(channel.dial_at() > START);
            waits.push(channel.dial_at().since(START));
        }
        waits
    };
    let within = |waits: &[Duration], most: Duration| {
        let mut expected = 50 * MS;
        for wait in waits {
            assert!((expected.mul_f64(0.8)..=expected.mul_f64(1.2)).contains(wait), "{wait:?} for {expected:?}");
            expected = (expected * 2).min(most);
        }
    };
    within(&waits(40, |_, _| {}), 1000 * MS);
    within(&waits(40, |channel, shared| channel.tls_failed("no", shared)), 30_000 * MS);
    let (mut channel, mut shared) = up();
    for _ in 0..10 {
        channel.pause(&mut shared, START);
        assert!(channel.dial_at() <= START.after(60 * MS), "no failure");
    }
    channel.fail(&mut shared, START);
    channel.fail(&mut shared, START);
    channel.retry_at(START);
    assert!(channel.dial_at() <= START && channel.backoff.is_fresh());
}

#[test]
fn the_whole_attempt_has_one_deadline_and_a_connection_that_is_established_its_own() {
    let (mut channel, mut shared) = (channel('a', "10.0.0.1"), shared());
    channel.dial(&mut shared, START);
    channel.connected(LinkId(0)).expect("awaited").owed = Some(START.after(9000 * MS));
    assert!(channel.ready().is_none() && channel.ready_ref().is_none());
    let due = START.after(5000 * MS);
    assert_eq!((channel.deadline(), channel.overdue()), (due, "not a word"));
    channel.connection().expect("stands").is_moving = true;
    assert!(!channel.is_silent(|_| 1, &mut shared, START), "bytes move");
    assert!(channel.is_silent(|_| 1, &mut shared, due), "whatever moves");
    channel.established(&mut shared);
    assert_eq!(channel.deadline(), START.after(9000 * MS));
    assert!(!channel.is_idle());
    assert!(!channel.is_silent(|link| usize::from(link == LinkId(0)), &mut shared, channel.deadline()), "bytes move");
    assert!(channel.is_silent(|_| 0, &mut shared, channel.deadline()));
    assert_eq!((channel.silences, shared.stats.replaced), (2, 2));
    channel.fail(&mut shared, START);
    channel.dial(&mut shared, START);
    assert_eq!(channel.connected(LinkId(1)).map(|connection| connection.silences), Some(2), "to be more patient with");
    channel.works(&mut shared);
    assert_eq!(channel.silences, 0);
}

#[test]
fn a_connection_that_ends_without_a_failure_before_it_is_lost_by_chance() {
    let (mut channel, mut shared) = up();
    channel.ready().expect("established").owed = Some(START);
    assert!(channel.is_lost_by_chance(), "it was of use");
    channel.fail(&mut shared, START);
    assert!(!channel.is_lost_by_chance());
    channel.dial(&mut shared, START);
    channel.connected(LinkId(1)).expect("awaited").owed = Some(START);
    channel.established(&mut shared);
    assert!(!channel.is_lost_by_chance(), "a second one in a row");
    channel.ready().expect("established").owed = None;
    assert!(channel.is_lost_by_chance() && channel.is_idle(), "nothing was asked");
}

#[test]
fn a_row_of_failures_is_told_once_and_when_it_is_over() {
    let (mut channel, mut shared) = up();
    let login = |reason: &str| LoginRefused {
        broker: "10.0.0.1:1".to_owned(),
        user: String::new(),
        mechanism: "PLAIN",
        code: None,
        reason: reason.to_owned(),
    };
    channel.login_refused(login("first"), &mut shared);
    assert_eq!(channel.refused, Some(Refused::Login));
    channel.login_refused(login("second"), &mut shared);
    channel.tls_failed("no", &mut shared);
    channel.tls_failed("no", &mut shared);
    channel.tls_failed("neither", &mut shared);
    assert_eq!(channel.refused, Some(Refused::Tls));
    channel.works(&mut shared);
    channel.works(&mut shared);
    let told = ["login 10.0.0.1:1: first", "tls 10.0.0.1:1: no", "tls 10.0.0.1:1: neither", "10.0.0.1:1 again"];
    assert_eq!(wanted(&mut shared), told);
    assert_eq!((shared.stats.logins_refused, shared.stats.tls_failures), (2, 3));
    channel.fail(&mut shared, START);
    channel.dial(&mut shared, START);
    channel.connected(LinkId(1)).expect("awaited");
    channel.established(&mut shared);
    assert_eq!(channel.refused, None);
    channel.login_refused(login("third"), &mut shared);
    assert_eq!(wanted(&mut shared).last().expect("news"), "login 10.0.0.1:1: third");
}

#[test]
fn reachable_is_told_by_attempts() {
    let (mut first, mut shared) = (channel('a', "10.0.0.1"), shared());
    let mut other = channel('b', "10.0.0.2");
    shared.tell_unreachable();
    for (channel, link) in [(&mut first, 0), (&mut other, 1)] {
        channel.dial(&mut shared, START);
        channel.connected(LinkId(link)).expect("awaited");
        channel.established(&mut shared);
        channel.established(&mut shared);
    }
    first.fail(&mut shared, START);
    shared.tell_unreachable();
    assert!(shared.is_connected());
    assert_eq!(wanted(&mut shared), ["+0 10.0.0.1", "reachable true", "+1 10.0.0.2", "-0"]);
    other.pause(&mut shared, START);
    assert!(!shared.is_connected());
    assert_eq!(wanted(&mut shared), ["-1"], "no attempt has failed");
    shared.tell_unreachable();
    shared.tell_unreachable();
    assert_eq!(wanted(&mut shared), ["reachable false"]);
}

#[test]
fn a_handshake_that_is_cut_short_speaks_of_tls() {
    let reset = || Closed::Error(io::ErrorKind::ConnectionReset.into());
    let layer = Closed::Layer(LayerError { fault: LayerFault::Protocol, what: "no common version".into() });
    for (closed, in_handshake, expected) in [
        (Closed::Peer, true, format!("TLS: {}", Outgoing::HUNG_UP)),
        (reset(), true, format!("TLS: {}", Outgoing::HUNG_UP)),
        (layer, true, "TLS: no common version".to_owned()),
        (Closed::Peer, false, "closed by the broker".to_owned()),
        (reset(), false, io::Error::from(io::ErrorKind::ConnectionReset).to_string()),
        (
            Closed::Error(io::ErrorKind::ConnectionRefused.into()),
            true,
            io::Error::from(io::ErrorKind::ConnectionRefused).to_string(),
        ),
        (Closed::Local, true, "closed".to_owned()),
    ] {
        assert_eq!(Ended::of(&closed, in_handshake).to_string(), expected);
    }
}
