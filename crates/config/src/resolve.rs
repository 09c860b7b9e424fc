//! The walk over the whole file: its sections, the service's own settings, and the addresses.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::binds::Binds;
use super::circles::Destinations;
use super::clusters::EmbeddedCluster;
use super::keys::{self, LATER, Section};
use super::problem::{Fault, Problems, did_you_mean};
use super::reader::{Source, Spot, Table, belongs_to, in_file_order};
use super::resolved::{ApiAccess, Config, Control, Delivery, Embedded, Listener, Log, Mqtt, Retained, Service};
use super::rules::{self, Drafts};
use super::setting::{Setting as _, Settings as _};
use forebay_base::address::Network;
use forebay_base::limits::{PACKET_BYTES_MAX, SHARDS_MAX};
use forebay_listener::proxy::Expect;
use forebay_runtime::Bind;

use super::{
    AUTHS_MAX, BRIDGES_MAX, CLUSTERS_MAX, LISTENERS_MAX, Overrides, RULES_MAX, SINKS_MAX, SOURCES_MAX, auth, bridges,
    broker, clusters, dapr, names_of_others, sinks, sources, spool, telemetry, tls, values, warnings,
};

/// The address of the listener when none is configured.
pub(super) const LISTENER_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1883);

/// Default bound of failed logins of an address in a minute, where other machines can reach a listener. A site with one address for
/// its devices reaches it only if hardly any of them can log in.
const FAILURES_PER_ADDRESS: u32 = 1_000;

/// The top of the file.
pub(super) struct Document<'a> {
    pub(super) source: &'a Source<'a>,
    root: &'a DeTable<'a>,
    empty: &'a DeTable<'a>,
}

/// Walks the tree. Problems are noted in `source`; if there are any, the result must not be used.
pub(super) fn resolve(source: &Source<'_>, root: &DeTable<'_>, overrides: &Overrides, cores: usize) -> Config {
    let empty = DeTable::new();
    let document = Document { source, root, empty: &empty };
    document.check_sections();
    let service = service(&document.table(Section::Service), overrides, cores);
    let mut binds = Binds::default();
    let log = log(&document.table(Section::Log), overrides);
    let telemetry = telemetry::resolve(&document.table(Section::Telemetry));
    let mqtt_table = document.table(Section::Mqtt);
    let mut mqtt = mqtt(&mqtt_table);
    let auth = auth::resolve(&document, &service.data_dir);
    let listeners = listeners(&document, overrides, &auth, &mut binds);
    auth::warn_of_unused(&document, &auth, &listeners);
    let is_reachable = listeners.iter().any(|listener| !listener.bind.is_local());
    if is_reachable && !mqtt_table.has("failures_per_address") {
        mqtt.failures_per_address = FAILURES_PER_ADDRESS;
    }
    let control = control(&document.table(Section::Control), overrides, &mut binds);
    let embedded = clusters::embedded_runs(&document, overrides)
        .then(|| embedded(&document.table(Section::Embedded), &service, overrides, &mut binds));
    let (embedded, as_cluster) = embedded.unzip();
    let (clusters, targets) = clusters::resolve(&document, overrides, service.shards, as_cluster);
    let drafts = Drafts::of(&document, &overrides.environment);
    let mut sinks = sinks::resolve(&document, overrides, (&targets, service.shards), &drafts);
    let rules = drafts.with_sinks(&sinks, log.payloads);
    let spool = spool::resolve(&document, service.shards, &sinks);
    let has_log = spool.is_some() || document.has(Section::Broker);
    let delivery = delivery(&document.table(Section::Delivery), has_log);
    let variables = &overrides.variables;
    let to = Destinations { sinks: &sinks, rules: &rules, bridges: &[], variables };
    let mut bridges = bridges::resolve(&document, overrides, &targets, to);
    let mut sources = sources::resolve(
        &document,
        overrides,
        &targets,
        Destinations { sinks: &sinks, rules: &rules, bridges: &bridges, variables },
        delivery.fetch_memory,
    );
    rules::check_sources(&document, &rules, &sources);
    let broker = broker::resolve(&document, overrides, &targets);
    if let Some(broker) = &broker {
        broker::check(&document, broker, (&sinks, &sources, &rules));
        sinks.extend(broker.sinks());
        sources.push(broker.source());
    }
    let retained = Retained::read(&document.table(Section::Retained));
    let warnings = Problems::default();
    let dapr = dapr::resolve(&document, overrides, &mut bridges, &mut binds);
    binds.check(source);
    let config = Config {
        service,
        control,
        log,
        telemetry,
        mqtt,
        listeners,
        auth,
        clusters,
        sinks,
        sources,
        rules,
        bridges,
        dapr,
        broker,
        embedded,
        spool,
        delivery,
        retained,
        warnings,
    };
    warnings::check(&document, &config);
    config
}

impl<'a> Document<'a> {
    /// Whether the file has this section.
    pub(super) fn has(&self, section: Section) -> bool {
        self.root.contains_key(section.name())
    }

    /// A section with one table; an empty table, if the file does not have it.
    pub(super) fn table(&self, section: Section) -> Table<'a> {
        let spot = self.spot(section);
        let entries = match self.root.get(section.name()).map(Spanned::get_ref) {
            Some(DeValue::Table(entries)) => entries,
            Some(other) => {
                let fault = values::wrong_type("a table", other);
                self.source.report(&spot, fault.hint(format!("write {} above its keys", section.header())));
                self.empty
            }
            None => self.empty,
        };
        Table::new(self.source, section, entries, spot)
    }

    /// A section that is a list of tables.
    pub(super) fn tables(&self, section: Section) -> Vec<Table<'a>> {
        let list = match self.root.get(section.name()).map(Spanned::get_ref) {
            Some(DeValue::Array(list)) => list.iter(),
            Some(other) => {
                let fault = values::wrong_type("a list of tables", other);
                self.source.report(&self.spot(section), fault.hint(format!("write {}", section.header())));
                return Vec::new();
            }
            None => return Vec::new(),
        };
        list.enumerate()
            .take(most(section).0 + 1)
            .filter_map(|(at, item)| {
                let spot = Spot { path: format!("{}[{at}]", section.name()), span: item.span() };
                match item.get_ref() {
                    DeValue::Table(entries) => Some(Table::new(self.source, section, entries, spot)),
                    other => {
                        self.source.report(&spot, values::wrong_type("a table", other));
                        None
                    }
                }
            })
            .collect()
    }

    /// The tables `[section.NAME]`, in the order of the file. `check` judges a name.
    pub(super) fn named_tables(&self, section: Section, check: impl Fn(&str) -> Result<(), Fault>) -> Vec<Table<'a>> {
        let Some(value) = self.root.get(section.name()) else { return Vec::new() };
        let (kind, name) = (section.name(), section.example_name().unwrap_or("NAME"));
        let hint = format!("give it a name, as in [{kind}.{name}]");
        let DeValue::Table(table) = value.get_ref() else {
            self.source.report(&self.spot(section), values::wrong_type("a table", value.get_ref()).hint(hint));
            return Vec::new();
        };
        if table.is_empty() {
            self.source.report(&self.spot(section), Fault::new("has nothing in it").hint(hint));
            return Vec::new();
        }
        let mut tables = Vec::new();
        for (key, value) in in_file_order(table).into_iter().take(most(section).0 + 1) {
            let name = key.get_ref().as_ref();
            let spot = Spot { path: format!("{kind}.{name}"), span: value.span() };
            match value.get_ref() {
                DeValue::Table(entries) => {
                    if let Err(fault) = check(name) {
                        self.source.report(&spot, fault);
                    }
                    tables.push(Table::new(self.source, section, entries, spot));
                }
                _ if keys::of(section).any(|known| known.name == name) => {
                    self.source.report(&spot, Fault::new(format!("is outside of a {}", section.header())).hint(&*hint));
                }
                other => self.source.report(&spot, values::wrong_type("a table", other).hint(&*hint)),
            }
        }
        tables
    }

    /// Reports the first table beyond the most that the section may have; no further ones are read.
    pub(super) fn bound(&self, section: Section, tables: &[Table<'_>]) {
        let (most, what) = most(section);
        if let Some(table) = tables.get(most) {
            self.source.report(&table.spot, Fault::new(format!("at most {most} {what}")));
        }
    }

    /// A section's position; the start of the file, if it does not have the section.
    pub(super) fn spot(&self, section: Section) -> Spot {
        let span = self.root.get_key_value(section.name()).map_or(0..0, |(key, _)| key.span());
        Spot { path: section.name().to_owned(), span }
    }

    /// The position of a key in a section that is one table; of the section, if the key is absent. Nothing is reported.
    pub(super) fn spot_of(&self, section: Section, key: &str) -> Spot {
        let value = self.root.get(section.name()).and_then(|value| value.get_ref().as_table()?.get(key));
        let span = value.map_or_else(|| self.spot(section).span, Spanned::span);
        Spot { path: format!("{}.{key}", section.name()), span }
    }

    /// The position of a key in one table of a list; of the table, if the key is absent. Nothing is reported.
    pub(super) fn spot_in(&self, section: Section, at: usize, key: &str) -> Spot {
        let item = self.root.get(section.name()).and_then(|list| list.get_ref().as_array()?.get(at));
        let value = item.and_then(|item| item.get_ref().as_table()?.get(key));
        let span = value.or(item).map_or(0..0, Spanned::span);
        Spot { path: format!("{}[{at}].{key}", section.name()), span }
    }

    fn check_sections(&self) {
        for key in self.root.keys() {
            let name = key.get_ref().as_ref();
            if Section::ALL.iter().any(|section| section.name() == name) {
                continue;
            }
            let fault = match LATER.iter().find(|(later, _)| *later == name) {
                Some((_, advice)) => Fault::new("is not supported yet").hint(*advice),
                None => unknown_section(name),
            };
            self.source.report(&Spot { path: name.to_owned(), span: key.span() }, fault);
        }
    }
}

/// The most tables that a section may have, and the word for these.
fn most(section: Section) -> (usize, &'static str) {
    match section {
        Section::Listener => (LISTENERS_MAX, "listeners"),
        Section::Sink => (SINKS_MAX, "sinks"),
        Section::Source => (SOURCES_MAX, "sources"),
        Section::Rule => (RULES_MAX, "rules"),
        Section::Bridge => (BRIDGES_MAX, "bridges"),
        Section::Kafka => (CLUSTERS_MAX, "clusters"),
        Section::Auth => (AUTHS_MAX, "[auth.NAME]"),
        _ => unreachable!("other sections are one table"),
    }
}

fn unknown_section(name: &str) -> Fault {
    let fault = Fault::new("unknown key");
    if let Some(cure) = names_of_others::cure_at_the_top(name) {
        return fault.hint(cure);
    }
    if let Some(hint) = belongs_to(name) {
        return fault.hint(hint);
    }
    match did_you_mean(name, Section::ALL.map(Section::name)) {
        Some(hint) => fault.hint(hint),
        None => fault.hint(format!("the file has {}", Section::ALL.map(Section::header).join(", "))),
    }
}

fn service(table: &Table<'_>, overrides: &Overrides, cores: usize) -> Service {
    let read = Service::read(table);
    let asked = overrides.shards.unwrap_or(read.shards);
    let pin = overrides.pin.unwrap_or(read.pin);
    let shards = if asked == 0 { cores.min(SHARDS_MAX) } else { asked };
    if pin && shards > cores {
        let fault = Fault::new(format!("{shards} pinned shards, but only {cores} cores are available"))
            .hint("0 means one per core; with pin = false shards can share cores");
        match overrides.shards {
            Some(_) => table.source.report_option("--shards", fault),
            None => table.source.report(&table.spot("shards"), fault),
        }
    }
    Service { shards, pin, data_dir: overrides.data_dir.clone().unwrap_or(read.data_dir), ..read }
}

fn log(table: &Table<'_>, overrides: &Overrides) -> Log {
    let Log { format, level, payloads } = Log::read(table);
    Log { format: overrides.log_format.unwrap_or(format), level: overrides.log_level.unwrap_or(level), payloads }
}

fn mqtt(table: &Table<'_>) -> Mqtt {
    let mut mqtt = Mqtt::read(table);
    mqtt.packet_bytes_max = mqtt.packet_bytes_max.min(PACKET_BYTES_MAX);
    mqtt.keep_alive_max_s = Some(table.read("keep_alive_max", u16::of)).filter(|seconds| *seconds > 0);
    mqtt.failures_per_address = table.find("failures_per_address", u32::of).unwrap_or_default();
    mqtt
}

fn delivery(table: &Table<'_>, has_log: bool) -> Delivery {
    let asked = table.find("acknowledge", values::word);
    if asked == Some("stored") && !has_log {
        let fault = Fault::new("nothing is stored without a [spool]").hint("add [spool], or leave it out");
        table.source.report(&table.spot("acknowledge"), fault);
    }
    Delivery { waits_for_disk: has_log && asked != Some("received"), ..Delivery::read(table) }
}

fn listeners(
    document: &Document<'_>,
    overrides: &Overrides,
    auths: &[forebay_guard::auth::Settings],
    binds: &mut Binds,
) -> Vec<Listener> {
    let tables = document.tables(Section::Listener);
    document.bound(Section::Listener, &tables);
    let mut listeners = Vec::new();
    for table in &tables {
        let bind = table.find("bind", values::bind);
        let read = Listener::read(table);
        let tls = super::tls::resolve(table, read.transport);
        let (auth, is_open) = if overrides.listen.is_empty() {
            auth::of_listener(table, bind.as_ref(), tls.as_ref(), auths)
        } else {
            (None, false)
        };
        let is_password_needed = auth::requires_password(auth.as_deref(), auths);
        let ws = super::ws::resolve(table, read.transport, is_password_needed);
        let is_proxied = read.proxy_protocol != Expect::Nothing || ws.as_ref().is_some_and(|ws| ws.is_forwarded);
        let proxy_from = proxy_from(table, bind.as_ref(), is_proxied);
        let Some(bind) = bind else { continue };
        let spot = table.spot("bind");
        let moved_by = document.source.set_by(&spot);
        if overrides.listen.is_empty() {
            binds.take(bind.clone(), spot);
        }
        listeners.push(Listener { bind, tls, ws, auth, is_open, proxy_from, moved_by, ..read });
    }
    let options = overrides.listen.iter().map(|bind| {
        binds.take_option(*bind, "--listen");
        if !bind.ip().is_loopback() && !overrides.open {
            document.source.report_option("--listen", auth::reachable(*bind));
        }
        Listener { is_open: overrides.open, ..Listener::plain(*bind, "--listen") }
    });
    if !overrides.listen.is_empty() {
        return options.collect();
    }
    if tables.is_empty() {
        binds.take(LISTENER_DEFAULT, Spot::nowhere("listener[0].bind"));
        return vec![Listener::plain(LISTENER_DEFAULT, "--listen, or bind in [[listener]]")];
    }
    listeners
}

/// Reads `proxy_from`: the trusted proxies, which may name a device's address. Required beyond loopback: without it every client
/// would be trusted.
fn proxy_from(table: &Table<'_>, bind: Option<&Bind>, is_proxied: bool) -> Vec<Network> {
    const KEY: &str = "proxy_from";
    let mut networks = Vec::new();
    let given = if table.has(KEY) { table.texts(KEY) } else { Vec::new() };
    for (text, spot) in given {
        match text.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(why) => {
                let hint = "it is a network or an address, as in \"10.0.0.0/8\" or \"10.0.0.7\"";
                table.source.report(&spot, Fault::new(why).hint(hint));
            }
        }
    }
    let is_reachable = bind.is_some_and(|bind| !bind.is_local());
    match (table.has(KEY), is_proxied) {
        (true, false) => {
            let fault = Fault::new("has no effect: neither proxy_protocol nor forwarded of [listener.ws] is on");
            table.source.report(&table.spot(KEY), fault.hint("set one of them, or remove it"));
        }
        (false, true) if is_reachable => {
            let fault = Fault::new("is required: any peer that reaches this address could claim to be another address");
            let hint =
                "name the proxies, as in proxy_from = [\"10.0.0.0/8\"]; [\"0.0.0.0/0\", \"::/0\"] believes everyone";
            table.source.report(&table.spot(KEY), fault.hint(hint));
        }
        _ => {}
    }
    networks
}

fn control(table: &Table<'_>, overrides: &Overrides, binds: &mut Binds) -> Control {
    let bind = table.read("bind", values::address_or_off);
    let tokens_file = table.find("tokens_file", values::non_empty);
    let is_set = tokens_file.is_some();
    let access = match tokens_file {
        Some(path) if path != "none" => ApiAccess::Tokens(PathBuf::from(path)),
        _ => ApiAccess::Local,
    };
    let (bind, option, moved_by) = match overrides.control {
        Some(bind) => (bind, Some("--control"), "--control".to_owned()),
        None => (bind, None, moved_by(table, "--control, or bind in [control]")),
    };
    if let Some(address) = bind {
        match option {
            Some(option) => binds.take_option(address, option),
            None => binds.take(address, table.spot("bind")),
        }
        if !is_set && !address.ip().is_loopback() {
            let what = format!("{address} can be reached from other machines, and control.tokens_file is not set");
            let fault = Fault::new(what).hint(
                "`forebay token NAME` creates a token and its line for that file; tokens_file = \"none\" serves /api/v1 \
                 to this machine only, and /metrics and the probes to all",
            );
            match option {
                Some(option) => table.source.report_option(option, fault),
                None => table.source.report(&table.spot("bind"), fault),
            }
        }
    }
    let mut file_dirs = Vec::new();
    for (dir, spot) in table.texts("file_dirs") {
        let dir = PathBuf::from(dir);
        if !dir.is_absolute() {
            table.source.report(&spot, Fault::new("is not an absolute path").hint("write it from the root on"));
        }
        file_dirs.push(dir);
    }
    let origins = origins(table);
    if !origins.is_empty() && access == ApiAccess::Local {
        let fault =
            Fault::new("needs control.tokens_file: through a proxy on this machine everyone would be this machine");
        table.source.report(
            &table.spot("origins"),
            fault.hint("`forebay token NAME` creates a token and its line for that file"),
        );
    }
    let base_path = table.find("base_path", values::base_path);
    let grafana_url = table.find("grafana_url", values::web_address);
    Control {
        bind,
        moved_by,
        access,
        file_dirs,
        origins,
        base_path,
        grafana_url,
        tls: tls::of_control(table),
        ..Control::read(table)
    }
}

/// Reads `origins`, each as a browser sends it.
fn origins(table: &Table<'_>) -> Vec<String> {
    let mut origins = Vec::new();
    for (origin, spot) in table.texts("origins") {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_plain = |c: char| c.is_ascii_graphic() && !"/\\?#@,".contains(c);
        if host.is_some_and(|host| !host.is_empty() && host.chars().all(is_plain)) {
            origins.push(origin.to_ascii_lowercase());
        } else {
            let hint = "it is scheme, host and, unless it is the scheme's own, port: \"https://forebay.example\"";
            table.source.report(&spot, Fault::new("is not an origin").hint(hint));
        }
    }
    origins
}

fn embedded(
    table: &Table<'_>,
    service: &Service,
    overrides: &Overrides,
    binds: &mut Binds,
) -> (Embedded, EmbeddedCluster) {
    let mut embedded = Embedded::read(table);
    let (bind, moved_by) = match overrides.embedded {
        Some(bind) => {
            binds.take_option(bind, "--embedded");
            (bind, "--embedded".to_owned())
        }
        None => {
            binds.take(embedded.bind, table.spot("bind"));
            (embedded.bind, moved_by(table, "--embedded, or bind in [embedded]"))
        }
    };
    embedded.bind = bind;
    embedded.moved_by = moved_by;
    let dir = table.find("dir", PathBuf::of);
    embedded.dir = dir.unwrap_or_else(|| service.data_dir.join("log"));
    let advertised = table.find("advertised", |key, value| {
        let broker = values::broker(&values::text(key, value)?)?;
        let host_port = broker.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        Ok(host_port.map(|(host, port)| (host.trim_matches(['[', ']']).to_owned(), port)))
    });
    embedded.advertised = advertised.flatten();
    let as_cluster = EmbeddedCluster {
        bind,
        buffer_bytes: table.find("buffer_bytes", u64::of),
        topics_max: table.read("topics_max", usize::of),
        message_bytes_max: embedded.message_bytes_max as u64,
        spot: table.spot("buffer_bytes"),
    };
    (embedded, as_cluster)
}

fn moved_by(table: &Table<'_>, default: &str) -> String {
    if table.has("bind") { table.source.set_by(&table.spot("bind")) } else { default.to_owned() }
}
