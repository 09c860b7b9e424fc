//! The expiry of certificates of listeners, and of connections to Kafka and to remotes of bridges: for `/metrics`, the log and `forebay check`.

use std::sync::{Mutex, PoisonError};

use crate::config::Config;
use crate::edge::{Edge, LinkTls};
use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};
use crate::secure::{Expiry, Outgoing, Server};

use super::check::{Line, Verdict};

/// The time left at which `forebay check` begins to warn.
const WARN_BEFORE_S: i64 = 30 * 86_400;

pub(super) fn expiries(all: &Edge) -> impl Iterator<Item = &Expiry> {
    let link = all.link.as_ref().map(|link| &link.server);
    let servers = all.tls.iter().flatten().chain(&all.control).chain(link);
    let of_listeners = servers.flat_map(|server| server.expiries());
    let outgoing = all.kafka.iter().chain(&all.bridges).flatten();
    of_listeners.chain(outgoing.flat_map(|outgoing| outgoing.expiries()))
}

/// Days left at which a certificate is reported again.
const STEPS: [i64; 3] = [1, 7, WARN_BEFORE_S / 86_400];

/// The warning step of a certificate: an upper bound of its days left; 0: it has expired; `None`: it is valid for longer.
pub(super) fn step(expiry: &Expiry) -> Option<i64> {
    let left = expiry.left();
    if left <= 0 { Some(0) } else { STEPS.into_iter().find(|days| left < days * 86_400) }
}

/// Whether the files are usable, for `forebay check`.
pub(super) fn check(config: &Config, lines: &mut Vec<Line>) {
    for listener in &config.listeners {
        let Some(settings) = &listener.tls else { continue };
        let loaded = Server::load(settings).map(|server| server.expiries().to_vec());
        check_one(&format!("listener {}", listener.bind), loaded, lines);
    }
    if let Some(settings) = &config.control.tls {
        check_one("control", Server::load(settings).map(|server| server.expiries().to_vec()), lines);
    }
    if let Some(files) = config.broker.as_ref().and_then(|broker| broker.link.as_ref()?.tls.as_ref()) {
        let loaded = LinkTls::load(&files.own, &files.ca).map(|link| link.server.expiries().to_vec());
        check_one("broker.link", loaded, lines);
    }
    let clusters = config.clusters.iter().map(|of| (format!("kafka.{}.tls", of.name), &of.tls));
    let bridges = config.bridges.iter().map(|of| (format!("bridge.{}.tls", of.name), &of.tls));
    for (about, tls) in clusters.chain(bridges) {
        let Some(settings) = tls else { continue };
        let loaded = Outgoing::load(settings).map(|outgoing| outgoing.expiries().to_vec());
        check_one(&about, loaded, lines);
    }
}

fn check_one(about: &str, loaded: Result<Vec<Expiry>, Vec<String>>, lines: &mut Vec<Line>) {
    let mut push = |verdict, text| lines.push(Line { verdict, about: about.to_owned(), text });
    match loaded {
        Err(problems) => problems.into_iter().for_each(|problem| push(Verdict::Problem, problem)),
        Ok(expiries) => {
            for expiry in expiries {
                let (file, days) = (expiry.file.display(), expiry.left().div_euclid(86_400));
                match expiry.left() {
                    ..=0 => push(Verdict::Problem, format!("{file}: a certificate has expired")),
                    1..WARN_BEFORE_S => push(Verdict::Warning, format!("{file}: a certificate expires in {days} days")),
                    _ => push(Verdict::Ok, format!("{file}: valid for {days} days")),
                }
            }
        }
    }
}

/// Expiries for `/metrics`.
#[derive(Debug, Default)]
pub(super) struct Expiries(Mutex<Vec<Expiry>>);

/// The metric of [`Expiries`].
pub(super) const EXPIRY: Spec = Spec {
    name: "tls_certificate_expiry_timestamp_seconds",
    label: None,
    help: "When the first certificate in the file expires, in seconds since 1970.",
    kind: Kind::Gauge,
};

impl Expiries {
    pub(super) fn show(&self, all: &Edge) {
        let mut shown: Vec<Expiry> = expiries(all).cloned().collect();
        shown.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        shown.dedup_by(|b, a| a.file == b.file);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

impl Extra for Expiries {
    fn read(&self) -> Vec<Number> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |expiry: &Expiry| {
            let labels = vec![("file", expiry.file.display().to_string())];
            Number { spec: EXPIRY, labels, value: expiry.at as f64 }
        };
        all.iter().map(number).collect()
    }
}
