//! The service under test as a child process: started from a configuration on free ports, ended by its pid, its log kept.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A configuration for tests: one shard that is not pinned, free ports everywhere, data below `$DIR`. `rest` holds what the test is about,
/// such as `[kafka.main]` and `[[sink]]`; without `[kafka.…]` the embedded log serves.
pub fn config(rest: &str) -> String {
    config_with("shards = 1", rest)
}

/// The same, with the test's own keys of `[service]`, the number of shards among them.
pub fn config_with(service: &str, rest: &str) -> String {
    let embedded = if rest.contains("[kafka.") { "" } else { "[embedded]\nbind = \"127.0.0.1:0\"\n" };
    format!(
        "[service]\npin = false\ndata_dir = \"$DIR/data\"\n{service}\n[control]\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"tcp\"\n{embedded}{rest}"
    )
}

/// A running `forebay run`. Dropping it kills the process and removes its directory; a test that fails prints the end of the log first.
pub struct Service {
    dir: tempfile::TempDir,
    child: Child,
    /// Where the log of the present start begins in the log file.
    log_start: u64,
    mqtt: SocketAddr,
    control: SocketAddr,
    embedded: Option<SocketAddr>,
    /// Arguments and variables of each start.
    more: (Vec<String>, Vec<(String, String)>),
}

impl Service {
    /// Starts it and waits until `/readyz` says 200. `$DIR` in the configuration is the service's own directory.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[], &[])
    }

    /// The same with more arguments, and variables of the environment. Without any text there is no file, and the data is in `$DIR/data` by an option.
    pub fn start_with(config: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let more = (arguments, variables);
        let dir = super::temp_dir();
        let text = config.replace("$DIR", &dir.path().display().to_string());
        if !text.is_empty() {
            fs::write(dir.path().join("forebay.toml"), text).expect("the configuration can be written");
        }
        let child = spawn(dir.path(), &more);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self { dir, child, log_start: 0, mqtt: nowhere, control: nowhere, embedded: None, more };
        service.wait_until_ready();
        service
    }

    /// Starts it again after `terminate` or `kill9`: same configuration, same data, other ports if the configuration says 0.
    pub fn start_again(&mut self) {
        self.log_start = fs::metadata(self.log_file()).map_or(0, |file| file.len());
        self.child = spawn(self.dir.path(), &self.more);
        self.wait_until_ready();
    }

    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// The addresses of all listeners, in the order of the configuration.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        addresses(&self.log(), "mqtt listening on ").collect()
    }

    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Bootstrap address of the embedded log.
    pub fn embedded(&self) -> SocketAddr {
        self.embedded.unwrap_or_else(|| panic!("this service has no embedded log; its log:\n{}", self.log()))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote since its present start.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[(self.log_start as usize).min(bytes.len())..]).into_owned()
    }

    /// A GET on the control address: status and body.
    pub fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let (head, body) = self.get_with(path, "X-Test: 1")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body))
    }

    /// A GET with one more header: the answer's head and its body.
    pub fn get_with(&self, path: &str, header: &str) -> std::io::Result<(String, String)> {
        self.ask("GET", path, header, "")
    }

    /// A request with one more header, and with the service's own token unless that header brings one: the answer's head and
    /// its body.
    pub fn ask(&self, method: &str, path: &str, header: &str, body: &str) -> std::io::Result<(String, String)> {
        let own = fs::read_to_string(self.token_file()).ok().filter(|_| !header.starts_with("Authorization"));
        let own = own.map(|token| format!("\r\nAuthorization: Bearer {}", token.trim()));
        http(self.control, method, path, &format!("{header}{}", own.unwrap_or_default()), body)
    }

    /// The file with the token that the service has made for this machine.
    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join("data/control-token")
    }

    /// The sum over all labels of one metric of `/metrics`, or over those with one label's value (`name{label="value"}`);
    /// None if it is not there.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics").expect("the metrics can be read");
        sum(&page, name)
    }

    /// SIGTERM, then waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the service did not end within {STOP_TIMEOUT:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL: no chance to finish anything.
    pub fn kill9(&mut self) {
        self.child.kill().expect("the child can be killed");
        let status = self.child.wait().expect("the child can be waited for");
        assert_eq!(
            status.signal(),
            Some(9),
            "the service had ended before it was killed: {status}; its log:\n{}",
            self.log()
        );
    }

    /// Sends a signal by name, such as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) {
        super::run(super::tool("kill").arg(format!("-{name}")).arg(self.pid().to_string()));
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                panic!("the service ended at its start: {status}; its log:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the service was not ready within {START_TIMEOUT:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_ready(&mut self) -> bool {
        let log = self.log();
        // In words, or where the log is JSON, as fields of its lines.
        let mqtt = address(&log, "mqtt listening on ").or_else(|| address(&log, "\"listener\":\""));
        let secure = address(&log, "control listening on https://");
        let control = address(&log, "control listening on http://")
            .or(secure)
            .or_else(|| address(&log, "\"message\":\"control plane listening\",\"address\":\""));
        let (Some(mqtt), Some(control)) = (mqtt, control) else { return false };
        (self.mqtt, self.control) = (mqtt, control);
        self.embedded = address(&log, "embedded log listening on ")
            .or_else(|| address(&log, "\"message\":\"embedded log listening\",\"address\":\""));
        // It may be ready before its last line is there.
        if self.embedded.is_none() && log.contains("embedded log: a single-node log") {
            return false;
        }
        // Over TLS nothing is asked here: the line is printed when clients are accepted.
        secure.is_some() || matches!(self.get("/readyz"), Ok((200, _)))
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("forebay.log")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the service's log, its end:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// One HTTP request with one header of its own: the answer's head and its body. HTTP 1.0, so that the body comes as it is
/// and ends with the connection (RFC 1945, 7.2.2).
pub fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    header: &str,
    body: &str,
) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{header}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.to_owned(), body.to_owned()))
}

/// [`Service::metric`] of a page.
pub fn sum(page: &str, name: &str) -> Option<f64> {
    let (name, label) = name.split_once('{').unwrap_or((name, ""));
    let label = label.trim_end_matches('}');
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let labels = labels.strip_prefix('{').map(|labels| labels.trim_end_matches('}'));
        // No label of ours has a comma in its value.
        let has = |wanted: &str| labels.is_some_and(|labels| labels.split(',').any(|other| other == wanted));
        let fits = label.is_empty() || label.split(',').all(has);
        let whole = labels.is_some() || rest.starts_with(' ');
        (fits && whole).then(|| value.parse::<f64>().ok()).flatten()
    });
    values.reduce(|sum, value| sum + value)
}

fn spawn(dir: &Path, (arguments, variables): &(Vec<String>, Vec<(String, String)>)) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("forebay.log")).expect("the log can be created");
    let file = dir.join("forebay.toml");
    let (option, value) = if file.exists() { ("--config", file) } else { ("--data-dir", dir.join("data")) };
    program()
        .args(["run", option])
        .arg(value)
        .args(arguments)
        .env("NO_COLOR", "1")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second descriptor"))
        .stderr(log)
        .spawn()
        .expect("the service can be started")
}

/// The program under test, without arguments yet.
pub fn program() -> Command {
    Command::new(std::env::var_os("FOREBAY_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_forebay").into()))
}

/// The first address that the log names behind `words`.
fn address(log: &str, words: &str) -> Option<SocketAddr> {
    addresses(log, words).next()
}

/// The addresses that the log names behind `words`.
fn addresses(log: &str, words: &str) -> impl Iterator<Item = SocketAddr> {
    log.lines().filter_map(move |line| line.split_once(words)).filter_map(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}
