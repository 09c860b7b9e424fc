//! Application of a step: it removes parts from its request, and changes its answer.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, BrokerId, InitProducerIdResponse, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::{Asked, Fault, Script, Step, name_of};
use crate::api::{self, Close, Context, Reply};
use crate::guard::Head;
use crate::store::Store;

/// The reply to a request that was compared with the script.
pub(crate) struct Scripted {
    /// The reply, as without a script.
    pub(crate) reply: Reply,
    /// Whether the connection is closed after the reply.
    pub(crate) close: bool,
}

/// Answers a request as the script says.
pub(crate) async fn answer(context: &Context<'_>, script: &Script, frame: Bytes) -> Result<Scripted, Close> {
    let step = Asked::read(&frame, context.store).and_then(|asked| script.next(&asked));
    let head = Head::read(&frame)?;
    let Some(step) = step else {
        let reply = api::answer(context, frame).await?;
        if let Reply::Answer(bytes, _) = &reply {
            script.answered(head.api_key, bytes.len());
        }
        return Ok(Scripted { reply, close: false });
    };
    let reply = match &step.fault {
        Fault::Close => return Err(Close::Scripted),
        Fault::Late(by) => {
            tokio::time::sleep(*by).await;
            api::answer(context, frame).await?
        }
        Fault::Error(code) if step.api == ApiKey::Produce => {
            let (frame, refused) = without(context.store, frame, head, &step, *code)?;
            refuse(api::answer(context, frame).await?, head, refused)?
        }
        // The other requests change nothing, except for topics that are created: the log's settings forbid those.
        _ => api::answer(context, frame).await?,
    };
    let Reply::Answer(mut bytes, memory) = reply else {
        return Ok(Scripted { reply, close: matches!(step.fault, Fault::CutAnswer(_)) });
    };
    let mut close = false;
    match step.fault {
        Fault::AnswerLate(by) => tokio::time::sleep(by).await,
        Fault::Silence => {
            let _ = context.stopping.clone().wait_for(|stopping| *stopping).await;
        }
        Fault::CutAnswer(len) => {
            bytes.truncate(len);
            close = true;
        }
        Fault::Correlation(by) => {
            let correlation = head.correlation_id.wrapping_add(by);
            bytes[4..8].copy_from_slice(&correlation.to_be_bytes());
        }
        Fault::Length(length) => bytes[..4].copy_from_slice(&length.to_be_bytes()),
        Fault::Garbage(ref garbage) => {
            bytes.truncate(8);
            bytes.extend_from_slice(garbage);
            set_length(&mut bytes)?;
        }
        Fault::Close | Fault::Late(_) => {}
        Fault::Error(_) | Fault::ErrorAfter(_) | Fault::Throttle(_) | Fault::Broker(..) | Fault::NoLeader => {
            bytes = changed(context.store, &bytes, head, &step)?;
        }
    }
    Ok(Scripted { reply: Reply::Answer(bytes, memory), close })
}

/// A Produce request without the batches that the step matches, and the answers for those.
fn without(
    store: &Store,
    mut frame: Bytes,
    head: Head,
    step: &Step,
    code: i16,
) -> Result<(Bytes, Vec<TopicProduceResponse>), Close> {
    let header_version = ApiKey::Produce.request_header_version(head.version);
    let header = RequestHeader::decode(&mut frame, header_version).map_err(text)?;
    let mut request = ProduceRequest::decode(&mut frame, head.version).map_err(text)?;
    let mut refused = Vec::new();
    for topic in &mut request.topic_data {
        let name = name_of(store, &topic.name, topic.topic_id);
        let gone = topic.partition_data.extract_if(.., |data| step.is_about(&name, Some(data.index)));
        let answer = |data: kafka_protocol::messages::produce_request::PartitionProduceData| {
            PartitionProduceResponse::default().with_index(data.index).with_error_code(code).with_base_offset(-1)
        };
        let answers: Vec<_> = gone.map(answer).collect();
        if !answers.is_empty() {
            let topic = TopicProduceResponse::default().with_topic_id(topic.topic_id).with_name(topic.name.clone());
            refused.push(topic.with_partition_responses(answers));
        }
    }
    request.topic_data.retain(|topic| !topic.partition_data.is_empty());
    let mut changed = BytesMut::new();
    header.encode(&mut changed, header_version).map_err(text)?;
    request.encode(&mut changed, head.version).map_err(text)?;
    Ok((changed.freeze(), refused))
}

/// Adds the answers for removed batches to the answer for the rest.
fn refuse(reply: Reply, head: Head, refused: Vec<TopicProduceResponse>) -> Result<Reply, Close> {
    let Reply::Answer(bytes, memory) = reply else { return Err(Close::Scripted) };
    let mut response =
        ProduceResponse::decode(&mut body(&bytes, ApiKey::Produce, head)?, head.version).map_err(text)?;
    for topic in refused {
        let same = |there: &&mut TopicProduceResponse| there.name == topic.name && there.topic_id == topic.topic_id;
        match response.responses.iter_mut().find(same) {
            Some(there) => there.partition_responses.extend(topic.partition_responses),
            None => response.responses.push(topic),
        }
    }
    Ok(Reply::Answer(framed(&bytes, ApiKey::Produce, head, &response)?, memory))
}

/// The answer with the step's changes.
fn changed(store: &Store, bytes: &BytesMut, head: Head, step: &Step) -> Result<BytesMut, Close> {
    let mut body = body(bytes, step.api, head)?;
    match step.api {
        ApiKey::Produce => {
            let mut response = ProduceResponse::decode(&mut body, head.version).map_err(text)?;
            change_produce(store, &mut response, step);
            framed(bytes, step.api, head, &response)
        }
        ApiKey::Metadata => {
            let mut response = MetadataResponse::decode(&mut body, head.version).map_err(text)?;
            change_metadata(&mut response, step);
            framed(bytes, step.api, head, &response)
        }
        ApiKey::InitProducerId => {
            let mut response = InitProducerIdResponse::decode(&mut body, head.version).map_err(text)?;
            match step.fault {
                Fault::Error(code) | Fault::ErrorAfter(code) => response.error_code = code,
                Fault::Throttle(ms) => response.throttle_time_ms = ms,
                _ => {}
            }
            framed(bytes, step.api, head, &response)
        }
        other => Err(Close::Encode(format!("a script cannot do this to {other:?}"))),
    }
}

fn change_produce(store: &Store, response: &mut ProduceResponse, step: &Step) {
    if let Fault::Throttle(ms) = step.fault {
        response.throttle_time_ms = ms;
    }
    let Fault::ErrorAfter(code) = step.fault else { return };
    for topic in &mut response.responses {
        let name = name_of(store, &topic.name, topic.topic_id);
        for data in topic.partition_responses.iter_mut().filter(|data| step.is_about(&name, Some(data.index))) {
            (data.error_code, data.base_offset) = (code, -1);
        }
    }
}

fn change_metadata(response: &mut MetadataResponse, step: &Step) {
    let is_about = |name: Option<&str>| step.topic.is_none() || step.topic.as_deref() == name;
    match &step.fault {
        Fault::Throttle(ms) => response.throttle_time_ms = *ms,
        Fault::Broker(host, port) => {
            for broker in &mut response.brokers {
                (broker.host, broker.port) = (StrBytes::from_string(host.clone()), *port);
            }
        }
        Fault::Error(code) | Fault::ErrorAfter(code) => {
            for topic in response.topics.iter_mut().filter(|topic| is_about(topic.name.as_ref().map(|name| &***name))) {
                topic.error_code = *code;
                topic.partitions.clear();
            }
        }
        Fault::NoLeader => {
            for topic in response.topics.iter_mut().filter(|topic| is_about(topic.name.as_ref().map(|name| &***name))) {
                for partition in &mut topic.partitions {
                    (partition.error_code, partition.leader_id) = (5, BrokerId(-1));
                }
            }
        }
        _ => {}
    }
}

/// The body of an answer: the bytes after length, correlation id, and the tagged fields if there are some.
fn body(bytes: &BytesMut, api: ApiKey, head: Head) -> Result<Bytes, Close> {
    let at = 8 + usize::from(api.response_header_version(head.version) >= 1);
    bytes.get(at..).map(Bytes::copy_from_slice).ok_or_else(|| text("no body"))
}

/// Frames another body like the answer.
fn framed(old: &BytesMut, api: ApiKey, head: Head, body: &impl Encodable) -> Result<BytesMut, Close> {
    let mut bytes = BytesMut::from(&old[..8]);
    if api.response_header_version(head.version) >= 1 {
        bytes.put_u8(0);
    }
    body.encode(&mut bytes, head.version).map_err(text)?;
    set_length(&mut bytes)?;
    Ok(bytes)
}

fn set_length(bytes: &mut BytesMut) -> Result<(), Close> {
    let length = i32::try_from(bytes.len() - 4).map_err(text)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn text(error: impl std::fmt::Display) -> Close {
    Close::Encode(error.to_string())
}
