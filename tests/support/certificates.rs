//! The page docs/TLS.md, and the certificates that its commands make.

use std::path::Path;
use std::process::{Command, Output};

use super::tool;

const PAGE: &str = include_str!("../../docs/TLS.md");

/// The blocks of a section of the page, in this language.
pub fn blocks(section: &str, language: &str) -> Vec<String> {
    let (_, rest) = PAGE.split_once(&format!("\n## {section}\n")).expect("a section of the page");
    let rest = rest.split("\n## ").next().expect("text");
    let begin = format!("```{language}\n");
    let parts = rest.split(&begin).skip(1);
    parts.map(|part| part.split("```").next().expect("text").to_owned()).collect()
}

pub fn shell(dir: &Path, commands: &str) -> Output {
    let done = Command::new("sh").arg("-ec").arg(commands).current_dir(dir).output().expect("a shell");
    assert!(done.status.success(), "{commands}\n{}", String::from_utf8_lossy(&done.stderr));
    done
}

/// The CA and the certificates of the page, once more for a second device.
pub fn certificates(dir: &Path) {
    tool("openssl");
    for block in blocks("Certificates", "sh") {
        shell(dir, &block);
        if block.contains("device-1") {
            shell(dir, &block.replace("device-1", "device-2"));
        }
    }
}

/// A listener on a free port, with the page's server certificate if its transport has TLS. `more`: further keys of `[listener.tls]`.
pub fn listener(transport: &str, dir: &Path, more: &str) -> String {
    let dir = dir.display();
    let tls = if matches!(transport, "tls" | "wss") {
        format!("[listener.tls]\ncert_file = \"{dir}/server.pem\"\nkey_file = \"{dir}/server.key\"\n{more}")
    } else {
        String::new()
    };
    format!("[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"{transport}\"\n{tls}\n")
}
