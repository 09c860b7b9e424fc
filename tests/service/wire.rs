//! A Kafka behind a wire that keeps a list of what the service asks: who it is, for which topics. Answers may be withheld, late,
//! or errors.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::spawn;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use forebay::embedded::{EmbeddedLog, Settings};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use socket2::SockRef;

use crate::process::until;
use crate::support::temp_dir;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Does {
    /// Kafka answers it.
    #[default]
    Answer,
    /// Kafka answers it, this much later.
    AnswerAfter(Duration),
    /// Kafka has it, and nothing comes back on its connection any more.
    Mute,
    /// It never comes to Kafka, and nothing comes back.
    Nothing,
    /// Produce: all batches are answered with this code, and Kafka has none of them.
    Fail(i16),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its connection, counted from 0.
    pub(crate) connection: usize,
    pub(crate) api: ApiKey,
    pub(crate) client_id: String,
    /// Metadata, Produce: the topics.
    pub(crate) topics: Vec<String>,
    /// Produce: the batches, each with its topic.
    pub(crate) batches: Vec<(String, Bytes)>,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<Asked>>,
    does: Mutex<HashMap<i16, Does>>,
    connections: AtomicUsize,
}

/// See the module.
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    log: EmbeddedLog,
    _dir: tempfile::TempDir,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("nobody panics with it")
}

impl Wire {
    /// A Kafka whose topics have one partition.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// The same, with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let dir = temp_dir();
        let mut settings = Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), dir.path());
        settings.advertised = Some(("127.0.0.1".to_owned(), address.port()));
        settings.partitions_default = 1;
        change(&mut settings);
        let log = EmbeddedLog::start(settings).expect("a log");
        let (kafka, shared) = (log.local_addr(), Arc::new(Shared::default()));
        let of = Arc::clone(&shared);
        spawn(move || {
            for device in listener.incoming() {
                let (Ok(device), Ok(kafka)) = (device, TcpStream::connect(kafka)) else { return };
                let connection = of.connections.fetch_add(1, Ordering::SeqCst);
                let (from, to) = (kafka.try_clone().expect("a socket"), device.try_clone().expect("a socket"));
                let (is_mute, of) = (Arc::new(AtomicBool::new(false)), Arc::clone(&of));
                let mute = Arc::clone(&is_mute);
                spawn(move || copy(from, to, &is_mute));
                spawn(move || forward(&of, connection, (device, kafka), &mute));
            }
        });
        Self { address, shared, log, _dir: dir }
    }

    /// Where the service finds it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its topics are read, past the wire.
    pub(crate) fn kafka(&self) -> SocketAddr {
        self.log.local_addr()
    }

    /// `[kafka.main]` with these keys, and a sink `all` with those.
    pub(crate) fn config(&self, kafka: &str, sink: &str) -> String {
        let address = self.address;
        format!(
            "[kafka.main]\nbootstrap = \"{address}\"\n{kafka}\n[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\n{sink}\n"
        )
    }

    /// What becomes of requests of this kind from now on.
    pub(crate) fn does(&self, api: ApiKey, does: Does) {
        locked(&self.shared.does).insert(api as i16, does);
    }

    /// What was asked so far, of this kind.
    pub(crate) fn asked(&self, api: ApiKey) -> Vec<Asked> {
        locked(&self.shared.asked).iter().filter(|asked| asked.api == api).cloned().collect()
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The batches of a topic so far.
    pub(crate) fn batches(&self, topic: &str) -> Vec<Bytes> {
        let id = self.topic_id(topic);
        let asked = self.asked(ApiKey::Produce).into_iter().flat_map(|asked| asked.batches);
        asked.filter(|(of, _)| of == topic || *of == id).map(|(_, batch)| batch).collect()
    }

    /// The id of a topic, which Produce names it by from version 13 on.
    fn topic_id(&self, topic: &str) -> String {
        const VERSION: i16 = 12;
        let mut frame = BytesMut::new();
        let header =
            RequestHeader::default().with_request_api_key(ApiKey::Metadata as i16).with_request_api_version(VERSION);
        header.encode(&mut frame, ApiKey::Metadata.request_header_version(VERSION)).expect("a header");
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let request =
            MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]));
        request.encode(&mut frame, VERSION).expect("a request");
        let mut kafka = TcpStream::connect(self.log.local_addr()).expect("the log");
        kafka.write_all(&u32::try_from(frame.len()).expect("short").to_be_bytes()).expect("sent");
        kafka.write_all(&frame).expect("sent");
        let mut length = [0; 4];
        kafka.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        kafka.read_exact(&mut answer).expect("an answer");
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, ApiKey::Metadata.response_header_version(VERSION)).expect("a header");
        let response = MetadataResponse::decode(&mut answer, VERSION).expect("an answer");
        response.topics[0].topic_id.to_string()
    }

    /// Waits for `count` requests of this kind, and returns them.
    pub(crate) fn until_asked(&self, api: ApiKey, count: usize) -> Vec<Asked> {
        until(&format!("{count} requests {api:?}"), || self.asked(api).len() >= count);
        self.asked(api)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, is_mute: &AtomicBool) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !is_mute.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Request by request, until one side closes.
fn forward(shared: &Shared, connection: usize, (mut device, mut kafka): (TcpStream, TcpStream), is_mute: &AtomicBool) {
    let _ = SockRef::from(&kafka).set_tcp_nodelay(true);
    let mut length = [0; 4];
    while device.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        if device.read_exact(&mut frame).is_err() {
            break;
        }
        let frame = Bytes::from(frame);
        let key = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let does = locked(&shared.does).get(&key).copied().unwrap_or_default();
        let asked = read(connection, key, version, &frame);
        locked(&shared.asked).push(asked);
        let pass = |kafka: &mut TcpStream| kafka.write_all(&length).and_then(|()| kafka.write_all(&frame));
        let passed = match does {
            Does::Answer => pass(&mut kafka),
            Does::AnswerAfter(late) => {
                std::thread::sleep(late);
                pass(&mut kafka)
            }
            Does::Mute => {
                is_mute.store(true, Ordering::SeqCst);
                pass(&mut kafka)
            }
            Does::Nothing => Ok(()),
            Does::Fail(code) => device.write_all(&failed(version, frame.clone(), code)),
        };
        if passed.is_err() {
            break;
        }
    }
    let _ = (device.shutdown(Shutdown::Both), kafka.shutdown(Shutdown::Both));
}

fn read(connection: usize, key: i16, version: i16, frame: &Bytes) -> Asked {
    let api = ApiKey::try_from(key).expect("a request of Kafka");
    let mut rest = frame.clone();
    let header = RequestHeader::decode(&mut rest, api.request_header_version(version)).expect("a header");
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    let (mut topics, mut batches) = (Vec::new(), Vec::new());
    match api {
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(&mut rest, version).expect("a request");
            let names = request.topics.into_iter().flatten().filter_map(|topic| topic.name);
            topics.extend(names.map(|name| name.to_string()));
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut rest, version).expect("a request");
            for topic in request.topic_data {
                let named = if topic.name.is_empty() { topic.topic_id.to_string() } else { topic.name.to_string() };
                topics.push(named.clone());
                let records = topic.partition_data.into_iter().filter_map(|partition| partition.records);
                batches.extend(records.map(|records| (named.clone(), records)));
            }
        }
        _ => {}
    }
    Asked { connection, api, client_id, topics, batches }
}

/// An answer to a Produce request: this code for each batch.
fn failed(version: i16, mut frame: Bytes, code: i16) -> BytesMut {
    let header = RequestHeader::decode(&mut frame, ProduceRequest::header_version(version)).expect("a header");
    let request = ProduceRequest::decode(&mut frame, version).expect("a request");
    let topic = |topic: kafka_protocol::messages::produce_request::TopicProduceData| {
        let partition = |index: i32| {
            PartitionProduceResponse::default().with_index(index).with_error_code(code).with_base_offset(-1)
        };
        let partitions = topic.partition_data.iter().map(|data| partition(data.index)).collect();
        TopicProduceResponse::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions)
    };
    let response = ProduceResponse::default().with_responses(request.topic_data.into_iter().map(topic).collect());
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(header.correlation_id);
    header.encode(&mut out, ProduceResponse::header_version(version)).expect("a header");
    response.encode(&mut out, version).expect("an answer");
    let length = u32::try_from(out.len() - 4).expect("small");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}
