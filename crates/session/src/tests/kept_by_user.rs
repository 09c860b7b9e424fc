//! The bound of kept sessions of a user, on all shards together.

use super::*;
use forebay_guard::auth::{Limits, Shares};

const BOUND: u32 = 2;

fn bounded(identity: Option<&str>, sessions: u32) -> Admission {
    let limits = Limits { sessions, ..Limits::default() };
    let settings = auth::Settings { limits, ..auth::Settings::new("a", &[Method::Anonymous]) };
    let policy = Arc::new(Policy::load(&settings).expect("it has no files"));
    Admission { identity: identity.map(Into::into), ..Admission::anonymous(policy) }
}

fn shard(shares: &Arc<Shares>) -> Shard {
    let mut shard = Shard { sessions: Sessions::sharing(Arc::clone(shares)), ..Shard::default() };
    shard.settings.session_expiry_3x_s = 1_000;
    shard.admission = Some(bounded(Some("ada"), BOUND));
    shard
}

/// Connects with a session that is kept, or not.
fn connects(shard: &mut Shard, client_id: &str, is_kept: bool) -> Result<Client, Violation> {
    let (conn, outcome) = shard.try_connect(&connect(Version::V311, client_id, !is_kept));
    let client = |connected: Connected| Client { key: connected.key, conn, session_present: connected.session_present };
    outcome.map(client).map_err(|refused| refused.violation)
}

#[test]
fn one_more_is_refused_whichever_shard_it_is_on() {
    let shares = Arc::default();
    let (mut one, mut other) = (shard(&shares), shard(&shares));
    let a = connects(&mut one, "a", true).expect("room");
    let b = connects(&mut other, "b", true).expect("room");
    for shard in [&mut one, &mut other] {
        assert_eq!(connects(shard, "c", true).err(), Some(Violation::SESSIONS_OF_USER));
        // A session that ends with its connection is not counted, nor are those of others.
        connects(shard, "c", false).expect("not kept");
        shard.admission = Some(bounded(Some("bob"), BOUND));
        connects(shard, &format!("bob-{}", shard.sessions.len()), true).expect("within the limit");
        shard.admission = Some(bounded(Some("ada"), BOUND));
    }
    // A client that reconnects needs no new place, whether it was connected or not; neither does one with Clean Start.
    one.end(a, End::Lost);
    for _ in 0..3 {
        let a = connects(&mut one, "a", true).expect("its own");
        one.end(a, End::Lost);
        assert_eq!(connects(&mut other, "c", true).err(), Some(Violation::SESSIONS_OF_USER));
    }
    // The place is given back with the session, however that ends.
    connects(&mut one, "a", false).expect("its own");
    let c = connects(&mut other, "c", true).expect("a is not kept any more");
    assert_eq!(connects(&mut one, "d", true).err(), Some(Violation::SESSIONS_OF_USER));
    other.end(c, End::Lost);
    other.pass(1_000 * S);
    connects(&mut one, "d", true).expect("c has expired");
    other.sessions.forget(b.key);
    other.end(b, End::Lost);
    connects(&mut one, "e", true).expect("b was forgotten");
    assert_eq!(connects(&mut other, "f", true).err(), Some(Violation::SESSIONS_OF_USER));
}

#[test]
fn a_session_that_another_user_takes_over_counts_for_that_one() {
    let shares = Arc::default();
    let mut shard = shard(&shares);
    for client_id in ["a", "b"] {
        let client = connects(&mut shard, client_id, true).expect("room");
        shard.end(client, End::Lost);
    }
    shard.admission = Some(bounded(Some("bob"), 1));
    connects(&mut shard, "a", true).expect("bob has none");
    assert_eq!(connects(&mut shard, "b", true).err(), Some(Violation::SESSIONS_OF_USER));
    assert!(
        shard.sessions.find(ClientKey { auth: Some("a"), client_id: "b" }).is_some(),
        "a CONNECT that is refused changes nothing"
    );
    shard.admission = Some(bounded(Some("ada"), BOUND));
    connects(&mut shard, "c", true).expect("a is bob's now");
    assert_eq!(connects(&mut shard, "d", true).err(), Some(Violation::SESSIONS_OF_USER));
}

/// When the process starts, and when a bound is set later: existing sessions count, and none is ended for it.
#[test]
fn sessions_that_are_there_already_are_counted() {
    let shares = Arc::default();
    let mut shard = shard(&shares);
    shard.admission = Some(bounded(Some("ada"), 0));
    for client_id in ["a", "b", "c"] {
        connects(&mut shard, client_id, true).expect("no bound");
    }
    let policy = bounded(None, BOUND).policy;
    shard.sessions.count_kept(|name| (name == "a").then_some(&policy));
    shard.sessions.count_kept(|name| (name == "a").then_some(&policy));
    shard.admission = Some(bounded(Some("ada"), BOUND));
    assert_eq!(connects(&mut shard, "d", true).err(), Some(Violation::SESSIONS_OF_USER));
    connects(&mut shard, "c", true).expect("its own");
    for client_id in ["a", "b"] {
        connects(&mut shard, client_id, false).expect("its own");
    }
    connects(&mut shard, "d", true).expect("two of three are not kept any more");
    assert_eq!(connects(&mut shard, "e", true).err(), Some(Violation::SESSIONS_OF_USER));
    // Without a bound nothing is counted any more.
    let unbounded = bounded(None, 0).policy;
    shard.sessions.count_kept(|_| Some(&unbounded));
    assert!(shares.keep(forebay_guard::auth::Owner::new("a", Some("ada"), ""), 1).is_some());
}
