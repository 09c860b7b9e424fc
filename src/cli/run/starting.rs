//! The parts of a service besides the shards: the host's checks, sockets, the embedded log, the control plane.

use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::super::args::RunArgs;
use super::super::auth_files;
use super::super::check_host;
use super::super::check_start;
use super::super::reconfigure;
use super::super::rule;
use super::Failure;
use crate::config::{ApiAccess, Config, EMBEDDED};
use crate::control::{Connections, Control, LogControl, Shown, Tokens};
use crate::embedded::{self, EmbeddedLog};
use crate::files;
use crate::limits::MAILBOX_LETTERS_MAX;
use crate::link::LISTENER;
use crate::metrics::journal::Journal;
use crate::metrics::machine::memory;
use crate::rule::around::Machine;
use crate::runtime::{self, Bind, IoDriver, Listeners};
use crate::service::{dead_letters, log, sandbox};
use crate::telemetry::{Exporter, Running};

/// Refuses an unsuitable host. Returns the I/O driver, the descriptors for devices, and those for the control plane.
pub(super) fn preflight(config: &Config) -> Result<(IoDriver, u32, usize), Failure> {
    let (host, io, findings) = check_host::examine(config);
    let shards = config.service.shards;
    for finding in findings.iter().filter(|f| !f.fatal) {
        tracing::warn!("{finding}");
    }
    if let Some(text) = check_start::beyond_memory(config, memory()) {
        tracing::warn!("{text}");
    }
    let fatal: Vec<String> = findings.iter().filter(|f| f.fatal).map(ToString::to_string).collect();
    if fatal.is_empty() {
        Ok((io, host.device_descriptors(shards), host.control_descriptors(shards)))
    } else {
        Err(fatal.join("\nforebay: "))
    }
}

/// With `service.sandbox`, makes only the service's own folders writable from here on; missing ones are created.
pub(super) fn restrict_files(args: &RunArgs, config: &Config) -> Result<(), Failure> {
    if !config.service.sandbox {
        return Ok(());
    }
    let mut folders = vec![config.service.data_dir.clone()];
    folders.extend(config.embedded.iter().map(|log| log.dir.clone()));
    folders.extend(config.dead_letter_files().map(|file| dead_letters::folder_of(&file.path)));
    folders.extend(config.dapr.iter().filter_map(|dapr| dapr.sockets.clone()));
    // A folder that cannot be created is reported later, with the key that names it.
    folders.iter().for_each(|folder| drop(files::make_dirs(folder)));
    folders.extend(config.control.file_dirs.iter().cloned());
    // A socket's folder is also for its clients: the operator who creates it knows them.
    let sockets = config.listeners.iter().filter_map(|listener| match &listener.bind {
        Bind::Unix(path) => path.parent().map(Path::to_owned),
        Bind::Tcp(_) => None,
    });
    folders.extend(sockets);
    // The API replaces the configuration file, and the files of `[auth.NAME]`.
    folders.extend(auth_files::folders(config));
    let file = args.file().and_then(|file| std::fs::canonicalize(file).ok());
    folders.extend(file.and_then(|file| file.parent().map(Path::to_owned)));
    sandbox::restrict_files(&folders)
}

/// The facts of the machine for rules. Without rules a time zone that cannot be read is reported, and UTC is used.
pub(super) fn machine(config: &Config) -> Result<Machine, Failure> {
    rule::machine().or_else(|why| match config.rules.is_empty() {
        true => {
            tracing::warn!("{why}; there are no rules, and UTC is used");
            Ok(rule::machine_in(TimeZone::UTC))
        }
        false => Err(why),
    })
}

/// Settings of the runtime. Shards are pinned to the CPUs that this process may use, if there is one for each.
pub(super) fn runtime_settings(config: &Config) -> runtime::Settings {
    let shards = config.service.shards;
    let pin = config.service.pin.then(runtime::cpus).filter(|cpus| cpus.len() >= shards);
    if config.service.pin && pin.is_none() {
        tracing::warn!(shards, "more shards than CPUs: not pinned");
    }
    runtime::Settings { shards, pin, mailbox_capacity: MAILBOX_LETTERS_MAX, ..runtime::Settings::default() }
}

/// Starts the embedded log, and gives its address to the cluster that represents it.
pub(super) fn start_embedded(config: &mut Config, journal: &Arc<Journal>) -> Result<Option<EmbeddedLog>, Failure> {
    let Some(wanted) = &config.embedded else { return Ok(None) };
    let settings = embedded::Settings {
        advertised: wanted.advertised.clone(),
        partitions_default: i32::try_from(wanted.partitions).unwrap_or(i32::MAX),
        segment_bytes: wanted.segment_bytes,
        auto_create_topics: wanted.auto_create_topics,
        retention_age: wanted.retention,
        retention_bytes: wanted.retention_bytes,
        retention_interval: wanted.retention_interval,
        connections_max: wanted.connections_max,
        partitions_max: wanted.partitions_max,
        message_bytes_max: wanted.message_bytes_max,
        teller: embedded::Teller(Some(Arc::clone(journal))),
        ..embedded::Settings::new(wanted.bind, &wanted.dir)
    };
    let log = EmbeddedLog::start(settings).map_err(|e| format!("{e} ({} sets its address)", wanted.moved_by))?;
    for cluster in config.clusters.iter_mut().filter(|c| c.name == EMBEDDED) {
        cluster.bootstrap = vec![log.local_addr().to_string()];
    }
    Ok(Some(log))
}

pub(super) fn bind_listeners(config: &Config) -> Result<Listeners, Failure> {
    let binds: Vec<_> = config.listeners.iter().map(|l| (l.bind.clone(), l.socket_mode)).collect();
    let moved_by: Vec<&str> = config.listeners.iter().map(|l| l.moved_by.as_str()).collect();
    let bound = Listeners::bind(&binds, config.service.shards);
    bound.map_err(|error| reconfigure::bind_failed(&error, &moved_by.join(" or ")))
}

/// Listens for other instances, if they may connect. A port that the kernel has chosen is noted.
pub(super) fn bind_link(config: &mut Config) -> Result<Option<Listeners>, Failure> {
    let shards = config.service.shards;
    let Some(link) = config.broker.as_mut().and_then(|broker| broker.link.as_mut()) else { return Ok(None) };
    let bound = Listeners::bind_one(LISTENER, (&Bind::Tcp(link.bind), 0), &[], shards);
    let bound = bound.map_err(|error| reconfigure::bind_failed(&error, "bind in [broker.link]"))?;
    bound.local_addrs().first().into_iter().for_each(|addr| link.bind = *addr);
    Ok(Some(bound))
}

/// The log filter, as the control plane changes it.
pub(super) struct ServiceLog;

impl LogControl for ServiceLog {
    fn level(&self) -> String {
        log::level()
    }

    fn set_level(&self, level: &str) -> Result<(), String> {
        log::override_level(level)
    }
}

/// The tokens of the admin API.
pub(in crate::cli) fn tokens(config: &Config) -> Result<Option<Arc<Tokens>>, Failure> {
    match &config.control.access {
        ApiAccess::Local => Ok(None),
        ApiAccess::Tokens(path) => Tokens::read(path).map(|tokens| Some(Arc::new(tokens))),
    }
}

pub(super) fn start_control(
    config: &Config,
    shown: Shown,
    connections: Arc<Connections>,
) -> Result<Option<Control>, Failure> {
    let Some(bind) = config.control.bind else { return Ok(None) };
    Control::start(bind, shown, connections).map(Some).map_err(|e| {
        format!(
            "control plane cannot listen on {bind}: {e}; {} sets the address, \"off\" disables it",
            config.control.moved_by
        )
    })
}

/// Exports the metrics that the control plane shows.
pub(super) fn start_exporter(exporter: Option<Exporter>, shown: Shown) -> Result<Option<Running>, Failure> {
    let source = Box::new(move || {
        let view = shown.view();
        (Arc::clone(&view.boards), view.extra.clone())
    });
    exporter.map(|exporter| exporter.start(source)).transpose().map_err(|e| format!("telemetry: {e}"))
}
