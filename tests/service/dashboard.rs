//! What `deploy/` ships for Prometheus and Grafana, tried against a running service.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};

use forebay::mqtt::packet::Version;
use serde_json::Value;

use crate::device::Device;
use crate::process::until;
use crate::support::certificates::{certificates, listener};
use crate::support::service::{Service, config, http};
use crate::support::{root, run, temp_dir, tool};

/// A Prometheus that scrapes one service every quarter of a second.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let dir = temp_dir();
        let file = dir.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\nscrape_configs:\n  - job_name: forebay\n    static_configs:\n      - targets: ['{target}']\n"
        );
        std::fs::write(&file, text).expect("the configuration can be written");
        // Nothing else takes a port that the kernel has just given out.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let child = tool("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus can be started");
        Self { child, address, _dir: dir }
    }

    /// How many series an expression gives now; `None`: no answer, or it is no expression.
    fn series(&self, expression: &str) -> Option<usize> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={escaped}");
        let (_, body) = http(self.address, "GET", &path, "Accept: application/json", "").ok()?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        (answer["status"] == "success").then(|| answer["data"]["result"].as_array().map(Vec::len))?
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Every expression of the dashboard, with its variables filled in.
fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deploy/grafana/forebay.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let filled = |target: &Value| {
        let text = target["expr"].as_str().expect("an expression");
        let text = text.replace("$__rate_interval", "10s").replace("$job", ".*").replace("$instance", ".*");
        assert!(!text.contains('$'), "a variable that is not filled in: {text}");
        text
    };
    targets.map(filled).collect()
}

/// A binding of Dapr, whose remote is not there.
const COMPONENT: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: orders\nspec:\n  type: bindings.mqtt\n  version: v1\n  metadata:\n  \
                         - name: url\n    value: 'tcp://127.0.0.1:1'\n  - name: topic\n    value: orders\n";

#[test]
fn every_query_of_the_dashboard_has_data() {
    let text = "[spool]\nbytes_max = \"128MiB\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n\
                [bridge.plant]\nurl = \"mqtt://127.0.0.1:1\"\n[[bridge.plant.in]]\nfilters = \"a\"\n[[bridge.plant.out]]\nfilters = \"b\"\n\
                [[source]]\nname = \"back\"\ntopic = \"commands\"\nmqtt_topic = \"back\"\n\
                [[rule]]\nname = \"rule\"\nsql = 'SELECT * FROM \"t\"'\n[[rule.republish]]\ntopic = \"made\"\npayload = \"${.}\"\n";
    let service = Service::start(&config(text));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "t", b"x");
    let prometheus = Prometheus::start(service.control());
    let expressions = expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    until("two scrapes", || prometheus.series("rate(forebay_events_total[10s])") == Some(1));
    for expression in &expressions {
        until(expression, || prometheus.series(expression).is_some_and(|series| series > 0));
    }
    assert_eq!(prometheus.series("forebay_no_such_metric"), Some(0), "the test can fail");
}

#[test]
fn the_alert_rules_fire_where_they_should() {
    let folder = root().join("deploy/prometheus");
    run(tool("promtool").current_dir(&folder).args(["test", "rules", "alerts_test.yml"]));
    run(tool("promtool").current_dir(&folder).args(["check", "config", "prometheus.yml"]));
    let of = |file: &str| std::fs::read_to_string(folder.join(file)).expect(file);
    let (rules, tests) = (of("alerts.yml"), of("alerts_test.yml"));
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(
            tests.contains(&format!("name: {name} fires")) && tests.contains(&format!("name: {name} is quiet")),
            "{name}"
        );
    }
    // Each metric that a rule names is one that the service has.
    let dir = temp_dir();
    certificates(dir.path());
    let sink = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n\
                [[source]]\nname = \"back\"\ntopic = \"commands\"\nmqtt_topic = \"back\"\n\
                [[rule]]\nname = \"rule\"\nsql = 'SELECT * FROM \"t\"'\nconsole = true\n";
    let component = dir.path().join("orders.yaml");
    std::fs::write(&component, COMPONENT).expect("a file");
    let dapr =
        format!("[dapr]\napp_id = \"a\"\napp = \"http://127.0.0.1:1\"\nhttp = \"off\"\ncomponents = {component:?}\n");
    let text = listener("tls", dir.path(), "") + sink + &dapr;
    let service = Service::start(&config(&text));
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics: Vec<&str> =
        words.filter(|word| word.starts_with("forebay_") || word.starts_with("process_")).collect();
    assert!(metrics.len() > 10, "{metrics:?}");
    for name in metrics {
        // Some are there after the first look at the sinks.
        until(&format!("metric {name}"), || {
            let page = service.get("/metrics").expect("metrics").1;
            let known =
                page.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            known || page.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")))
        });
    }
}
