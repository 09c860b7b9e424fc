//! Real mosquitto brokers.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::process::until;
use crate::support::tool;

/// A mosquitto with these lines in its configuration, behind those of its listener.
pub(crate) struct Mosquitto {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Mosquitto {
    pub(crate) fn start(dir: &Path, lines: &str) -> Self {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let config = dir.join("mosquitto.conf");
        // Run by root it would become another user, who may not read the files.
        let user = "user root";
        fs::write(&config, format!("{user}\nlistener {} 127.0.0.1\n{lines}\n", addr.port())).expect("written");
        let mut command = tool("mosquitto");
        let child =
            command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        until("mosquitto to listen", || TcpStream::connect(addr).is_ok());
        Self { child, addr }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
