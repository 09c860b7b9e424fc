//! Changes of the settings while the client runs. Requests in flight keep their connection and their deadline.

use super::settings::Settings;
use super::{CLIENT_ID_BYTES_MAX, Client};
use forebay_guard::outward::Endpoint;
use forebay_runtime::seam::Monotonic;

/// Returns the settings within the bounds of the protocol, and the bootstrap list as endpoints.
pub(super) fn bounded(mut settings: Settings) -> (Settings, Vec<Endpoint>) {
    let end = settings.client_id.floor_char_boundary(CLIENT_ID_BYTES_MAX);
    settings.client_id.truncate(end);
    let mut bootstrap: Vec<Endpoint> = Vec::new();
    for endpoint in settings.bootstrap.iter().filter_map(|text| Endpoint::parse(text)) {
        if !bootstrap.contains(&endpoint) {
            bootstrap.push(endpoint);
        }
    }
    (settings, bootstrap)
}

impl Client {
    /// Uses other settings from the next step on: the next request, the next connection. Brokers that could not be reached
    /// are tried again at once, and a connection that is only being opened to find the cluster gives way to the new list.
    ///
    /// Another bootstrap list is asked at once for its cluster. Usually it is another way to the same one; another
    /// cluster is handled as [`super::cluster`] describes.
    pub fn change(&mut self, settings: Settings, now: Monotonic) {
        let (settings, bootstrap) = bounded(settings);
        let before = std::mem::replace(&mut self.shared.settings, settings);
        if bootstrap != self.bootstrap {
            self.bootstrap = bootstrap;
            (self.candidate, self.tried) = (0, 0);
            self.let_go_of_metadata(now);
        }
        let ages = |of: &Settings| (of.metadata_max_age, of.health_check_interval);
        if ages(&before) != ages(&self.shared.settings) {
            self.topics.refresh(now);
        }
        if before.sasl != self.shared.settings.sasl || before.outward.tls != self.shared.settings.outward.tls {
            self.withdraw_logins(now);
        }
        self.metadata.retry_at(now);
        self.channels.values_mut().for_each(|channel| channel.channel.retry_at(now));
        self.ask_channels.values_mut().for_each(|channel| channel.channel.retry_at(now));
        self.coordinators.channels.values_mut().for_each(|member| member.channel.retry_at(now));
        self.fetch_channels.values_mut().for_each(|channel| channel.channel.retry_at(now));
        self.pump_all(now);
    }
}
