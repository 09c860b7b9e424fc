//! Tests of logins: those that work, those that are refused, and servers that lie.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::settings::settings;
use super::world::{World, name, request, world_of};
use crate::client::Settings;
use crate::fake::sasl::{Lie, PlainServer, SaslServer, ScramServer};
use crate::types::ClientEvent;
use forebay_guard::outward::{LoginRefused, News};
use forebay_guard::secure::Secret;
use forebay_guard::secure::sasl::{Credentials, Mechanism, Task, TokenFrom};
use forebay_guard::secure::scram::Hash;

const PASSWORD: &str = "correct horse";

pub(super) fn credentials(mechanism: Mechanism, password: &str) -> Option<Arc<Credentials>> {
    let (user, password) = ("user".to_owned(), Secret::new(password.into()));
    Some(Arc::new(Credentials { mechanism, user, password, token: None, extensions: Vec::new() }))
}

pub(super) fn with(mechanism: Mechanism, password: &str) -> Settings {
    Settings { sasl: credentials(mechanism, password), ..settings() }
}

fn scram(password: &str) -> Settings {
    with(Mechanism::Scram(Hash::Sha512), password)
}

/// A cluster in which each broker requires such a login.
pub(super) fn wants<S: SaslServer + 'static>(mut world: World, server: impl Fn() -> S) -> World {
    for node in [1, 2] {
        world.cluster.broker(node).sasl = Some(Box::new(server()));
    }
    world
}

fn refusals(world: &World) -> Vec<&LoginRefused> {
    let refused = world.events.iter().filter_map(|event| match event {
        ClientEvent::Outward(News::LoginRefused(login)) => Some(login),
        _ => None,
    });
    refused.collect()
}

fn started(mut world: World) -> World {
    world.client.start(world.now);
    world.client.want_metadata(&name("a"), world.now);
    world.settle();
    world
}

fn keys(world: &World) -> Vec<i16> {
    world.asked.iter().map(|(_, key)| *key).collect()
}

/// X61: ApiVersions, the login, then requests.
#[test]
fn a_login_comes_before_everything_but_the_versions() {
    for piece in [usize::MAX, 7, 1] {
        let mut world = wants(world_of(scram(PASSWORD)), || ScramServer::new(PASSWORD, Lie::Nothing));
        world.piece = piece;
        let mut world = started(world);
        assert_eq!(keys(&world), [18, 17, 36, 36, 3]);
        assert!(matches!(world.events[0], ClientEvent::Outward(News::Reachable(true))), "{:?}", world.events);
        world.produce(request(1, 1, &[("b", 0)]));
        assert_eq!(keys(&world)[5..], [18, 17, 36, 36, 3, 0]);
        assert!(matches!(world.events.last(), Some(ClientEvent::Produced { id: 1, .. })), "{:?}", world.events);
        assert_eq!((world.client.stats().logins, world.client.stats().logins_refused), (2, 0));
        assert_eq!(world.prepared.len(), 2);
    }
}

/// X61: PLAIN on the wire.
#[test]
fn plain() {
    let world = started(wants(world_of(with(Mechanism::Plain, PASSWORD)), || PlainServer {
        password: PASSWORD,
        lifetime_ms: 0,
    }));
    assert_eq!(keys(&world), [18, 17, 36, 3]);
}

/// X61: SaslAuthenticate 0 to 2.
#[test]
fn every_version_that_brokers_speak() {
    for version in 0..=2 {
        let mut world = wants(world_of(scram(PASSWORD)), || ScramServer::new(PASSWORD, Lie::Nothing));
        world.cluster.broker(1).speaks.insert(36, (0, version));
        assert_eq!(keys(&started(world)), [18, 17, 36, 36, 3]);
    }
}

/// X62: nothing is sent to a server that does not prove itself, and it is not retried in a busy loop.
#[test]
fn a_server_that_lies_gets_no_request() {
    let lies = [
        (Lie::Signature, "does not prove"),
        (Lie::NoSignature, "no signature"),
        (Lie::Nonce, "nonce"),
        (Lie::Cut(0), "has no `r`"),
        (Lie::Cut(37), "has no `s`"),
        (Lie::Iterations(1), "iterations"),
        (Lie::Iterations(u32::MAX), "iterations"),
        (Lie::Refusal, "Invalid username or password (error 58)"),
        (Lie::AllIsWell, "has no `r`"),
    ];
    for (lie, why) in lies {
        let mut world = started(wants(world_of(scram(PASSWORD)), || ScramServer::new(PASSWORD, lie)));
        world.run(Duration::from_secs(300));
        assert!(keys(&world).iter().all(|key| [17, 18, 36].contains(key)), "{lie:?}: {:?}", keys(&world));
        let told = refusals(&world);
        assert_eq!(told.len(), 1, "{lie:?}: told once");
        assert!(told[0].reason.contains(why), "{lie:?}: {}", told[0].reason);
        assert_eq!((&*told[0].user, told[0].mechanism), ("user", "SCRAM-SHA-512"));
        let stats = world.client.stats();
        assert_eq!((stats.malformed, stats.logins), (0, 0), "{lie:?}");
        assert!((10..30).contains(&stats.logins_refused), "{lie:?}: {} in 5 minutes", stats.logins_refused);
        assert!(
            !world.events.iter().any(|event| matches!(event, ClientEvent::Outward(News::Reachable(true)))),
            "{lie:?}"
        );
    }
}

/// X65: a refused login is retried with backoff, and at once with a new secret.
#[test]
fn refused_logins_wait_longer_and_longer_and_a_new_password_holds_at_once() {
    let mut world = started(wants(world_of(scram("wrong")), || ScramServer::new(PASSWORD, Lie::Nothing)));
    world.run(Duration::from_secs(600));
    let times: Vec<u64> = world.connects().iter().map(|(at, _)| at.0 / 1_000_000).collect();
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.iter().max().is_some_and(|wait| (24_000..=36_000).contains(wait)), "{waits:?}");
    assert!(waits[0] < 100, "{waits:?}");
    assert_eq!(refusals(&world).len(), 1);
    world.client.change(scram(PASSWORD), world.now);
    world.run(Duration::from_millis(10));
    assert!(
        world.events.iter().any(|event| matches!(event, ClientEvent::Outward(News::Reachable(true)))),
        "{:?}",
        world.events
    );
    assert!(keys(&world).ends_with(&[3]));
}

/// A server that accepts a token at the third attempt.
#[derive(Debug)]
struct BearerServer(Rc<Cell<usize>>);

impl SaslServer for BearerServer {
    fn handshake(&mut self, mechanism: &str) -> i16 {
        if mechanism == "OAUTHBEARER" { 0 } else { 33 }
    }

    fn authenticate(&mut self, _: &[u8]) -> (i16, Option<String>, Vec<u8>, i64) {
        self.0.set(self.0.get() + 1);
        (if self.0.get() < 3 { 58 } else { 0 }, None, Vec::new(), 3_600_000)
    }
}

#[test]
fn a_login_after_one_that_was_refused_says_so() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "token").expect("written");
    let token = Some(TokenFrom::File(file.path().to_owned()));
    let (user, password) = (String::new(), Secret::new(Vec::new()));
    let of = Credentials { mechanism: Mechanism::OauthBearer, user, password, token, extensions: Vec::new() };
    let attempts = Rc::default();
    let world = world_of(Settings { sasl: Some(Arc::new(of)), ..settings() });
    let mut world = started(wants(world, || BearerServer(Rc::clone(&attempts))));
    // Two logins are refused, the third is accepted; it is renewed before its hour is over.
    world.run(Duration::from_secs(3_500));
    let of = |task: &Task| match task {
        Task::Token { is_refused, .. } => *is_refused,
        Task::Derive(_) => panic!("no password is there"),
    };
    assert_eq!(world.prepared.iter().map(of).collect::<Vec<_>>(), [false, true, true, false]);
}

#[test]
fn a_mechanism_that_is_not_there_a_listener_without_sasl_and_a_broker_that_knows_none() {
    let mechanism = Mechanism::Scram(Hash::Sha256);
    let said = |world: World| {
        let world = started(world);
        refusals(&world).first().map(|login| (login.code, login.reason.clone()))
    };
    let other = said(wants(world_of(with(mechanism, PASSWORD)), || ScramServer::new(PASSWORD, Lie::Nothing)));
    let (code, why) = other.expect("refused");
    assert!(code == Some(33) && why.contains("only PLAIN, SCRAM-SHA-512"), "{why}");
    let (code, why) = said(world_of(with(mechanism, PASSWORD))).expect("refused");
    assert!(code == Some(34) && why.contains("does not use SASL"), "{why}");
    for key in [17, 36] {
        let mut world = wants(world_of(scram(PASSWORD)), || ScramServer::new(PASSWORD, Lie::Nothing));
        world.cluster.broker(1).speaks.remove(&key);
        let world = started(world);
        assert!(!keys(&world).contains(&3));
        assert!(world.client.stats().failures > 0);
    }
}

#[test]
fn what_is_never_prepared_is_not_waited_for_for_ever() {
    let mut world = wants(world_of(scram(PASSWORD)), || ScramServer::new(PASSWORD, Lie::Nothing));
    world.helper_hangs = true;
    let mut world = started(world);
    world.run(Duration::from_secs(20));
    assert!(world.connects().len() > 2, "{:?}", world.connects());
    world.helper_hangs = false;
    world.run(Duration::from_secs(10));
    assert!(keys(&world).ends_with(&[3]));
}

/// X70: `Debug` text may accidentally end up in logs.
#[test]
fn nothing_shows_the_password() {
    let mut world = wants(world_of(scram(PASSWORD)), || ScramServer::new("another", Lie::Nothing));
    world.helper_hangs = true;
    let world = started(world);
    let shown = format!("{:?} {:?} {:?}", world.client, world.events, scram(PASSWORD));
    assert!(!shown.contains(PASSWORD) && shown.contains("***"), "{shown}");
}
