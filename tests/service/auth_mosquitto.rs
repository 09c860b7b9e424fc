//! mosquitto's files, verdict by verdict beside mosquitto itself: generated access control lists with publishes and deliveries, and
//! password files with right and wrong passwords.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use forebay::auth::acl::{Acl, Action, Client};
use forebay::auth::password::sha512_of;
use forebay::auth::{Claim, Judgement, Method, Policy, Settings};
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Sender, Version};
use forebay::mqtt::property::Properties;
use forebay::mqtt::{decode, encode, frame};

use crate::device::{PATIENCE, hello};
use crate::mosquitto::Mosquitto;
use crate::support::{temp_dir, tool};

/// Files of each kind. `scripts/test mosquitto` asks for 2,000.
fn files() -> u64 {
    std::env::var("FOREBAY_TEST_MOSQUITTO_FILES").map_or(25, |count| count.parse().expect("a number"))
}

/// A 5.0 client of it.
struct Peer {
    stream: TcpStream,
    heard: Vec<u8>,
}

/// What a client is told, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    ConnAck(u8),
    PubAck(u8),
    SubAck,
    Message(String),
    Closed,
}

impl Peer {
    fn connect(to: SocketAddr, client_id: &str, user: Option<(&str, &str)>) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_nodelay(true).expect("an option");
        let mut peer = Self { stream, heard: Vec::new() };
        let (username, password) = (user.map(|(name, _)| name), user.map(|(_, password)| password.as_bytes()));
        peer.say(&Packet::Connect(Connect { username, password, ..hello(Version::V5, client_id) }));
        (peer.hear() == Told::ConnAck(0)).then_some(peer)
    }

    fn say(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode::packet(Version::V5, packet, &mut bytes).expect("a packet that MQTT can say");
        self.stream.write_all(&bytes).expect("it reads");
    }

    fn hear(&mut self) -> Told {
        loop {
            if let Some(frame) = frame::next_for(Version::V5, Sender::Server, &self.heard, 1 << 20).expect("MQTT") {
                let len = frame.len;
                let told = match decode::decode(Version::V5, Sender::Server, frame).expect("MQTT") {
                    Packet::ConnAck(connack) => Told::ConnAck(connack.reason.0),
                    Packet::PubAck(ack) => Told::PubAck(ack.reason.0),
                    Packet::SubAck(_) => Told::SubAck,
                    Packet::Publish(publish) => Told::Message(publish.topic.to_owned()),
                    other => panic!("{other:?}"),
                };
                self.heard.drain(..len);
                return told;
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes).expect("in time") {
                0 => return Told::Closed,
                count => self.heard.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Whether a publish is granted.
    fn publish(&mut self, topic: &str) -> bool {
        const NOT_AUTHORIZED: u8 = 0x87;
        let payload = b"x";
        let qos = QoS::AtLeastOnce;
        let properties = Properties::EMPTY;
        self.say(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: 1,
            properties,
            payload,
        }));
        match self.hear() {
            Told::PubAck(code) => code != NOT_AUTHORIZED,
            other => panic!("{other:?}"),
        }
    }

    fn subscribe(&mut self, topics: &[String]) {
        for topic in topics {
            // One filter at QoS 0, in a packet of less than 128 bytes.
            let len = u8::try_from(topic.len()).expect("short");
            let packet = [&[0x82, len + 6, 0, 1, 0, 0, len][..], topic.as_bytes(), &[0]].concat();
            self.stream.write_all(&packet).expect("it reads");
            assert_eq!(self.hear(), Told::SubAck);
        }
    }
}

const LEVELS: [&str; 7] = ["a", "b", "", "ada", "bob", "c1", "c2"];

fn pick<'a>(random: &mut fastrand::Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(..of.len())]
}

fn topic(random: &mut fastrand::Rng) -> String {
    let levels: Vec<_> = (0..random.usize(1..4)).map(|_| pick(random, &LEVELS)).collect();
    let topic = levels.join("/");
    match topic.as_str() {
        "" => "a".to_owned(),
        _ if random.u8(..10) == 0 => format!("$own/{topic}"),
        _ => topic,
    }
}

fn filter(random: &mut fastrand::Rng, is_pattern: bool) -> String {
    let mut levels: Vec<_> = (0..random.usize(1..4))
        .map(|_| match random.u8(..10) {
            0..3 => "+",
            3 if is_pattern => "%c",
            4 if is_pattern => "%u",
            _ => pick(random, &LEVELS),
        })
        .collect();
    if random.bool() {
        levels.push("#");
    }
    // A filter that is empty, or only a word that could be an access, is a matter of its own.
    match levels.join("/").as_str() {
        "" => "+".to_owned(),
        own if random.u8(..10) == 0 => format!("$own/{own}"),
        other => other.to_owned(),
    }
}

fn rule(random: &mut fastrand::Rng, is_pattern: bool) -> String {
    let access = pick(random, &["", "read ", "write ", "readwrite ", "deny "]);
    format!("{} {access}{}\n", if is_pattern { "pattern" } else { "topic" }, filter(random, is_pattern))
}

/// A list, as people write them: rules for everyone, of users, and patterns, in any order.
fn list(random: &mut fastrand::Rng) -> String {
    let mut text = String::from("# generated\n");
    (0..random.usize(1..5)).for_each(|_| text.push_str(&rule(random, false)));
    for user in ["ada", "bob"] {
        if random.bool() {
            text.push_str(&format!("\nuser {user}\ntopic read end\n"));
            (0..random.usize(1..6)).for_each(|_| text.push_str(&rule(random, false)));
        }
        (0..random.usize(..3)).for_each(|_| text.push_str(&rule(random, true)));
    }
    // Rules for the client with a slash in its name at mosquitto, for the publisher, and for the topic that ends the run.
    text + "pattern readwrite own/%u/#\npattern read end\nuser root\ntopic readwrite #\ntopic readwrite $own/#\n"
}

/// The list for a client whose names contain `/`: with these put in, as mosquitto does it; without the patterns that have them, as we do.
fn with_names(text: &str, client: Client<'_>, are_put_in: bool) -> String {
    let of = [("%c", Some(client.client_id)), ("%u", client.identity)];
    let slashed: Vec<_> =
        of.into_iter().filter_map(|(of, name)| Some((of, name.filter(|name| name.contains('/'))?))).collect();
    let line = |line: &str| {
        let has_name = line.starts_with("pattern") && slashed.iter().any(|(of, _)| line.contains(of));
        let put_in = || slashed.iter().fold(line.to_owned(), |line, (of, name)| line.replace(of, name));
        if has_name { are_put_in.then(put_in) } else { Some(line.to_owned()) }
    };
    text.lines().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// X38: verdict by verdict beside mosquitto. Finding M5: but for patterns with names that contain `/`, which grant and deny nothing here.
#[test]
fn access_control_lists_mean_what_they_mean_to_mosquitto() {
    let dir = temp_dir();
    let users = [
        ("ada", "one"),
        ("bob", "two"),
        ("carol", "three"),
        ("root", "four"),
        ("+", "five"),
        ("a#", "six"),
        ("a/b", "seven"),
    ];
    let lines: Vec<_> = users
        .iter()
        .map(|(name, password)| format!("{name}:{}\n", sha512_of(password.as_bytes()).expect("random")))
        .collect();
    let (passwords, acl) = (dir.path().join("passwords"), dir.path().join("acl"));
    fs::write(&passwords, lines.concat()).expect("written");
    let (mut verdicts, mut differ) = ([0_u32; 2], 0);
    for seed in 0..files() {
        let mut random = fastrand::Rng::with_seed(seed);
        let text = list(&mut random);
        fs::write(&acl, &text).expect("written");
        let ours = Acl::parse(&text).unwrap_or_else(|why| panic!("seed {seed}: {why:?}\n{text}"));
        let (acl, passwords) = (acl.display(), passwords.display());
        let broker =
            Mosquitto::start(dir.path(), &format!("allow_anonymous true\nacl_file {acl}\npassword_file {passwords}"));
        let own = ["own/ada/x", "own/a/b/x"].map(str::to_owned);
        let topics: BTreeSet<_> = (0..20).map(|_| topic(&mut random)).chain(own).collect();
        let topics = Vec::from_iter(topics);
        let mut root = Peer::connect(broker.addr, "root", Some(("root", "four"))).expect("admitted");
        for user in
            [None, Some(0), Some(1), Some(2), Some(4), Some(5), Some(6)].map(|user| user.map(|at: usize| users[at]))
        {
            let client_id = pick(&mut random, &["c1", "c2", "b", "#c", "a/b", "c1/"]);
            let client = Client { identity: user.map(|(name, _)| name), client_id };
            let of = |are_put_in| Acl::parse(&with_names(&text, client, are_put_in)).expect("a list");
            let (theirs, without) = (of(true), of(false));
            let mut decide = |action, topic: &str| {
                let is_granted = ours.decide(client, action, topic).is_granted;
                assert_eq!(without.decide(client, action, topic).is_granted, is_granted, "{client:?} {topic}\n{text}");
                differ += u32::from(theirs.decide(client, action, topic).is_granted != is_granted);
                theirs.decide(client, action, topic).is_granted
            };
            let said = |topic: &str| format!("seed {seed}, {client:?}, {topic:?}:\n{text}");
            let mut peer = Peer::connect(broker.addr, client_id, user).unwrap_or_else(|| panic!("{}", said("")));
            for topic in &topics {
                let is_granted = decide(Action::Publish, topic);
                assert_eq!(peer.publish(topic), is_granted, "publish, {}", said(topic));
                verdicts[usize::from(is_granted)] += 1;
            }
            // mosquitto grants every subscription and withholds the messages.
            if !decide(Action::Receive, "end") {
                continue;
            }
            peer.subscribe(&topics);
            peer.subscribe(&["end".to_owned()]);
            topics.iter().for_each(|topic| assert!(root.publish(topic)));
            assert!(root.publish("end"));
            let mut delivered = BTreeSet::new();
            loop {
                match peer.hear() {
                    Told::Message(topic) if topic == "end" => break,
                    Told::Message(topic) => drop(delivered.insert(topic)),
                    other => panic!("{other:?}"),
                }
            }
            for topic in &topics {
                let is_granted = decide(Action::Receive, topic);
                assert_eq!(delivered.contains(topic), is_granted, "delivery, {}", said(topic));
                verdicts[usize::from(is_granted)] += 1;
            }
        }
    }
    let [denied, granted] = verdicts;
    assert!(denied.min(granted) > (denied + granted) / 10, "one-sided: {denied} denied, {granted} granted");
    assert!(differ > 0, "no pattern had a name with a slash that would have granted or denied anything");
}

fn password(random: &mut fastrand::Rng) -> String {
    let of: Vec<char> = "aZ09 :$#%\"'\\/äß€😀".chars().collect();
    (0..random.usize(1..20)).map(|_| of[random.usize(..of.len())]).collect()
}

fn admits(policy: &Arc<Policy>, name: &str, password: &str) -> bool {
    match policy.judge(Claim { username: Some(name), password: Some(password.as_bytes()), ..Claim::default() }) {
        Judgement::Admit(_) => true,
        Judgement::Refuse(_) => false,
        Judgement::Ask(question) => question.answer().is_ok(),
    }
}

/// X28: the same for password files.
#[test]
fn password_files_mean_what_they_mean_to_mosquitto() {
    let dir = temp_dir();
    let file = dir.path().join("passwords");
    for seed in 0..files().div_ceil(5) {
        let mut random = fastrand::Rng::with_seed(seed);
        let _ = fs::remove_file(&file);
        let users: Vec<(String, String)> =
            (0..4).map(|number| (format!("user {number}"), password(&mut random))).collect();
        for (number, (name, password)) in users.iter().enumerate() {
            if number == 3 {
                // One of ours.
                let line = format!("{name}:{}\n", sha512_of(password.as_bytes()).expect("random"));
                let text = fs::read_to_string(&file).expect("there");
                fs::write(&file, text + &line).expect("written");
                continue;
            }
            let mut command = tool("mosquitto_passwd");
            command.arg("-b").args((number == 0).then_some("-c")).args(["-H", ["sha512", "sha512-pbkdf2"][number % 2]]);
            let done = command.arg(&file).arg(name).arg(password).output().expect("it runs");
            assert!(done.status.success(), "{done:?}");
        }
        let settings = Settings { password_file: Some(file.clone()), ..Settings::new("a", &[Method::Password]) };
        let policy = Arc::new(Policy::load(&settings).expect("mosquitto's own file"));
        let broker = Mosquitto::start(dir.path(), &format!("allow_anonymous false\npassword_file {}", file.display()));
        for (name, right) in &users {
            let wrong = password(&mut random);
            for tried in [right, &wrong, &format!("{right} "), &right.to_uppercase()] {
                let theirs = Peer::connect(broker.addr, "c", Some((name, tried))).is_some();
                assert_eq!(admits(&policy, name, tried), theirs, "seed {seed}: {name:?} {tried:?} for {right:?}");
                assert!(tried != right || theirs, "seed {seed}: the right one");
            }
        }
        assert!(Peer::connect(broker.addr, "c", Some(("nobody", "x"))).is_none() && !admits(&policy, "nobody", "x"));
    }
}
