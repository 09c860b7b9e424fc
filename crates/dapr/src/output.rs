//! Publishes of applications, by either API. Refusals are in Dapr's words.

use super::numbers::Of;
use super::{Bound, Outcome, Shared};
use forebay_mqtt::topic::valid_name;

/// The operation of a binding.
pub(super) const CREATE: &str = "create";

/// Publishes a message by the binding of this name, if the operation is `create`. `topic`: the topic in the message itself.
///
/// # Errors
/// Why the message was not published, or that its outcome is not known.
pub(super) async fn publish(
    shared: &Shared,
    name: &str,
    operation: &str,
    topic: Option<&str>,
    payload: Vec<u8>,
) -> Result<(), String> {
    let all = shared.bindings();
    let is_it = |(_, _, binding): &&Bound| binding.component == name && binding.gives.is_some();
    let Some((bridge, gives)) = all.iter().find(is_it).and_then(|(at, _, of)| Some((*at, of.gives.as_ref()?))) else {
        return Err(format!("couldn't find output binding {name}"));
    };
    match operation {
        "" => return Err("operation field is missing from request".to_owned()),
        CREATE => {}
        other => {
            return Err(format!("binding {name} does not support operation {other}. supported operations:{CREATE}"));
        }
    }
    let Some(topic) = topic.filter(|topic| !topic.is_empty()).or(gives.topic.as_deref()) else {
        return Err("the topic of the component is a filter, and metadata has no topic".to_owned());
    };
    if !valid_name(topic) {
        return Err(format!("{topic:?} is no topic to publish to"));
    }
    let bytes_max = shared.settings.body_bytes_max;
    if topic.len() + payload.len() > bytes_max {
        return Err(format!("the message is longer than {bytes_max} bytes"));
    }
    let outcome = shared.create(bridge, topic.to_owned(), payload, (gives.qos, gives.retain)).await;
    let (count, said) = match outcome {
        Outcome::Done => (Of::CreateDone, Ok(())),
        Outcome::Failed(why) => (Of::CreateFailed, Err(why)),
        Outcome::Unknown(why) => (Of::CreateUnknown, Err(why)),
    };
    shared.numbers.count(name, count);
    said
}

/// Dapr's words for a message that an application could not publish.
pub(super) fn failed(name: &str, why: &str) -> String {
    format!("error invoking output binding {name}: {why}")
}

/// A component in the metadata of the API.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) capabilities: Vec<&'static str>,
}

/// All components, each once.
pub(super) fn registered(shared: &Shared) -> Vec<Registered> {
    let mut all: Vec<Registered> = Vec::new();
    for (_, _, binding) in shared.bindings().iter() {
        let mut can = Vec::new();
        can.extend(binding.takes.as_ref().map(|_| "INPUT_BINDING"));
        can.extend(binding.gives.as_ref().map(|_| "OUTPUT_BINDING"));
        match all.iter_mut().find(|known| known.name == binding.component) {
            Some(known) => known.capabilities.extend(can),
            None => all.push(Registered { name: binding.component.clone(), kind: binding.kind, capabilities: can }),
        }
    }
    all
}

/// The version of the runtime in the metadata of the API.
pub(super) const VERSION: &str = concat!("forebay-", env!("CARGO_PKG_VERSION"));
