//! A change of the configuration on its way to the shards: each gets it by mail, with a board that has a place for every metric,
//! and reports when it has applied it. Then the control plane shows the new boards.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{self, Change, Config};
use crate::edge::Edge;
use crate::metrics::collector::Boards;
use crate::runtime::seam::ListenerId;
use crate::runtime::{Bind, Listener, Listeners};
use crate::service::dead_letters::Ways;
use crate::shard::mail::{Mail, Reconfiguration, ToShard};

use super::{overview, spool_shares};

/// A change that some shards have not applied yet.
pub(super) struct Reconfiguring {
    /// The configuration that is in force once all shards have it, and their boards from then on.
    pub(super) config: Arc<Config>,
    pub(super) boards: Arc<Boards>,
    dead_letters: Ways,
    /// New listeners' sockets, by shard; and their addresses.
    sockets: Vec<Vec<Listener>>,
    pub(super) listening: Vec<Bind>,
    /// The number of shards that have not reported yet.
    left: usize,
    pub(super) edge: Edge,
}

impl Reconfiguring {
    /// A change from `running`, which the shards have, with real addresses.
    pub(super) fn new(
        running: &Config,
        change: &Change,
        edge: Edge,
        dead_letters: impl FnOnce(&Config) -> Result<Ways, String>,
    ) -> Result<Self, String> {
        let mut config = change.in_process(running);
        config.spool = spool_shares::reloaded(running, &change.config);
        let (sockets, listening) = listeners(&mut config, change)?;
        let dead_letters = dead_letters(&config)?;
        let boards = overview::boards(&config);
        let left = config.service.shards;
        Ok(Self { config: Arc::new(config), boards, dead_letters, sockets, listening, left, edge })
    }

    /// The letter to a shard.
    pub(super) fn letter(&mut self, shard: usize) -> Mail {
        Mail::Shard(ToShard::Reconfigure(Box::new(Reconfiguration {
            config: Arc::clone(&self.config),
            board: Arc::clone(&self.boards.shards[shard]),
            dead_letters: self.dead_letters.clone(),
            edge: self.edge.clone(),
            listeners: std::mem::take(&mut self.sockets[shard]),
        })))
    }

    /// Notes that a shard has the change. Returns whether it was the last.
    pub(super) fn is_last(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }
}

/// Puts the new listeners into `config`, with the real addresses of existing ones, and binds those that are added: all of them or none.
fn listeners(config: &mut Config, change: &Change) -> Result<(Vec<Vec<Listener>>, Vec<Bind>), String> {
    let shards = config.service.shards;
    let mut sockets: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    let mut listening = Vec::new();
    for (place, wanted) in change.config.listeners.iter().enumerate() {
        let known = config.listeners.get(place);
        if let Some(known) = known.filter(|known| wanted.is_removed || !known.is_removed) {
            let bind = known.bind.clone();
            config.listeners[place] = config::Listener { bind, ..wanted.clone() };
            continue;
        }
        let others = config.listeners.iter().filter(|other| !other.is_removed).map(|other| &other.bind);
        let all: Vec<SocketAddr> = others.chain([&wanted.bind]).filter_map(Bind::tcp).collect();
        let id = ListenerId(u16::try_from(place).unwrap_or(u16::MAX));
        let bound = Listeners::bind_one(id, (&wanted.bind, wanted.socket_mode), &all, shards)
            .map_err(|error| bind_failed(&error, &wanted.moved_by))?;
        let bind = bound.binds().remove(0);
        bound.into_shards().into_iter().zip(&mut sockets).for_each(|(new, all)| all.extend(new));
        listening.push(bind.clone());
        let listener = config::Listener { bind, ..wanted.clone() };
        match config.listeners.get_mut(place) {
            Some(known) => *known = listener,
            None => config.listeners.push(listener),
        }
    }
    Ok((sockets, listening))
}

/// Why an address cannot be listened on, and the cure.
pub(super) fn bind_failed(error: &io::Error, moved_by: &str) -> String {
    let hint = match error.kind() {
        ErrorKind::AddrNotAvailable => "it is not an address of this machine; ",
        ErrorKind::AddrInUse => "is another instance running? ",
        ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; ",
        _ => "",
    };
    format!("{error}; {hint}{moved_by} sets it")
}
