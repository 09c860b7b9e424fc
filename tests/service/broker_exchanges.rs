//! `[broker]`: publishers at QoS 2, and a service that is killed again and again. Each message is in its topic once.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use crate::broker::Names;
use crate::support::plain_python;
use crate::support::service::{Service, config_with};

const CLIENTS: usize = 8;
const MESSAGES: usize = 1_000;
const KILLS: u64 = 8;

#[test]
fn each_message_of_qos_2_is_in_kafka_once_though_the_service_is_killed() {
    let names = Names::new("exchanges");
    // The same one after each start.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let listener = format!("[[listener]]\nbind = \"127.0.0.1:{port}\"\ntransport = \"tcp\"\n");
    let mut service = Service::start(&config_with("shards = 2", &names.config(&listener)));
    let mut publishers = plain_python("exchanges.py");
    publishers.args([port.to_string(), CLIENTS.to_string(), MESSAGES.to_string()]);
    let mut publishers = publishers.stdout(Stdio::piped()).spawn().expect("it runs");
    let (mut kills, mut said) = (0, String::new());
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(700 + 230 * kill));
        if publishers.try_wait().expect("it can be asked").is_some() {
            break;
        }
        service.kill9();
        kills += 1;
        service.log().lines().filter(|line| !line.contains(" INFO ")).for_each(|line| said += &format!("{line}\n"));
        if kill % 2 == 1 {
            // The machine is lost with it.
            std::fs::remove_dir_all(service.dir().join("data")).expect("it was there");
        }
        service.start_again();
    }
    let output = publishers.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stdout.starts_with(b"done"), "{output:?}");
    assert!(kills > 1, "all was sent before anything was killed");
    let mut came: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for record in names.read(&names.messages) {
        let value = record.split('|').nth(1).expect("a value");
        let (client, message) = value.split_once(' ').expect("two numbers");
        came.entry(client.parse().expect("a number")).or_default().push(message.parse().expect("a number"));
    }
    for client in 0..CLIENTS {
        // Paho sends what it has queued after what comes while it connects.
        came.get_mut(&client).expect("it has published").sort_unstable();
        assert_eq!(
            came[&client],
            (0..MESSAGES).collect::<Vec<_>>(),
            "messages of client {client} after {kills} kills\n{said}"
        );
    }
}
