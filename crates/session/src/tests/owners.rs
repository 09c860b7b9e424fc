//! A session belongs to the client that it was created for.

use super::*;
use ReasonCode as R;

const ADA: Option<&str> = Some("ada");
const BOB: Option<&str> = Some("bob");

fn shard() -> Shard {
    let mut shard = Shard::default();
    shard.settings.session_expiry_3x_s = 1_000;
    shard
}

fn kept(shard: &mut Shard, admission: Option<Admission>) -> Client {
    shard.admission = admission;
    shard.connect(&connect(Version::V311, "c", false))
}

/// X36: a session belongs to its identity.
#[test]
fn another_identity_inherits_nothing() {
    for (first, second, present) in [
        (Some(admission("a", ADA)), Some(admission("a", ADA)), true),
        (Some(admission("a", ADA)), Some(admission("a", BOB)), false),
        // A name means something within one `auth` only.
        (Some(admission("a", ADA)), Some(admission("b", ADA)), false),
        (Some(admission("a", ADA)), Some(admission("a", None)), false),
        (Some(admission("a", None)), Some(admission("a", None)), true),
        (Some(admission("a", ADA)), None, false),
        (None, None, true),
        (None, Some(admission("a", ADA)), false),
    ] {
        let said = format!("{first:?} {second:?}");
        let mut shard = shard();
        let before = kept(&mut shard, first);
        shard.sessions.disconnected(before.key, before.conn, End::Lost, shard.now);
        assert_eq!(kept(&mut shard, second).session_present, present, "{said}");
    }
}

/// X36: a session without an owner.
#[test]
fn what_is_from_before_any_identity_is_taken_up_by_the_first() {
    let mut shard = shard();
    shard.settings.adopts = true;
    let before = kept(&mut shard, None);
    shard.sessions.disconnected(before.key, before.conn, End::Lost, shard.now);
    let ada = kept(&mut shard, Some(admission("a", ADA)));
    assert!(ada.session_present);
    shard.sessions.disconnected(ada.key, ada.conn, End::Lost, shard.now);
    assert!(!kept(&mut shard, Some(admission("a", BOB))).session_present, "it is hers now");
}

/// X36: `foreign_takeover`.
#[test]
fn a_foreign_session_ends_with_its_will_or_stays_and_refuses() {
    let will = |name| Connect {
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "gone",
            payload: b"x",
            properties: Properties::EMPTY,
        }),
        ..connect(Version::V5, name, true)
    };
    let mut shard = shard();
    shard.admission = Some(admission("a", ADA));
    let ada = shard.connect(&will("c"));
    shard.admission = Some(admission_with("a", BOB, Takeover::Refuse));
    let (_, refused) = shard.try_connect(&connect(Version::V5, "c", false));
    assert_eq!(refused.expect_err("it is hers").violation.reason, R::NOT_AUTHORIZED);
    assert_eq!(shard.sessions.get(ada.key).and_then(Session::conn), Some(ada.conn));
    shard.admission = Some(admission("a", BOB));
    let bob = shard.connect(&connect(Version::V5, "c", false));
    assert!(!bob.session_present && shard.sessions.get(ada.key).is_none());
    let due = shard.sessions.next_will().expect("hers");
    assert_eq!((due.username.as_deref(), due.auth.as_deref()), (ADA, Some("a")));
}

/// X36: the owner is in the session's record.
#[test]
fn an_owner_survives_a_restart() {
    let mut before = shard();
    before.sessions.keep();
    before.sessions.set_room(1 << 20);
    let ada = kept(&mut before, Some(admission("a", ADA)));
    let mut payload = Vec::new();
    before.sessions.payload(ada.key, |_| true, &mut payload).expect("kept");
    for (who, present) in [(ADA, true), (BOB, false)] {
        let mut after = shard();
        let restored = after.sessions.restore(7, &payload, &[], &after.settings, after.now, |_, _| {});
        let session = after.sessions.get(restored.expect("whole").expect("kept")).expect("there");
        assert_eq!((session.username(), session.access().map(forebay_guard::auth::Access::auth)), (ADA, Some("a")));
        assert_eq!(kept(&mut after, Some(admission("a", who))).session_present, present);
    }
}

/// X37: the identity, not the packet's user name.
#[test]
fn an_identity_stands_in_the_place_of_the_user_name() {
    let mut shard = shard();
    shard.admission = Some(admission("a", ADA));
    let c = shard.connect(&Connect { username: Some("else"), ..connect(Version::V5, "c", true) });
    assert_eq!(shard.session(c).username(), ADA);
    shard.admission = Some(admission("a", None));
    let c = shard.connect(&Connect { username: Some("else"), ..connect(Version::V5, "d", true) });
    assert_eq!(shard.session(c).username(), None);
}

/// Finding S12: the key of a session is its `auth` and its client identifier.
#[test]
fn finding_s12_clients_of_another_auth_do_not_touch_a_session() {
    let spaces = [Some(admission("a", ADA)), Some(admission("b", ADA)), None];
    let mut shard = shard();
    let all: Vec<_> = spaces.iter().map(|space| kept(&mut shard, space.clone())).collect();
    for (client, space) in all.iter().zip(&spaces) {
        assert!(!client.session_present, "{space:?}");
        let session = shard.sessions.get(client.key).expect("it is there still");
        assert_eq!(session.conn(), Some(client.conn), "and connected");
    }
    assert_eq!(shard.sessions.find_all("c").count(), 3);
    for client in &all {
        shard.sessions.disconnected(client.key, client.conn, End::Lost, shard.now);
    }
    for (client, space) in all.iter().zip(&spaces) {
        let back = kept(&mut shard, space.clone());
        assert_eq!((back.session_present, back.key), (true, client.key), "each its own");
    }
    // A policy that refuses foreign clients refuses those of its own space.
    shard.admission = Some(admission_with("d", BOB, Takeover::Refuse));
    assert!(shard.try_connect(&connect(Version::V5, "c", false)).1.is_ok());
}

#[test]
fn finding_s12_each_of_two_stored_sessions_of_a_client_identifier_is_there_after_a_restart() {
    let mut after = shard();
    after.settings.adopts = true;
    let mut keys = Vec::new();
    for space in [Some(admission("a", ADA)), None] {
        let mut before = shard();
        before.sessions.keep();
        before.sessions.set_room(1 << 20);
        let client = kept(&mut before, space);
        let mut payload = Vec::new();
        before.sessions.payload(client.key, |_| true, &mut payload).expect("kept");
        let number = 7 + keys.len() as u64;
        let restored = after.sessions.restore(number, &payload, &[], &after.settings, after.now, |_, _| {});
        keys.push(restored.expect("whole").expect("kept"));
    }
    assert_eq!(after.sessions.len(), 2);
    let ada = kept(&mut after, Some(admission("a", ADA)));
    assert_eq!((ada.session_present, ada.key), (true, keys[0]), "her own");
    let other = kept(&mut after, Some(admission("b", BOB)));
    assert_eq!(
        (other.session_present, other.key),
        (true, keys[1]),
        "that without an owner, as every listener has an auth"
    );
}
