//! The bytes of a kept session: decoding reverses encoding, and accepts no other bytes.

use super::*;
use crate::saved::{NotASession, Saved, bytes_max, client_id};
use forebay_mqtt::packet::SubscriptionOptions;
use forebay_runtime::seam::WallMs;
use proptest::prelude::*;

/// Text that MQTT takes in a CONNECT.
fn text(min: usize, max: usize) -> impl Strategy<Value = String> {
    let character = prop_oneof![8 => prop::char::range(' ', '~'), 1 => prop::char::range('à', 'ÿ')];
    prop::collection::vec(character, min..=max).prop_map(|characters| characters.into_iter().collect())
}

#[derive(Clone, Debug)]
struct Parts {
    version: Version,
    expiry_s: u32,
    client_id: String,
    username: Option<String>,
    auth: Option<String>,
    will: Option<(String, Vec<u8>, u8, bool, u32, String)>,
    subscriptions: Vec<(String, u8, u32)>,
    left: Option<WallMs>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let version = prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)];
    let topic = text(1, 30).prop_map(|topic| topic.replace(['+', '#', '$'], "_"));
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    let will = (topic, payload, 0_u8..3, any::<bool>(), any::<u32>(), text(0, 20));
    let auth = prop::option::of(text(1, 100));
    let filter = prop_oneof![text(1, 30).prop_map(|text| text.replace(['+', '#'], "_")), Just("a/+/#".to_owned())];
    let subscriptions = prop::collection::vec((filter, 0_u8..3, any::<u32>()), 0..4);
    let username = prop::option::of(text(0, 40));
    let left = prop::option::of(any::<i64>().prop_map(WallMs));
    (version, 1_u32.., text(1, 23), username, auth, prop::option::of(will), subscriptions, left).prop_map(
        |(version, expiry_s, client_id, username, auth, will, subscriptions, left)| Parts {
            left,
            subscriptions,
            version,
            expiry_s,
            client_id,
            username,
            auth,
            will,
        },
    )
}

/// The last subscription to each filter.
fn subscriptions(parts: &Parts) -> Vec<Subscription> {
    let mut all: Vec<Subscription> = Vec::new();
    for (filter, qos, identifier) in &parts.subscriptions {
        let options = SubscriptionOptions::from_byte(*qos | 0b100).expect("valid");
        let new = Subscription { filter: filter.as_str().into(), options, identifier: *identifier };
        match all.iter_mut().find(|known| known.filter == new.filter) {
            Some(known) => *known = new,
            None => all.push(new),
        }
    }
    all
}

/// The payload of these parts' session, and the session's own count of bytes.
fn saved(parts: &Parts) -> (Vec<u8>, usize) {
    let mut shard = Shard::default();
    shard.settings.session_expiry_3x_s = parts.expiry_s;
    shard.sessions.keep();
    shard.sessions.set_room(usize::MAX);
    shard.admission = parts.auth.as_deref().map(|auth| admission(auth, parts.username.as_deref()));
    let asked = properties(&[Property::SessionExpiryInterval(parts.expiry_s)]);
    let v5 = parts.version == Version::V5;
    let mut of_will = PropertyBuf::new();
    let will = parts.will.as_ref().map(|(topic, payload, qos, retain, delay, kind)| {
        if v5 {
            of_will.extend([Property::ContentType(kind), Property::WillDelayInterval(*delay)]);
            of_will.push(Property::UserProperty("k", kind));
        }
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(*qos)];
        Will { qos, retain: *retain, topic, payload, properties: of_will.as_properties() }
    });
    let c = shard.connect(&Connect {
        username: parts.username.as_deref(),
        will,
        properties: if v5 { asked.as_properties() } else { Properties::EMPTY },
        ..connect(parts.version, &parts.client_id, false)
    });
    for subscription in subscriptions(parts) {
        shard.sessions.subscribed(c.key, subscription);
    }
    shard.session(c).kept.as_mut().expect("it is kept").left = parts.left;
    let mut bytes = Vec::new();
    assert_eq!(shard.sessions.payload(c.key, |_| true, &mut bytes), Some(None));
    (bytes, shard.sessions.bytes())
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(parts in parts()) {
        let (bytes, held) = saved(&parts);
        prop_assert!(bytes.len() <= bytes_max(held), "{} of {held}", bytes.len());
        prop_assert_eq!(client_id(&bytes), Ok(&*parts.client_id));
        let Saved { auth, expiry_s, will_delay_s, connect, subscriptions: known, left } =
            Saved::decode(&bytes).expect("written here");
        prop_assert_eq!(left, parts.left);
        let mut by_filter = subscriptions(&parts);
        by_filter.sort_by(|one, other| one.filter.cmp(&other.filter));
        prop_assert_eq!(known, by_filter);
        prop_assert_eq!(auth, parts.auth.as_deref());
        prop_assert_eq!((expiry_s, connect.version), (parts.expiry_s, parts.version));
        prop_assert_eq!((connect.client_id, connect.username), (&*parts.client_id, parts.username.as_deref()));
        let Some((topic, payload, qos, retain, delay_s, kind)) = &parts.will else {
            prop_assert_eq!((connect.will, will_delay_s), (None, 0));
            return Ok(());
        };
        let will = connect.will.expect("there was one");
        prop_assert_eq!((will.topic, will.payload), (&**topic, &**payload));
        prop_assert_eq!((will.qos as u8, will.retain), (*qos, *retain));
        let v5 = parts.version == Version::V5;
        prop_assert_eq!(will_delay_s, if v5 { *delay_s } else { 0 });
        prop_assert_eq!(will.properties.content_type(), v5.then_some(&**kind));
        prop_assert_eq!(will.properties.will_delay_interval_s(), None, "it stands apart");
    }

    #[test]
    fn cut_short_or_longer_it_is_none(parts in parts(), cut in any::<prop::sample::Index>(), more in 1_usize..9) {
        let (bytes, _) = saved(&parts);
        prop_assert_eq!(client_id(&bytes[..cut.index(bytes.len())]), Err(NotASession::Damaged));
        let longer = [&*bytes, &vec![0; more]].concat();
        prop_assert_eq!(client_id(&longer), Err(NotASession::Damaged));
    }

    /// The log's checksums find damage. Here it may go unnoticed, but nothing may panic, and an accepted session has a name.
    #[test]
    fn damaged_bytes_do_no_harm(parts in parts(), at in any::<prop::sample::Index>(), with in 1_u8..) {
        let (mut bytes, _) = saved(&parts);
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        let mut sessions = Sessions::new();
        sessions.keep();
        if sessions.restore(1, &bytes, &[], &Settings::default(), Monotonic(0), |_, _| {}).is_ok() {
            prop_assert!(!client_id(&bytes).expect("the same").is_empty());
            sessions.expire(Monotonic::NEVER);
            while sessions.next_will().is_some() {}
        }
    }

    #[test]
    fn random_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..80), ours in any::<bool>()) {
        if let Some(first) = bytes.first_mut().filter(|_| ours) {
            *first = 1 + (*first & 3);
        }
        let _ = client_id(&bytes);
    }
}

#[test]
fn another_format_is_named() {
    assert_eq!(client_id(&[5, 0, 0]), Err(NotASession::Format(5)));
    assert_eq!(client_id(&[]), Err(NotASession::Damaged));
}
