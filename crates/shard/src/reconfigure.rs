//! A change of the configuration while the shard runs. Sinks and clusters keep their places, so that rows under way stay with theirs: new
//! ones come after them, and a removed sink stays without filters until its rows have gone.

use std::sync::Arc;

use forebay_config::{Config, Sink};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::ListenerId;
use forebay_session::End;

use super::connection::Kind;
use super::mail::{Notice, Reconfiguration};
use super::members::Role;
use super::ring::Ring;
use super::rules::Rules;
use super::upstream::Upstream;
use super::{Core, dead_letters, layout, router, settings, sinks};

impl Core {
    /// Puts another configuration into force. Messages taken before are not affected.
    pub(super) fn reconfigure(&mut self, io: &mut Ring<'_>, to: Reconfiguration) {
        let Reconfiguration { config, board, dead_letters, edge, listeners } = to;
        // Connections keep the certificates that they began with.
        let edge_before = std::mem::replace(&mut self.here.edge, edge.clone());
        if !edge.admits_as(&edge_before) {
            self.renew_access(io);
        }
        let has_same_links = match (&edge.link, &edge_before.link) {
            (Some(now), Some(before)) => Arc::ptr_eq(&now.server, &before.server),
            (now, before) => now.is_none() && before.is_none(),
        };
        if !has_same_links {
            self.renew_trunks();
        }
        let before = std::mem::replace(&mut self.here.config, Arc::clone(&config));
        let config = &*config;
        for index in before.clusters.len()..config.clusters.len() {
            let mut upstream = Upstream::new(config, index, &edge, self.here.rules, self.random.u64(..));
            upstream.client.start(io.now());
            self.outlets.upstreams.push(upstream);
        }
        for (index, upstream) in self.outlets.upstreams.iter_mut().enumerate() {
            let is_known = before.clusters.get(index).is_some();
            let has_other_tls = edge_before.kafka(index) != edge.kafka(index);
            if is_known && (before.clusters[index] != config.clusters[index] || has_other_tls) {
                upstream.change(config, index, &edge, io.now());
            }
            if !config.clusters[index].is_removed {
                upstream.resume(io.now());
            }
        }
        // A new cluster has come with its sinks.
        let receipts = config.listeners.iter().any(|listener| listener.receipts && !listener.is_removed);
        self.outlets.upstreams.iter_mut().for_each(|upstream| upstream.producer.give_receipts(receipts));
        for (cluster, upstream) in self.outlets.upstreams.iter_mut().take(before.clusters.len()).enumerate() {
            let mut changes = Vec::new();
            for (index, sink) in config.sinks.iter().enumerate().filter(|(_, sink)| sink.cluster == cluster) {
                if before.sinks.get(index) == Some(sink) {
                    continue;
                }
                if index >= before.sinks.len() {
                    upstream.members.add(config, index);
                }
                changes.extend(upstream.members.settings(config, index));
            }
            let is_same = |(index, source)| before.sources.get(index) == Some(source);
            if !config.sources.iter().enumerate().all(is_same) {
                upstream.members.add_sources(config, cluster);
                changes.extend(upstream.members.settings_of_sources(config, cluster));
            }
            if before.bridges != config.bridges {
                upstream.members.add_bridges(config, cluster);
                changes.extend(upstream.members.settings_of_bridges(config, cluster));
            }
            if !changes.is_empty() {
                upstream.producer.change_sinks(changes);
            }
        }
        self.busy_clusters();
        let added = config.sinks.iter().enumerate().skip(before.sinks.len());
        added.for_each(|(index, sink)| self.add_to_buffer(index, sink, config.service.shards));
        let (outlets, logs) = (&mut self.outlets, &mut self.broker.logs);
        if let (Some(buffer), Some(spool)) = (logs.rows_mut(), &config.spool) {
            settings::set_spool(buffer, spool, self.here.rules);
            outlets.when_full = spool.when_full;
        }
        outlets.router = router(config);
        outlets.plans = sinks::plans(config, |cluster| &outlets.upstreams[cluster].members);
        let members = |cluster: usize| &outlets.upstreams[cluster].members;
        outlets.rules = Rules::of(config, members, (&self.here.machine, self.here.rules), || self.random.u64(..));
        // The outcomes of removed rules for a message that was not taken are dropped.
        outlets.forget_outcomes();
        self.want_events();
        let outlets = &mut self.outlets;
        outlets.headers_left_out.resize(outlets.plans.len(), 0);
        let routes = dead_letters::routes(config, outlets.upstreams.iter().map(|upstream| &upstream.members));
        outlets.letters.grow(self.here.index, routes, &dead_letters.sinks);
        self.around.dead_letters = dead_letters;
        self.announced.grow(config.sinks.len());
        self.broker.keeping.settings = forebay_broker::settings::sessions(config);
        self.broker.retained.change(config);
        self.broker.delivery.shares.set_strategy(config.delivery.share_strategy, io.now());
        // Publishers that wait for room in a sink may match other sinks now.
        self.stalls.ask_all_again();
        self.broker.keeping.wills_offered_at = self.publishing().freed().wrapping_sub(1);
        self.here.numbers.grow(board, layout(config));
        self.change_sources(io);
        self.change_bridges(io, &before, &edge_before);
        listeners.into_iter().for_each(|listener| io.listen(listener));
        self.pace_listeners(io);
        self.close_removed_listeners(io, &before);
        // The receiver is gone only when the process ends.
        let _ = self.around.notices.send(Notice::Reconfigured(self.here.index));
    }
}

impl Core {
    /// Disconnects the clients of removed listeners, with the reason, and connections there that have not sent CONNECT.
    fn close_removed_listeners(&mut self, io: &mut Ring<'_>, before: &Config) {
        let now = Arc::clone(&self.here.config);
        let was_removed = |index: usize| before.listeners.get(index).is_none_or(|listener| listener.is_removed);
        let goes = |index: usize| now.listeners[index].is_removed && !was_removed(index);
        let going: Vec<usize> = (0..now.listeners.len()).filter(|index| goes(*index)).collect();
        if going.is_empty() {
            return;
        }
        for index in &going {
            io.stop_listening(ListenerId(u16::try_from(*index).unwrap_or(u16::MAX)));
        }
        for conn in self.connections.ids() {
            let Some(connection) = self.connections.get(conn) else { continue };
            let is_link = matches!(connection.kind, Kind::Link { .. } | Kind::Relay(_));
            if !is_link && going.contains(&usize::from(connection.listener.0)) {
                self.here.numbers.count(M::ListenerRemovals);
                self.end(io, conn, End::Administrative);
            }
        }
    }
}

impl Core {
    fn add_to_buffer(&mut self, index: usize, sink: &Sink, shards: usize) {
        let number = self.outlets.upstreams[sink.cluster].members.number(Role::Own(index));
        if let (Some(buffer), Some(number)) = (self.broker.logs.rows_mut(), number) {
            buffer.add_sink(sink.cluster, number, settings::terms(sink, shards));
        }
    }
}
