//! The greeting of a service once clients are accepted: events, and on a terminal its addresses and the next commands.

use super::Service;
use crate::cli::control_token;
use crate::cli::out::say;
use crate::config::{ApiAccess, LogFormat};
use crate::metrics::event::{Event as Said, Field, Kind};
use crate::runtime::Bind;
use crate::service::sandbox;

impl Service {
    /// Enters the sandbox once all threads and rings exist: privileges that are not needed any more are given up.
    pub(super) fn sandbox(&self) {
        let Some(files) = sandbox::files() else { return };
        let denied = sandbox::deny_calls();
        let is_full = files == sandbox::Files::Restricted && denied.is_ok();
        let calls = denied.map_or_else(|why| format!("unavailable: {why}"), |()| "full".to_owned());
        let kind = if is_full { Kind::Sandboxed } else { Kind::SandboxIncomplete };
        self.journal.say(Said::now(kind).with(Field::Files, files.as_str()).with(Field::Calls, calls));
    }

    pub(super) fn tell_started(&self) {
        for addr in &self.mqtt {
            self.journal.say(Said::now(Kind::Listening).with(Field::Listener, addr.to_string()));
        }
        let started = Said::now(Kind::Started).with(Field::Version, env!("CARGO_PKG_VERSION"));
        self.journal.say(started.with(Field::Shards, self.shards.len() as u64));
    }

    /// Prints the addresses and the next commands; logs the same where lines are for programs.
    pub(super) fn greet(&self) {
        if self.config.log.format == LogFormat::Json {
            if let Some(control) = &self.control {
                tracing::info!(address = %control.addr(), "control plane listening");
            }
            if let Some(log) = &self.embedded {
                tracing::info!(address = %log.local_addr(), "embedded log listening");
            }
            return;
        }
        for addr in &self.mqtt {
            say(format_args!("mqtt listening on {addr}"));
        }
        if let Some(link) = self.config.broker.as_ref().and_then(|broker| broker.link.as_ref()) {
            say(format_args!("other instances connect to {}", link.bind));
        }
        if let Some(control) = &self.control {
            let scheme = if self.config.control.tls.is_some() { "https" } else { "http" };
            say(format_args!("control listening on {scheme}://{}", control.addr()));
            if self.config.control.dashboard {
                say(format_args!("dashboard at {scheme}://{}/ui/", control.addr()));
                if self.config.control.access == ApiAccess::Local {
                    let token = control_token::path(&self.config.service.data_dir);
                    say(format_args!("the token for changes there is in {}", token.display()));
                }
            }
        }
        if let Some(log) = &self.embedded {
            say(format_args!("embedded log listening on {}", log.local_addr()));
        }
        let topic = self.config.sinks.first().and_then(|s| s.topic.as_literal());
        if let (Some(mqtt), Some(log), Some(topic)) = (self.mqtt.first(), &self.embedded, topic) {
            let tls = self.config.listeners.first().and_then(|listener| listener.tls.as_ref());
            let identity = tls.map_or("", |tls| match &tls.clients {
                Some(clients) if clients.is_required => " --cafile CA_FILE --cert CERT_FILE --key KEY_FILE",
                _ => " --cafile CA_FILE",
            });
            let to = match mqtt {
                Bind::Tcp(addr) => format!("-h {} -p {}", addr.ip(), addr.port()),
                Bind::Unix(path) => format!("--unix {}", path.display()),
            };
            say(format_args!("\nPublish something:\n  mosquitto_pub {to}{identity} -q 1 -t hello -m world"));
            say(format_args!("Read it as a Kafka record:"));
            say(format_args!("  kcat -b {} -C -t {topic} -o beginning -e -f '%k: %s\\n'", log.local_addr()));
            say(format_args!("\nCtrl-C stops Forebay. `forebay --help` has more examples."));
        }
    }
}
