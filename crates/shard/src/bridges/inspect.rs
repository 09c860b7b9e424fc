//! Bridges as the control plane reports them.

use forebay_bridge::{Client, Failed, Granted, Standing};
use forebay_config::Bridge;
use forebay_metrics::inspect::{BridgeFilter, BridgeOnShard, BridgeState, RemoteGrants};

use super::super::Core;
use super::super::inspect::{queued, unacknowledged};
use super::super::ring::Ring;
use super::Running;

impl Running {
    /// The state of the bridge.
    pub(super) fn state(&self, bridge: &Bridge) -> BridgeState {
        if bridge.paused {
            return BridgeState::Paused;
        }
        if self.at.is_some() {
            return if self.is_partial { BridgeState::Partial } else { BridgeState::Connected };
        }
        match self.client.trouble().map(|trouble| trouble.what) {
            Some(Failed::Login) => BridgeState::Refused,
            Some(Failed::Attempt) => BridgeState::Unreachable,
            Some(Failed::Open) | None => BridgeState::Connecting,
        }
    }

    /// The reason for its state.
    fn reason(&self, state: BridgeState) -> Option<String> {
        match state {
            BridgeState::Connected => None,
            BridgeState::Paused => Some("it is paused; messages for the remote wait".to_owned()),
            BridgeState::Partial => refused(&self.client).next().map(|(filter, why)| {
                let others = refused(&self.client).count() - 1;
                let more = if others > 0 { format!(", and {others} more of its filters") } else { String::new() };
                format!("the remote refuses {filter:?} ({why}){more}")
            }),
            BridgeState::Connecting | BridgeState::Refused | BridgeState::Unreachable => {
                self.client.trouble().map(|trouble| trouble.why.clone())
            }
        }
    }
}

/// Filters that the remote refuses, and its reasons.
pub(super) fn refused(client: &Client) -> impl Iterator<Item = (&str, &'static str)> {
    client.filters().filter_map(|(wanted, standing)| match standing {
        Standing::Refused(reason) => Some((&*wanted.filter, reason.name())),
        Standing::Open | Standing::Granted(_) => None,
    })
}

fn filters(client: &Client) -> Vec<BridgeFilter> {
    let row = |(wanted, standing): (&forebay_bridge::Wanted, Standing)| BridgeFilter {
        filter: wanted.filter.to_string(),
        qos: wanted.options.qos as u8,
        standing: match standing {
            Standing::Open => None,
            Standing::Granted(qos) => Some(Ok(qos as u8)),
            Standing::Refused(reason) => Some(Err(reason.name())),
        },
    };
    client.filters().map(row).collect()
}

fn grants(of: &Granted) -> RemoteGrants {
    let said = |number: u32| Some(number).filter(|number| *number != u32::MAX);
    RemoteGrants {
        protocol: of.version.as_str(),
        is_bridge: of.is_bridge,
        session_present: of.session_present,
        keep_alive_s: of.keep_alive_s,
        in_flight_max: of.in_flight_max,
        maximum_qos: of.maximum_qos as u8,
        packet_bytes_max: said(of.packet_size_max),
        session_expiry_s: said(of.session_expiry_s),
        retain_available: of.retain_available,
        wildcards_available: of.wildcards_available,
        shared_available: of.shared_available,
    }
}

impl Core {
    /// The shard's bridges, or one of them, with its filters.
    pub(crate) fn inspect_bridges(&self, io: &Ring<'_>, wanted: Option<usize>) -> Vec<BridgeOnShard> {
        let all = self.bridges.all.iter().filter(|(index, _)| wanted.is_none_or(|wanted| wanted == **index));
        all.filter_map(|(index, running)| self.inspect_bridge(io, *index, running, wanted.is_some())).collect()
    }

    fn inspect_bridge(
        &self,
        io: &Ring<'_>,
        bridge: usize,
        running: &Running,
        with_filters: bool,
    ) -> Option<BridgeOnShard> {
        let (client, now) = (&running.client, io.now());
        let session = self.broker.sessions.get(running.session)?;
        let state = running.state(&self.here.config.bridges[bridge]);
        let bounds = self.broker.queue_bounds(running.session);
        let outs = self.here.config.bridges[bridge].outs.iter();
        let remotes = &self.broker.delivery.remotes;
        Some(BridgeOnShard {
            bridge,
            state,
            since_s: now.since(running.since).as_secs(),
            reason: running.reason(state),
            trouble: client.trouble().map(|trouble| (trouble.why.clone(), now.since(trouble.at).as_secs())),
            granted: running.at.and(client.standing()).map(|(granted, _)| grants(granted)),
            filters: if with_filters { filters(client) } else { Vec::new() },
            unacknowledged: unacknowledged(session, now),
            queued: queued(session, bounds, now),
            queued_bytes: session.queued_bytes(),
            queued_bytes_max: bounds.bytes,
            sent: outs.map(|out| remotes.sent(running.session, Bridge::identifier(&out.name))).collect(),
        })
    }
}
