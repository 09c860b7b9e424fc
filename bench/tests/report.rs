//! A run against the floor, as programs: its summary, its JSON, and its report in a browser.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_forebay-bench");

struct Floor(Child, String);

impl Floor {
    fn start() -> Self {
        let mut child =
            Command::new(BENCH).args(["floor", "--bind", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("floor listening on ").expect("an address").to_owned();
        Self(child, address)
    }

    fn run(&self, folder: &Path, arguments: &[&str]) -> (Output, Value) {
        let json = folder.join("report.json");
        let mut command = Command::new(BENCH);
        command.args(arguments).args(["--target", &self.1, "--name", "floor", "--quiet"]);
        command
            .args(["--pid", &self.0.id().to_string()])
            .arg("--json")
            .arg(&json)
            .arg("--html")
            .arg(folder.join("report.html"));
        let output = command.output().unwrap();
        let text = std::fs::read_to_string(&json);
        let text = text.unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)));
        (output, serde_json::from_str(&text).unwrap())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_message_to_the_floor_is_sent_answered_and_timed() {
    let (floor, folder) = (Floor::start(), tempfile::tempdir().unwrap());
    let (output, report) =
        floor.run(folder.path(), &["pub", "-c", "20", "-q", "1:2:1", "-m", "20000", "--per-write", "4"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("PASSED\n"), "{text}");
    let (totals, latency) = (&report["totals"], &report["latency"]);
    assert_eq!(totals["sent"], 20_000);
    let acknowledged = totals["sent_qos1"].as_u64().unwrap() + totals["sent_qos2"].as_u64().unwrap();
    assert_eq!(totals["answered"], acknowledged);
    assert_eq!(latency["puback"]["count"], totals["sent_qos1"]);
    assert_eq!(latency["pubcomp"]["count"], totals["sent_qos2"]);
    assert_eq!(report["schema"], 1);
}

#[test]
fn every_delivery_is_numbered_and_what_is_owed_is_known() {
    let (floor, folder) = (Floor::start(), tempfile::tempdir().unwrap());
    // The floor writes each message to every subscriber, whatever its filter: those of "b" get what they did not ask for.
    let scenario = folder.path().join("fan.toml");
    let group = |role: &str, clients: u32, topic: &str, more: &str| {
        format!("[[group]]\nrole = {role:?}\nclients = {clients}\ntopic = {topic:?}\n{more}")
    };
    let good = group("subscribe", 3, "a/#", "") + &group("publish", 2, "a/{client}", "messages = 500\n");
    std::fs::write(&scenario, format!("name = 'fan'\n{good}")).unwrap();
    let path = scenario.to_str().unwrap();
    let (output, report) = floor.run(folder.path(), &["run", path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((&report["totals"]["received"], &report["totals"]["expected"]), (&1_500.into(), &1_500.into()));
    assert_eq!(report["latency"]["delivery"]["count"], 1_500);

    // A broker that does not deliver: the floor grants QoS 1 and forwards nothing that it was not sent.
    let bad = group("subscribe", 1, "a/#", "") + &group("publish", 1, "a/x", "messages = 200\nqos = 1\nversion = 5\n");
    std::fs::write(&scenario, format!("name = 'bad'\ndrain = '2s'\n{bad}")).unwrap();
    let (output, report) = floor.run(folder.path(), &["run", path]);
    assert_eq!(output.status.code(), Some(1), "what came in another form than 3.1.1 is not what was sent: {report:#}");
    let first = String::from_utf8(output.stdout).unwrap();
    assert!(first.starts_with("FAILED: "), "{first}");
}

#[test]
fn a_server_that_is_away_is_said_and_not_waited_for() {
    let output = Command::new(BENCH).args(["pub", "-m", "10", "--quiet", "--target", "127.0.0.1:1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("cannot connect"), "{text}");
}

/// Lays the report out at a desktop's and a phone's width: nothing sticks out sideways, no plot is too small to read.
#[test]
#[ignore = "needs Chromium"]
fn the_report_fits_a_desktop_and_a_phone() {
    let (floor, folder) = (Floor::start(), tempfile::tempdir().unwrap());
    let load = ["pub", "-c", "50", "-q", "1", "-r", "20000", "-d", "3s"];
    let (output, _) = floor.run(folder.path(), &load);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let report = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    for (width, least) in [(1_200, 440.0), (390, 320.0)] {
        let page = folder.path().join(format!("{width}.html"));
        std::fs::write(&page, framed(&report, width)).unwrap();
        let seen = browser(&["--dump-dom".to_owned()], &page);
        let title = seen.split("<title>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
        let numbers: Vec<f64> = title.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [needed, inner, plots, narrowest, height] = numbers[..] else { panic!("{title:?} in {seen}") };
        assert!(needed <= inner && inner <= f64::from(width), "at {width} the page is {needed} wide");
        assert!(plots >= 5.0 && narrowest >= least, "at {width}: {plots} plots, the narrowest {narrowest}");
        assert!(height > 1_000.0);
        // For people: kept where FOREBAY_REPORT_PICTURES says.
        if let Some(pictures) = std::env::var_os("FOREBAY_REPORT_PICTURES") {
            let picture = PathBuf::from(pictures).join(format!("report-{width}.png"));
            let size = format!("--window-size={},{}", width.max(500), height);
            browser(&[format!("--screenshot={}", picture.display()), size], &page);
            assert!(std::fs::metadata(&picture).unwrap().len() > 20_000);
        }
    }
}

/// A page that shows the report in a frame of this width, and says in its title how it was laid out.
fn framed(report: &str, width: u32) -> String {
    let inside = report.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        "<!doctype html><body style='margin:0'><iframe id=f style='border:0;height:4000px;width:{width}px' srcdoc=\"{inside}\"></iframe><script>\
         f.onload = () => {{ const d = f.contentDocument; const w = [...d.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width);\
         const h = d.body.getBoundingClientRect().height; f.style.height = h + 'px';\
         document.title = [d.documentElement.scrollWidth, f.contentWindow.innerWidth, w.length, Math.min(...w), h].join(' '); }}</script>"
    )
}

fn browser(arguments: &[String], page: &Path) -> String {
    let program = std::env::var("FOREBAY_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let mut command = Command::new(&program);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"])
        .args(arguments)
        .arg(page);
    let output =
        command.output().unwrap_or_else(|error| panic!("{program}: {error} (on Debian: apt-get install chromium)"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
