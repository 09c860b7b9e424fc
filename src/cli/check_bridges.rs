//! Findings about bridges, for `forebay check` and `POST /api/v1/bridges/NAME/test`: the grants of each remote, or why there are
//! none. The remote is asked by the client that bridges have, under another client ID and with a session that ends with the
//! connection. No message is acknowledged or taken from another subscriber: filters are without `share`, and without retained
//! messages.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::{Line, Verdict};
use crate::bridge::{Client, Effect, Ending, Event, Granted, Login, Retained, Settings, Standing, Wanted};
use crate::config::{Bridge, Config};
use crate::mqtt::packet::{Packet, QoS, Sender, SubscriptionOptions, Version};
use crate::mqtt::{decode, frame};
use crate::outward::{Ended, LinkId, News};
use crate::runtime::seam::{Layer, Monotonic};
use crate::secure::Outgoing;
use crate::shard::layer_of_bridge;

/// The end of the client ID.
const CLIENT_ID_END: &str = "-check";
/// The longest wait of a read for bytes before timers are checked.
const READ_FOR: Duration = Duration::from_millis(50);
/// The longest wait for a remote's answer to the SUBSCRIBE, from the beginning on, beyond `connect_timeout`.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Kinds of errors of a read without bytes.
const NOTHING_YET: [ErrorKind; 3] = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
/// DISCONNECT of every version.
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Adds lines for each bridge.
pub(super) fn of_bridges(config: &Config, lines: &mut Vec<Line>) {
    let mut config = config.clone();
    config.name_instances();
    for bridge in &config.bridges {
        let found = match bridge.paused {
            true => vec![(Verdict::Ok, "is paused, and was not connected".to_owned())],
            false => try_bridge(&config, bridge),
        };
        let about = format!("bridge {}", bridge.name);
        lines.extend(found.into_iter().map(|(verdict, text)| Line { verdict, about: about.clone(), text }));
    }
}

/// The grants of a bridge's remote, or why there are none. The configuration has the names of the instance in place.
pub(super) fn try_bridge(config: &Config, bridge: &Bridge) -> Vec<(Verdict, String)> {
    match Asking::new(bridge, config.mqtt.packet_bytes_max).and_then(Asking::run) {
        Ok((granted, standings)) => said(bridge, &granted, &standings).collect(),
        Err(why) => vec![(Verdict::Problem, format!("{}: {why}", bridge.url.shown()))],
    }
}

/// A remote's grants, in lines.
fn said(bridge: &Bridge, granted: &Granted, standings: &[Standing]) -> impl Iterator<Item = (Verdict, String)> {
    let mut lines = vec![(Verdict::Ok, format!("{}: {}", bridge.url.shown(), of_connection(granted)))];
    if !bridge.outs.is_empty() {
        if granted.maximum_qos < QoS::ExactlyOnce {
            let what = format!("takes messages at QoS {} at most; others are sent at that", granted.maximum_qos as u8);
            lines.push((Verdict::Warning, what));
        }
        if !granted.retain_available {
            lines.push((Verdict::Warning, "takes no RETAIN; messages are sent without it".to_owned()));
        }
    }
    lines.extend(loops(bridge, granted).map(|what| (Verdict::Warning, what)));
    let wanted = wanted(bridge);
    for one in &bridge.ins {
        let (mut granted_count, own) = (0, format!("in {}", one.name));
        if one.share.is_some() && !granted.shared_available {
            lines.push((Verdict::Problem, format!("{own}: the remote has no shared subscriptions; leave out share")));
        }
        for filter in &one.takes.filters {
            let place = wanted.iter().position(|wanted| wanted.filter == *filter);
            match place.and_then(|place| standings.get(place)).unwrap_or(&Standing::Open) {
                Standing::Granted(qos) if *qos >= one.qos => granted_count += 1,
                Standing::Granted(qos) => {
                    let what = format!("{own}: \"{filter}\" is granted at QoS {}, not {}", *qos as u8, one.qos as u8);
                    lines.push((Verdict::Warning, what));
                }
                Standing::Refused(reason) => {
                    lines.push((Verdict::Problem, format!("{own}: \"{filter}\" is refused: {}", reason.name())));
                }
                Standing::Open => lines.push((Verdict::Problem, format!("{own}: \"{filter}\" was not answered"))),
            }
        }
        if granted_count > 0 {
            let filters = if granted_count == 1 { "filter" } else { "filters" };
            let what = format!("{own}: {granted_count} {filters} granted at QoS {}", one.qos as u8);
            lines.push((Verdict::Ok, what));
        }
    }
    lines.into_iter()
}

/// Whether messages may come back from the remote that went out by the bridge.
fn loops(bridge: &Bridge, granted: &Granted) -> Option<String> {
    let (takes, sends) = bridge.overlap()?;
    let why = match &granted.instance {
        Some(instance) => format!("and the remote is Forebay (instance {instance}): with a bridge from there to here that is a ring, and messages are dropped when they come round"),
        None if granted.version < Version::V5 => {
            "and before MQTT 5.0 a message does not tell where it has come from: one that goes round ends after 500 rounds".to_owned()
        }
        None => return None,
    };
    Some(format!("in takes \"{takes}\" of what out sends of \"{sends}\", {why}"))
}

/// The grants of CONNACK.
fn of_connection(granted: &Granted) -> String {
    let bridge = if granted.is_bridge { " as a bridge" } else { "" };
    let mut text = format!("connected with MQTT {}{bridge}", granted.version.as_str());
    if granted.version == Version::V5 {
        let has = |is_there: bool, what: &str| format!("{}{what}", if is_there { "" } else { "no " });
        let alive = match granted.keep_alive_s {
            0 => "off".to_owned(),
            seconds => format!("{seconds} s"),
        };
        text += &format!(
            "; Maximum QoS {}, up to {} messages on their way, {}, {}, {}, keep-alive {alive}",
            granted.maximum_qos as u8,
            granted.in_flight_max,
            has(granted.retain_available, "retained messages"),
            has(granted.wildcards_available, "wildcards"),
            has(granted.shared_available, "shared subscriptions"),
        );
        if granted.packet_size_max < u32::MAX {
            text += &format!(", packets up to {} bytes", granted.packet_size_max);
        }
    }
    text
}

/// A connection to the remote.
struct Wire {
    link: LinkId,
    stream: TcpStream,
    layer: Option<Box<dyn Layer>>,
    /// Bytes of an incomplete packet.
    torn: Vec<u8>,
}

/// A trial of one remote.
struct Asking<'b> {
    bridge: &'b Bridge,
    client: Client,
    began: Instant,
    wire: Option<Wire>,
    granted: Option<Granted>,
    packet_bytes_max: u32,
}

type Answer = (Granted, Vec<Standing>);

impl<'b> Asking<'b> {
    fn new(bridge: &'b Bridge, packet_bytes_max: u32) -> Result<Self, String> {
        let tls = bridge.tls.as_ref().map(Outgoing::load).transpose().map_err(|problems| problems.join("; "))?;
        let client = Client::new(settings(bridge, tls.map(Arc::new), packet_bytes_max), fastrand::u64(..));
        Ok(Self { bridge, client, began: Instant::now(), wire: None, granted: None, packet_bytes_max })
    }

    fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Asks until all filters are answered, or something fails.
    fn run(mut self) -> Result<Answer, String> {
        self.client.start(self.now());
        loop {
            let mut effects = Vec::new();
            self.client.take_effects(&mut effects);
            if effects.is_empty() {
                if self.began.elapsed() > self.bridge.connect_timeout + ANSWER_MAX {
                    return Err("it has not answered the SUBSCRIBE".to_owned());
                }
                self.hear()?;
                let now = self.now();
                self.client.on_time(|_| 0, now);
            }
            for effect in effects {
                if let Some(standings) = self.carry_out(effect)? {
                    self.send(&DISCONNECT);
                    let granted = self.granted.ok_or("CONNACK has not come")?;
                    return Ok((granted, standings));
                }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Result<Option<Vec<Standing>>, String> {
        let now = self.now();
        match effect {
            Effect::Resolve { ticket, host, port } => {
                let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
                self.client.on_resolved(ticket, found.map_err(|error| format!("{host}: {error}")), now);
            }
            Effect::Connect { link, to, layer } => self.connect(link, to, layer),
            Effect::Send { chunks, .. } => chunks.iter().for_each(|chunk| self.send(chunk.bytes())),
            Effect::Close { .. } => self.wire = None,
            Effect::Prepare { .. } => {}
            Effect::Event(event) => return self.learn(event),
        }
        Ok(None)
    }

    fn learn(&mut self, event: Event) -> Result<Option<Vec<Standing>>, String> {
        match event {
            Event::Connected(_, granted) => self.granted = Some(*granted),
            Event::Subscribed(standings) => return Ok(Some(standings)),
            Event::Lost(_, why) | Event::Unreachable(_, why) => return Err(why),
            Event::Outward(News::LoginRefused(refused)) => {
                let keys = "username, password_file and client_id are those of the remote";
                return Err(format!(
                    "refused: {}; {keys} (the check's client ID ends with \"{CLIENT_ID_END}\")",
                    refused.reason
                ));
            }
            Event::Outward(News::TlsFailed(_, why)) => {
                return Err(format!("TLS: {why}; [bridge.{}.tls] has CAs, certificate and names", self.bridge.name));
            }
            Event::Outward(_) => {}
        }
        Ok(None)
    }

    fn connect(&mut self, link: LinkId, to: SocketAddr, below: Option<Box<dyn Layer>>) {
        let layer = layer_of_bridge(&self.bridge.url, below);
        let stream = TcpStream::connect_timeout(&to, self.bridge.connect_timeout);
        let ready = stream.and_then(|stream| stream.set_read_timeout(Some(READ_FOR)).map(|()| stream));
        match ready {
            Err(error) => self.ended(link, Ended::Lost(error.to_string().into())),
            Ok(stream) => {
                let is_plain = layer.is_none();
                self.wire = Some(Wire { link, stream, layer, torn: Vec::new() });
                if is_plain {
                    self.client.on_connected(link);
                } else if let Err(why) = self.take(&mut []) {
                    self.ended(link, why);
                }
            }
        }
    }

    fn ended(&mut self, link: LinkId, why: Ended) {
        self.wire = None;
        let now = self.now();
        self.client.on_closed(link, &why, now);
    }

    fn send(&mut self, plain: &[u8]) {
        let Some(wire) = &mut self.wire else { return };
        let mut sealed = Vec::new();
        let written = match &mut wire.layer {
            None => wire.stream.write_all(plain),
            Some(layer) => match layer.seal(plain, &mut sealed) {
                Ok(()) => wire.stream.write_all(&sealed),
                Err(error) => Err(std::io::Error::other(error.what)),
            },
        };
        // The next read returns the error.
        drop(written);
    }

    /// Reads the socket once.
    fn hear(&mut self) -> Result<(), String> {
        let Some(wire) = &mut self.wire else {
            std::thread::sleep(READ_FOR);
            return Ok(());
        };
        let link = wire.link;
        let mut bytes = [0; 16 << 10];
        let why = match wire.stream.read(&mut bytes) {
            Ok(0) => Ended::Lost("closed by the remote".into()),
            Ok(count) => match self.take(&mut bytes[..count]) {
                Ok(()) => return self.packets(),
                Err(why) => why,
            },
            Err(error) if NOTHING_YET.contains(&error.kind()) => return Ok(()),
            Err(error) => Ended::Lost(error.to_string().into()),
        };
        self.ended(link, why);
        Ok(())
    }

    /// Passes received bytes through the layer.
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Ended> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let Some(layer) = &mut wire.layer else {
            wire.torn.extend_from_slice(bytes);
            return Ok(());
        };
        let mut answer = Vec::new();
        let opened = layer.open(bytes, &mut wire.torn, &mut answer);
        let _ = wire.stream.write_all(&answer);
        let facts = opened.map_err(|error| Ended::of(&crate::runtime::seam::Closed::Layer(error), false))?;
        if facts.is_some() {
            self.client.on_connected(wire.link);
        }
        Ok(())
    }

    /// Gives the client CONNACK, and each packet that is for it. Messages are skipped.
    fn packets(&mut self) -> Result<(), String> {
        let now = self.now();
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let mut torn = std::mem::take(&mut wire.torn);
        if self.client.standing().is_none() {
            let used = self.client.on_bytes(wire.link, &torn, now);
            torn.drain(..used);
        }
        let version = self.client.standing().map(|(granted, _)| granted.version);
        while let Some(version) = version {
            let malformed = |malformed: crate::mqtt::malformed::Malformed| malformed.to_string();
            let Some(next) =
                frame::next_for(version, Sender::Server, &torn, self.packet_bytes_max).map_err(malformed)?
            else {
                break;
            };
            let len = next.len;
            match decode::decode(version, Sender::Server, next).map_err(malformed)? {
                Packet::Publish(_) | Packet::PubRel(_) => {}
                packet => self.client.packet(&packet, now).map_err(|why| match why {
                    Ending::Violation(malformed) => malformed.to_string(),
                    Ending::Left(refusal) => format!("it has ended the connection: {refusal}"),
                })?,
            }
            torn.drain(..len);
        }
        if let Some(wire) = &mut self.wire {
            wire.torn = torn;
        }
        Ok(())
    }
}

/// The filters, each once: with shares a bridge may have one twice.
fn wanted(bridge: &Bridge) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    let each = bridge.ins.iter().flat_map(|of| of.takes.filters.iter().map(move |filter| (filter, of.qos)));
    for (filter, qos) in each {
        let retain_handling = Retained::None.handling();
        let options = SubscriptionOptions { qos, no_local: true, retain_as_published: true, retain_handling };
        match all.iter_mut().find(|known| known.filter == *filter) {
            Some(known) => known.options.qos = known.options.qos.max(qos),
            None => all.push(Wanted { filter: filter.clone(), options }),
        }
    }
    all
}

/// The settings of the bridge's client, under another client ID, with a session that ends with the connection.
fn settings(bridge: &Bridge, tls: Option<Arc<Outgoing>>, packet_bytes_max: u32) -> Settings {
    let client_id = match bridge.client_id.as_str() {
        "" => String::new(),
        client_id => format!("{client_id}{CLIENT_ID_END}"),
    };
    let of_bridge = bridge.settings(tls, packet_bytes_max, wanted(bridge));
    let login = Login {
        client_id: client_id.into(),
        clean_start: true,
        session_expiry_s: 0,
        in_flight_max: None,
        ..of_bridge.login
    };
    Settings { login, ..of_bridge }
}
