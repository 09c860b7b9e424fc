//! X36, X77: a session belongs to who made it, through kill -9 and power cuts at any time after its CONNACK, and before.

use forebay::auth::password::sha512_of;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, Version};
use forebay::runtime::seam::ConnId;

use super::world::World;

const NEW: [u8; 4] = [0x20, 2, 0, 0];
const PRESENT: [u8; 4] = [0x20, 2, 1, 0];

/// Two users, whose passwords are their names, and a log for sessions.
fn world(dir: &tempfile::TempDir) -> World {
    let file = dir.path().join("passwords");
    let line = |user: &str| format!("{user}:{}\n", sha512_of(user.as_bytes()).expect("random numbers"));
    std::fs::write(&file, line("ada") + &line("eve")).expect("written");
    let auth = "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'password'\n";
    let base = super::spooled("", "acknowledge = \"stored\"");
    World::new(&format!("{auth}password_file = '{}'\n{base}", file.display()))
}

/// A CONNECT of this user with the client ID of all of them; the session is kept.
fn connect(world: &mut World, user: &str) -> ConnId {
    let connect = Connect {
        clean_start: false,
        username: Some(user),
        password: Some(user.as_bytes()),
        ..crate::hello::hello(Version::V311, "c")
    };
    let mut bytes = Vec::new();
    encode::packet(Version::V311, &Packet::Connect(connect), &mut bytes).expect("encoded");
    let conn = world.accept();
    world.bytes(conn, &bytes);
    conn
}

/// The process ends as soon as there is a CONNACK: by kill -9, or with the power.
#[test]
fn a_session_has_its_owner_through_a_crash_behind_its_connack() {
    for (has_power, user, expected) in
        [(true, "ada", PRESENT), (true, "eve", NEW), (false, "ada", PRESENT), (false, "eve", NEW)]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = world(&dir);
        let conn = connect(&mut world, "ada");
        assert_eq!(world.sent(conn), NEW);
        if has_power {
            world.table.disk.kill();
            world.restart(None);
        } else {
            world.power_cut();
        }
        let conn = connect(&mut world, user);
        assert_eq!(world.sent(conn), expected, "{user}, power: {has_power}");
    }
}

/// The session is made, and its record is not on the disk: no client was told of it, and none inherits it.
#[test]
fn a_crash_between_the_session_and_its_connack_leaves_it_to_no_other_client() {
    for has_power in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = world(&dir);
        world.table.disk.slow = true;
        let conn = connect(&mut world, "ada");
        assert!(world.sent(conn).is_empty(), "a session that a crash would lose");
        if has_power {
            world.table.disk.kill();
            world.restart(None);
        } else {
            world.power_cut();
        }
        let conn = connect(&mut world, "eve");
        assert_eq!(world.sent(conn), NEW, "power: {has_power}");
        // And hers is hers from here on.
        let again = connect(&mut world, "ada");
        assert_eq!(world.sent(again), NEW);
        assert!(world.table.wire(conn).closed, "the same client ID");
    }
}
