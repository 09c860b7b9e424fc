//! A broker of others behind a WebSocket as the remote: aedes, plain and over TLS. It speaks 3.1.1 alone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};

use forebay::mqtt::packet::{PacketType, QoS, Version};

use crate::change::get;
use crate::device::{Device, Heard};
use crate::process::until;
use crate::support::certificates::certificates;
use crate::support::service::{Service, config};
use crate::support::{cache, root, temp_dir, tool};

/// An aedes, and what it has said.
struct Aedes {
    child: Child,
    publishes: ChildStdin,
    said: Arc<Mutex<Vec<String>>>,
}

impl Aedes {
    fn start(files: &[PathBuf]) -> Self {
        let folder = std::env::var_os("FOREBAY_NODE").unwrap_or_else(|| cache().join("node").into());
        let mut node = tool("node");
        node.env("FOREBAY_NODE", folder).arg(root().join("tests/node/aedes.mjs")).args(files);
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let (publishes, out) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                heard.lock().expect("whole").push(line);
            }
        });
        Self { child, publishes, said }
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().expect("whole").clone()
    }

    fn address(&self) -> SocketAddr {
        let mut found = None;
        until("aedes to listen", || {
            let said = self.said();
            found = said.iter().find_map(|line| line.strip_prefix("listening ")).and_then(|at| at.parse().ok());
            found.is_some()
        });
        found.expect("it listens")
    }

    fn publish(&mut self, topic: &str, qos: u8, payload: &str) {
        writeln!(self.publishes, "{topic} {qos} {payload}").expect("it reads");
    }
}

impl Drop for Aedes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Messages of each QoS go both ways, and each end says goodbye as a WebSocket does.
fn goes_both_ways(scheme: &str, dir: &Path) {
    let files: Vec<_> = if scheme == "wss" { vec![dir.join("server.pem"), dir.join("server.key")] } else { Vec::new() };
    let mut remote = Aedes::start(&files);
    let ca = if scheme == "wss" {
        format!("tls = {{ ca_file = \"{}\" }}\n", dir.join("ca.pem").display())
    } else {
        String::new()
    };
    let service = Service::start(&config(&format!(
        "[bridge.plant]\nurl = \"{scheme}://localhost:{}\"\nversion = \"auto\"\n{ca}\
         [[bridge.plant.in]]\nfilters = \"plant/#\"\nqos = 2\ntopic = \"in/${{topic}}\"\n\
         [[bridge.plant.out]]\nfilters = \"alarm/#\"\ntopic = \"site/${{topic}}\"\n",
        remote.address().port()
    )));
    until("the remote to grant the filter", || {
        get(&service, "bridges/plant")["in"][0]["filters"][0]["state"] == "granted"
    });
    assert_eq!(get(&service, "bridges/plant")["granted"]["protocol"], "3.1.1", "it has no 5.0");
    let mut here = Device::connect(service.mqtt(), Version::V311, "here");
    assert_eq!(here.subscribe(&[("in/#", QoS::AtMostOnce)]), [0]);
    for qos in 0..3 {
        remote.publish(&format!("plant/{qos}"), qos, "21");
        assert_eq!(here.hear(), Heard::Message(0, 0, format!("in/plant/{qos}"), b"21".to_vec()));
    }
    here.publish(QoS::AtMostOnce, 0, "alarm/0", b"hot");
    here.deliver(1, "alarm/1", b"hot");
    here.publish(QoS::ExactlyOnce, 2, "alarm/2", b"hot");
    assert_eq!(here.hear(), Heard::Answer(PacketType::PubRec, 2, 0));
    until("all of them to be there", || {
        (0..3).all(|qos| remote.said().contains(&format!("took site/alarm/{qos} {qos} hot")))
    });
    let shown = get(&service, "bridges/plant");
    assert_eq!((&shown["received"], &shown["connects"]), (&3.into(), &1.into()), "{shown:#}");
    drop(service);
    until("the remote to notice", || remote.said().iter().any(|line| line.starts_with("left forebay-plant-")));
    assert!(!remote.said().iter().any(|line| line.starts_with("error ")), "{:?}", remote.said());
}

/// [MQTT-6.0.0-3]
#[test]
fn a_bridge_to_aedes_over_a_websocket() {
    goes_both_ways("ws", temp_dir().path());
}

#[test]
fn a_bridge_to_aedes_over_a_websocket_and_tls() {
    let dir = temp_dir();
    certificates(dir.path());
    goes_both_ways("wss", dir.path());
}
