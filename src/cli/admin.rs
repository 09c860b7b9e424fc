//! A blocking connection to a Kafka broker for administration: one request at a time, every step with a bound on its time. The
//! service does not use it; `forebay check` and `forebay topics` do.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeConfigsRequest, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader,
    SaslAuthenticateRequest, SaslHandshakeRequest, TopicName, describe_configs_request::DescribeConfigsResource,
    metadata_request::MetadataRequestTopic, metadata_response::MetadataResponseBroker,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};

use crate::config::Cluster;
use crate::kafka::client::{authentication_refused, handshake_refused};
use crate::secure::Outgoing;
use crate::secure::sasl::{Credentials, Exchange, Helper, Next};

use super::check::{TOPIC_FORBIDDEN, UNKNOWN_TOPIC};
use super::secured::Secured;

/// The largest answer taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// `TOPIC` and `BROKER` as types of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// The last version of Metadata that has the allowed operations on the cluster; all up to here name topics.
const METADATA_VERSION_MAX: i16 = 10;

const CLOSED: &str = "it closed the connection";

/// The stages of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Resolve,
    Connect,
    Tls,
    ApiVersions,
    Login,
    Metadata,
}

impl Stage {
    /// The stage's name in JSON.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ApiVersions => "api_versions",
            Self::Login => "login",
            Self::Metadata => "metadata",
        }
    }
}

/// A socket, or TLS over it.
trait Stream: Read + Write {}
impl Stream for TcpStream {}
impl Stream for Secured {}

/// A connection that has answered as Kafka does.
pub(super) struct Admin {
    stream: Box<dyn Stream>,
    client_id: StrBytes,
    correlation: i32,
    versions: HashMap<i16, (i16, i16)>,
    /// `host:port` as given.
    pub(super) broker: String,
}

impl Admin {
    /// Connects to the first bootstrap broker that answers.
    ///
    /// # Errors
    /// Why none of them answers.
    pub(super) fn connect(cluster: &Cluster) -> Result<Self, Vec<String>> {
        let mut why = Vec::new();
        for broker in &cluster.bootstrap {
            match Self::connect_to(cluster, broker) {
                Ok(admin) => return Ok(admin),
                Err(error) => why.push(error),
            }
        }
        Err(why)
    }

    /// As [`Admin::connect`], with an error that names the cluster.
    ///
    /// # Errors
    /// No broker answers, in words.
    pub(super) fn reach(cluster: &Cluster) -> Result<Self, String> {
        Self::connect(cluster).map_err(|why| format!("kafka.{} cannot be reached: {}", cluster.name, why.join("; ")))
    }

    /// Connects to one broker and learns which requests it knows.
    ///
    /// # Errors
    /// Why the broker cannot be used, in words that name it.
    pub(super) fn connect_to(cluster: &Cluster, broker: &str) -> Result<Self, String> {
        Self::connect_in_stages(cluster, broker).map_err(|(_, why)| why)
    }

    /// Connects to one broker and returns the brokers of its cluster: `ID at HOST:PORT`.
    ///
    /// # Errors
    /// The stage that failed, and why.
    pub(super) fn try_broker(cluster: &Cluster, broker: &str) -> Result<Vec<String>, (Stage, String)> {
        let mut admin = Self::connect_in_stages(cluster, broker)?;
        let metadata = admin.metadata(&[]).map_err(|why| (Stage::Metadata, admin.sasl_missing(cluster, why)))?;
        let member = |one: &MetadataResponseBroker| format!("{} at {}:{}", one.node_id.0, one.host, one.port);
        Ok(metadata.brokers.iter().map(member).collect())
    }

    /// Adds a cure to the error of a broker that requires SASL: it answers ApiVersions, and closes the connection at the next request.
    pub(super) fn sasl_missing(&self, cluster: &Cluster, why: String) -> String {
        if cluster.sasl.is_some() || !why.ends_with(CLOSED) {
            return why;
        }
        format!("{why} at the first request: if its listener wants SASL, set [kafka.{}.sasl]", cluster.name)
    }

    fn connect_in_stages(cluster: &Cluster, broker: &str) -> Result<Self, (Stage, String)> {
        let stream = open(cluster, broker)?;
        let timeout = Some(cluster.times.request_timeout);
        let set = stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout));
        set.and_then(|()| stream.set_nodelay(true)).map_err(|error| (Stage::Connect, format!("{broker}: {error}")))?;
        let stream: Box<dyn Stream> = match &cluster.tls {
            None => Box::new(stream),
            Some(tls) => {
                let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host.trim_matches(['[', ']']));
                let failed = |why: String| (Stage::Tls, format!("{broker}: TLS: {why}"));
                let tls = Outgoing::load(tls).map_err(|problems| failed(problems.join("; ")))?;
                Box::new(Secured::over(stream, tls.layer(host)).map_err(|error| failed(said(&error)))?)
            }
        };
        let client_id = StrBytes::from(cluster.client_id.clone());
        let (broker, versions) = (broker.to_owned(), HashMap::new());
        let mut admin = Self { stream, client_id, correlation: 0, versions, broker };
        // Every broker understands version 0.
        let answer = admin.ask_at(&ApiVersionsRequest::default(), 0).map_err(|error| {
            if error.contains("TLS") {
                // A certificate is refused after the handshake.
                return (Stage::Tls, error);
            }
            let hint = match cluster.tls {
                None => format!("; if its listener wants TLS, add [kafka.{}.tls]", cluster.name),
                Some(_) => String::new(),
            };
            (Stage::ApiVersions, format!("{error}; this is not a response of a Kafka broker{hint}"))
        })?;
        if answer.error_code != 0 {
            let why = format!("{}: ApiVersions was refused with error {}", admin.broker, answer.error_code);
            return Err((Stage::ApiVersions, why));
        }
        let versions = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        admin.versions = versions.collect();
        if let Some(sasl) = &cluster.sasl {
            admin.log_in(&sasl.credentials).map_err(|why| (Stage::Login, why))?;
        }
        Ok(admin)
    }

    /// Logs in by SASL.
    ///
    /// # Errors
    /// Why it failed, in words that name the broker, the user and the mechanism.
    fn log_in(&mut self, credentials: &Arc<Credentials>) -> Result<(), String> {
        let mechanism = credentials.mechanism.name();
        let by = if credentials.user.is_empty() {
            mechanism.to_owned()
        } else {
            format!("{} by {mechanism}", credentials.user)
        };
        let broker = self.broker.clone();
        let refused = |why: String| format!("{broker}: the login of {by} was refused: {why}");
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let agreed = self.ask_at(&request, 1)?;
        if agreed.error_code != 0 {
            let taken: Vec<&str> = agreed.mechanisms.iter().map(|name| &**name).collect();
            return Err(refused(handshake_refused(agreed.error_code, &taken.join(", "))));
        }
        let version = self
            .version::<SaslAuthenticateRequest>(2)
            .ok_or_else(|| refused("it is older than Kafka 1.0".to_owned()))?;
        let (mut exchange, mut helper) = (Exchange::new(Arc::clone(credentials)), Helper::default());
        let mut next = exchange.begin();
        loop {
            next = match next.map_err(refused)? {
                Next::Done => return Ok(()),
                Next::Prepare(task) => exchange.prepared(helper.run(&task)),
                Next::Send(message) => {
                    let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
                    let answer = self.ask_at(&request, version)?;
                    if answer.error_code != 0 {
                        let why = answer.error_message.map_or_else(String::new, |why| why.to_string());
                        return Err(refused(authentication_refused(answer.error_code, &why, exchange.refusal())));
                    }
                    exchange.answered(&answer.auth_bytes)
                }
            }
        }
    }

    /// The brokers, and the metadata of these topics: the request creates none.
    pub(super) fn metadata(&mut self, topics: &[&str]) -> Result<MetadataResponse, String> {
        let Some(version) = self.version::<MetadataRequest>(METADATA_VERSION_MAX).filter(|version| *version >= 4)
        else {
            return Err(format!("{}: it is older than Kafka 1.0, or does not support Metadata requests", self.broker));
        };
        let named = |topic: &&str| {
            MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from((*topic).to_owned()))))
        };
        let request = MetadataRequest::default()
            .with_topics(Some(topics.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false)
            .with_include_topic_authorized_operations(version >= 8);
        self.ask_at(&request, version)
    }

    /// The number of partitions of a topic.
    ///
    /// # Errors
    /// Why it cannot be used: it does not exist, or may not be seen.
    pub(super) fn partitions(&mut self, topic: &str) -> Result<usize, String> {
        let found = self.metadata(&[topic])?.topics.into_iter().next().ok_or("the cluster says nothing of it")?;
        match found.error_code {
            0 => Ok(found.partitions.len()),
            UNKNOWN_TOPIC => Err("it does not exist".to_owned()),
            TOPIC_FORBIDDEN => Err("the login may not see it, or it does not exist".to_owned()),
            code => Err(format!("the cluster answers with error {code}")),
        }
    }

    /// The values of a broker's settings, as far as the cluster returns them; `None`: it returns none.
    pub(super) fn broker_settings(&mut self, node: i32, names: &[&'static str]) -> Option<HashMap<String, String>> {
        self.settings(BROKER, node.to_string(), names)
    }

    /// The number in a setting of a topic; `None`: the cluster does not return it (it requires `DESCRIBE_CONFIGS` on the topic).
    pub(super) fn topic_setting(&mut self, topic: &str, name: &'static str) -> Option<u64> {
        self.topic_text(topic, name)?.parse().ok()
    }

    /// The text of a setting of a topic; `None`: the cluster does not return it.
    pub(super) fn topic_text(&mut self, topic: &str, name: &'static str) -> Option<String> {
        self.settings(TOPIC, topic.to_owned(), &[name])?.remove(name)
    }

    fn settings(&mut self, kind: i8, of: String, names: &[&'static str]) -> Option<HashMap<String, String>> {
        let version = self.version::<DescribeConfigsRequest>(i16::MAX)?;
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from(of))
            .with_configuration_keys(Some(names.iter().map(|name| StrBytes::from_static_str(name)).collect()));
        let answer = self.ask_at(&DescribeConfigsRequest::default().with_resources(vec![resource]), version).ok()?;
        let result = answer.results.into_iter().next().filter(|result| result.error_code == 0)?;
        let told = result.configs.into_iter().filter_map(|c| Some((c.name.to_string(), c.value?.to_string())));
        Some(told.collect())
    }

    /// The highest version, `max` at most, that both sides speak; `None`: there is none.
    pub(super) fn version<R: Request>(&self, max: i16) -> Option<i16> {
        let (first, last) = *self.versions.get(&R::KEY)?;
        let version = last.min(R::VERSIONS.max).min(max);
        (version >= first.max(R::VERSIONS.min)).then_some(version)
    }

    /// As [`Admin::version`], `min` at least.
    ///
    /// # Errors
    /// The broker has no such version, in words that name the request.
    pub(super) fn needs<R: Request>(&self, (min, max): (i16, i16), name: &str) -> Result<i16, String> {
        let version = self.version::<R>(max).filter(|version| *version >= min);
        version.ok_or_else(|| format!("{}: it does not support {name}", self.broker))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The failure, in words that name the broker. The connection is unusable then.
    pub(super) fn ask_at<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, String> {
        self.correlation += 1;
        let asked = self.send(request, version).and_then(|()| self.receive());
        let mut answer = asked.map_err(|error| format!("{}: {error}", self.broker))?;
        let malformed = |_| format!("{}: the response cannot be parsed", self.broker);
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(malformed)?;
        if header.correlation_id != self.correlation {
            return Err(format!("{}: the response belongs to another request", self.broker));
        }
        R::Response::decode(&mut answer, version).map_err(malformed)
    }

    fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<(), String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(self.client_id.clone()));
        let mut body = BytesMut::new();
        let encoded = header.encode(&mut body, R::header_version(version));
        encoded.and_then(|()| request.encode(&mut body, version)).map_err(|error| error.to_string())?;
        let mut frame = BytesMut::with_capacity(4 + body.len());
        frame.put_u32(u32::try_from(body.len()).map_err(|_| "the request is too long".to_owned())?);
        frame.extend_from_slice(&body);
        self.stream.write_all(&frame).map_err(|error| said(&error))
    }

    fn receive(&mut self) -> Result<Bytes, String> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|error| said(&error))?;
        let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
        let length = length.ok_or("the response has an invalid length")?;
        // The buffer grows with the received bytes, not with the announced length.
        let mut answer = Vec::new();
        let read = (&mut self.stream).take(length as u64).read_to_end(&mut answer).map_err(|error| said(&error))?;
        if read < length { Err(CLOSED.to_owned()) } else { Ok(answer.into()) }
    }
}

fn open(cluster: &Cluster, broker: &str) -> Result<TcpStream, (Stage, String)> {
    let addresses: Vec<_> = broker
        .to_socket_addrs()
        .map_err(|error| (Stage::Resolve, format!("{broker}: cannot resolve the host name ({error})")))?
        .collect();
    if addresses.is_empty() {
        return Err((Stage::Resolve, format!("{broker}: the host name has no address")));
    }
    let mut why = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, cluster.times.connect_timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                why = format!("{broker}: connection refused: nothing listens on that port");
            }
            Err(error) => why = format!("{broker}: {}", said(&error)),
        }
    }
    Err((Stage::Connect, why))
}

fn said(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "timed out".to_owned(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CLOSED.to_owned(),
        _ => error.to_string(),
    }
}
