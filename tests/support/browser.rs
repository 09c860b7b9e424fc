//! Headless Chromium, spoken to by its DevTools protocol.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(90);

/// A browser with one page open. Dropping it ends all its processes.
pub struct Browser {
    child: Child,
    folder: tempfile::TempDir,
    socket: Option<WebSocket<TcpStream>>,
    session: Option<String>,
    calls: u64,
}

impl Browser {
    /// Opens a URL.
    pub fn open(url: &str) -> Self {
        let folder = super::temp_dir();
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = match std::env::var_os("FOREBAY_CHROMIUM") {
            Some(program) => Command::new(program),
            None => super::tool("chromium"),
        };
        // It writes the port that it has chosen into its profile.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg("about:blank").stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        let child = command.process_group(0).spawn().expect("chromium runs");
        let mut browser = Self { child, folder, socket: None, session: None, calls: 0 };
        let endpoint = browser.endpoint();
        let address = endpoint.trim_start_matches("ws://").split('/').next().expect("an address");
        let stream = TcpStream::connect(address).expect("DevTools listen");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        browser.socket = Some(tungstenite::client(&endpoint, stream).expect("a WebSocket").0);
        let target = browser.call("Target.createTarget", &json!({ "url": url }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser
    }

    fn endpoint(&self) -> String {
        let file = self.folder.path().join("profile/DevToolsActivePort");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let [port, path] = text.lines().collect::<Vec<_>>()[..] {
                return format!("ws://127.0.0.1:{port}{path}");
            }
            let said = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "chromium has not started:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A command, and its result.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.calls += 1;
        let mut request = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let socket = self.socket.as_mut().expect("it is connected");
        socket.send(Message::text(request.to_string())).expect("the browser runs");
        loop {
            let message = socket.read().expect("an answer");
            let answer: Value = serde_json::from_slice(&message.into_data()).expect("JSON");
            // Others are events.
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Runs JavaScript in the page; its value.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", &json!({ "expression": expression, "returnByValue": true }));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until the page shows a text.
    pub fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.evaluate("document.body ? document.body.innerText : ''");
            let shown = shown.as_str().unwrap_or_default();
            if shown.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "the page does not show {text:?}:\n{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ended = super::tool("kill").args(["-KILL", "--", &group]).status();
        let _status = self.child.wait();
    }
}
