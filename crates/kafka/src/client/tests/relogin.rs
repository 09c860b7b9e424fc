//! Tests of logins that are renewed while requests are in flight (KIP-368), and of credentials that are replaced.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::login::{wants, with};
use super::world::{World, request, world_of};
use crate::client::Settings;
use crate::fake::sasl::PlainServer;
use crate::types::ClientEvent;
use forebay_guard::outward::{self, LinkId, News};
use forebay_guard::secure::sasl::Mechanism;
use forebay_guard::secure::{Authorities, Outgoing, OutgoingSettings};

/// TLS settings that are equal for equal names.
fn outgoing(name: &str) -> Arc<Outgoing> {
    let params = rcgen::CertificateParams::new([]).expect("names");
    // One CA for all: no certificate is verified here.
    static CA: OnceLock<String> = OnceLock::new();
    let ca = CA.get_or_init(|| {
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem()
    });
    let (ca, server_name) = (Authorities::Text(ca.clone()), Some(name.to_owned()));
    let settings = OutgoingSettings { ca, identity: None, server_name, is_name_checked: true };
    Arc::new(Outgoing::load(&settings).expect("it loads"))
}

fn world(lifetime_ms: i64) -> World {
    let world = world_of(with(Mechanism::Plain, "pw"));
    wants(world, || PlainServer { password: "pw", lifetime_ms }).up()
}

/// Keeps five requests in flight to a broker that takes 100 ms for each, for `time`; returns how many were answered.
fn load(world: &mut World, time: Duration) -> u64 {
    world.work = Duration::from_millis(100);
    let end = world.now.after(time);
    let (mut next, mut answered) = (1, 0);
    while world.now < end {
        while next - answered <= 5 {
            world.produce(request(next, 1, &[("b", 0)]));
            next += 1;
        }
        world.run(Duration::from_millis(20));
        for event in world.take_events() {
            match event {
                ClientEvent::Produced { id, .. } => {
                    answered += 1;
                    assert_eq!(id, answered, "in order");
                }
                ClientEvent::ProduceFailed { .. }
                | ClientEvent::Outward(News::LoginRefused(_))
                | ClientEvent::Outward(News::Reachable(false)) => {
                    panic!("{event:?}")
                }
                _ => {}
            }
        }
    }
    answered
}

/// The keys that each connection saw.
fn by_link(world: &World) -> BTreeMap<LinkId, Vec<i16>> {
    let mut links: BTreeMap<LinkId, Vec<i16>> = BTreeMap::new();
    world.asked.iter().for_each(|(link, key)| links.entry(*link).or_default().push(*key));
    links
}

/// X64: renewed at 85 to 95 % of the session's life.
#[test]
fn a_login_is_renewed_between_requests_and_nothing_fails() {
    let mut world = world(5_000);
    let answered = load(&mut world, Duration::from_secs(60));
    assert!(answered > 550, "{answered}");
    let links = by_link(&world);
    assert_eq!(links.len(), 2, "no connection was replaced: {links:?}");
    for keys in links.values() {
        let logins = keys.windows(2).filter(|pair| *pair == [17, 36]).count();
        assert!((12..=15).contains(&logins), "{logins} in a minute: {keys:?}");
        assert_eq!(keys.iter().filter(|key| **key == 17).count(), logins, "nothing comes in between");
    }
    assert_eq!((world.client.stats().failures, world.client.stats().replaced), (0, 0));
}

/// X64: five batches are in flight when the login is due. Kafka ends a connection on which anything arrives between SaslHandshake
/// and the last SaslAuthenticate, or after a login that is overdue.
#[test]
fn requests_in_flight_are_answered_first() {
    let mut world = world(5_000);
    world.work = Duration::from_millis(400);
    let (mut answered, mut seen) = (0, 0);
    for id in 1..=60 {
        world.produce(request(id, 1, &[("b", 0)]));
        world.run(Duration::from_millis(200));
        let came = world.take_events();
        answered += came.iter().filter(|event| matches!(event, ClientEvent::Produced { .. })).count();
        let handshakes: Vec<usize> = (seen..world.asked.len()).filter(|at| world.asked[*at].1 == 17).collect();
        for at in handshakes {
            let (link, _) = world.asked[at];
            let before = world.asked[..at].iter().filter(|(of, key)| (*of, *key) == (link, 0)).count();
            assert!(before <= answered, "{before} requests were sent before, {answered} are answered");
        }
        seen = world.asked.len();
    }
    assert!(answered >= 25 && world.client.stats().logins >= 4, "{answered} {:?}", world.client.stats());
}

/// X64: a login is never renewed twice within a second.
#[test]
fn never_twice_in_a_second() {
    for lifetime_ms in [1, 100, 900] {
        let mut world = world(lifetime_ms);
        world.run(Duration::from_secs(10));
        for keys in by_link(&world).values() {
            let logins = keys.iter().filter(|key| **key == 17).count();
            assert!((9..=11).contains(&logins), "{lifetime_ms}: {logins} in 10 s");
        }
    }
}

#[test]
fn a_login_without_an_end_is_not_renewed() {
    for lifetime_ms in [0, -1, i64::MAX] {
        let mut world = world(lifetime_ms);
        world.run(Duration::from_secs(24 * 3600));
        assert_eq!(world.client.stats().logins, 1, "{lifetime_ms}");
    }
}

/// X65: connections are replaced within a minute, one by one.
#[test]
fn connections_of_withdrawn_credentials_are_replaced_one_by_one() {
    let mut world = world(0);
    load(&mut world, Duration::from_secs(1));
    let before = by_link(&world).len();
    world.client.change(with(Mechanism::Plain, "another"), world.now);
    for node in [1, 2] {
        world.cluster.broker(node).sasl = Some(Box::new(PlainServer { password: "another", lifetime_ms: 0 }));
    }
    world.run(Duration::from_secs(1));
    world.take_events();
    let answered = {
        // Request ids continue.
        let mut answered = 0;
        for id in 1_000..1_600 {
            world.produce(request(id, 1, &[("b", 0)]));
            world.run(Duration::from_millis(110));
            for event in world.take_events() {
                assert!(
                    !matches!(event, ClientEvent::ProduceFailed { .. } | ClientEvent::Outward(News::Reachable(false))),
                    "{event:?}"
                );
                answered += usize::from(matches!(event, ClientEvent::Produced { .. }));
            }
        }
        answered
    };
    assert!(answered >= 598, "{answered}");
    assert_eq!(by_link(&world).len(), before + 2, "each was replaced once");
    assert_eq!((world.client.stats().failures, world.client.stats().logins_refused), (0, 0));
}

/// Settings with TLS that is equal for equal names.
fn by_tls(name: &str) -> Settings {
    let of = with(Mechanism::Plain, "pw");
    Settings { outward: outward::Settings { tls: Some(outgoing(name)), ..of.outward }, ..of }
}

/// Connections are replaced for other TLS, too, with and without a login; and not for a reload without changes.
#[test]
fn connections_made_with_other_certificates_are_replaced() {
    for sasl in [None, with(Mechanism::Plain, "pw").sasl] {
        let of = |host: &str| Settings { sasl: sasl.clone(), ..by_tls(host) };
        let mut world = world_of(of("a"));
        if sasl.is_some() {
            world = wants(world, || PlainServer { password: "pw", lifetime_ms: 0 });
        }
        let mut world = world.up();
        load(&mut world, Duration::from_secs(1));
        let before = by_link(&world).len();
        world.client.change(of("a"), world.now);
        world.run(Duration::from_secs(70));
        assert_eq!(by_link(&world).len(), before, "the same");
        world.client.change(of("b"), world.now);
        for id in 1_000..1_600 {
            world.produce(request(id, 1, &[("b", 0)]));
            world.run(Duration::from_millis(110));
        }
        let failed = |event: &ClientEvent| {
            matches!(event, ClientEvent::ProduceFailed { .. } | ClientEvent::Outward(News::Reachable(false)))
        };
        assert!(!world.take_events().iter().any(failed));
        assert_eq!(by_link(&world).len(), before + 2, "each was replaced once");
        assert_eq!(world.client.stats().failures, 0);
    }
}

/// TLS that fails is reported once, and retried with a backoff, as logins are; other settings reset it.
#[test]
fn tls_that_fails_is_told_once_and_tried_rarely() {
    let of = |host: &str| Settings { sasl: None, ..by_tls(host) };
    let mut world = world_of(of("a"));
    world.tls_fails = Some("no");
    world.client.start(world.now);
    world.run(Duration::from_secs(300));
    let told = |world: &mut World| {
        let events = world.take_events();
        events
            .into_iter()
            .filter(|event| matches!(event, ClientEvent::Outward(News::TlsFailed(..))))
            .collect::<Vec<_>>()
    };
    let events = told(&mut world);
    assert!(matches!(&events[..], [ClientEvent::Outward(News::TlsFailed(_, reason))] if reason == "no"), "{events:?}");
    let failures = world.client.stats().tls_failures;
    assert!((12..60).contains(&failures), "{failures}");
    world.tls_fails = Some("another reason");
    world.run(Duration::from_secs(60));
    let events = told(&mut world);
    assert!(
        matches!(&events[..], [ClientEvent::Outward(News::TlsFailed(_, reason))] if reason == "another reason"),
        "{events:?}"
    );
    let failures = world.client.stats().tls_failures;
    world.tls_fails = None;
    world.client.change(of("b"), world.now);
    world.run(Duration::from_secs(2));
    assert!(world.take_events().iter().any(|event| matches!(event, ClientEvent::Outward(News::Reachable(true)))));
    assert_eq!(world.client.stats().tls_failures, failures);
}

#[test]
fn a_renewal_that_is_refused_gives_back_what_waits() {
    let mut world = world(5_000);
    world.produce(request(1, 1, &[("b", 0)]));
    for node in [1, 2] {
        world.cluster.broker(node).sasl = Some(Box::new(PlainServer { password: "changed", lifetime_ms: 0 }));
    }
    world.work = Duration::from_millis(100);
    let mut produced = 1;
    let mut told = BTreeMap::new();
    for id in 2..200 {
        world.produce(request(id, 1, &[("b", 0)]));
        world.run(Duration::from_millis(50));
        for event in world.take_events() {
            match event {
                ClientEvent::Produced { .. } => produced += 1,
                ClientEvent::ProduceFailed { id, sent } => drop(told.insert(id, sent)),
                _ => {}
            }
        }
    }
    assert!(world.client.stats().logins_refused > 0);
    assert!(told.values().all(|sent| !sent), "nothing was on its way when the login was refused: {told:?}");
    assert!(produced > 40, "until then all went well: {produced}");
}
