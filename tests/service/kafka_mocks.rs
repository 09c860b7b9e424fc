//! Kafka-compatible services: the mock clusters of librdkafka. That of 2.0 knows Metadata 0 to 2 only; that of 2.16 has bytes behind the
//! end of an answer.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use forebay::mqtt::packet::Version;

use crate::device::Device;
use crate::process::metric;
use crate::support::service::{Service, config};
use crate::support::{python, run, tool};

/// A program with a mock cluster, which ends with its standard input.
struct Mock(Child);

impl Drop for Mock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, and the first line of what it says that has addresses behind this word.
fn start(mut program: Command, word: &str) -> (Mock, String) {
    let child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut mock = Mock(child.expect("it starts"));
    let said: Box<dyn std::io::Read + Send> = if word.is_empty() {
        Box::new(mock.0.stdout.take().expect("piped"))
    } else {
        Box::new(mock.0.stderr.take().expect("piped"))
    };
    let mut lines = BufReader::new(said).lines();
    let line = lines.find_map(|line| Some(line.expect("text").split_once(word)?.1.to_owned())).expect("its addresses");
    // Read to the end: the program must not block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (mock, line)
}

fn take_messages(bootstrap: &str) -> Service {
    let kafka = format!("[kafka.main]\nbootstrap = \"{bootstrap}\"\n");
    let sink = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
    let service = Service::start(&config(&format!("{kafka}{sink}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    for number in 1..=50 {
        device.deliver(number, "t", format!("message {number}").as_bytes());
    }
    let read =
        run(tool("kcat").args(["-b", bootstrap, "-C", "-t", "all", "-o", "beginning", "-e", "-q", "-f", "%s\\n"]));
    let mut got: Vec<_> = read.lines().map(str::to_owned).collect();
    got.sort();
    let mut sent: Vec<_> = (1..=50).map(|number| format!("message {number}")).collect();
    sent.sort();
    assert_eq!(got, sent);
    service
}

#[test]
fn the_mock_cluster_of_librdkafka_2_0() {
    let mut kcat = tool("kcat");
    kcat.args(["-P", "-t", "none", "-b", "none:1", "-X", "test.mock.num.brokers=2", "-d", "mock"]);
    let (_mock, bootstrap) = start(kcat, "bootstrap.servers=");
    let service = take_messages(&bootstrap);
    assert_eq!(metric(&service, "kafka_malformed_responses_total"), 0);
}

#[test]
fn the_mock_cluster_of_librdkafka_2_16() {
    let (_mock, bootstrap) = start(python("mock_cluster.py"), "");
    let service = take_messages(&bootstrap);
    assert_eq!(metric(&service, "kafka_malformed_responses_total"), 0);
    assert!(metric(&service, "kafka_responses_with_extra_bytes_total") > 0);
}
