//! Republish actions: `[[rule.republish]]`.

use toml_edit::{InlineTable, Value};

use super::draft::Block;
use super::given::Given;
use super::rule::template_or_constant;

/// EMQX's defaults.
const QOS: &str = "${qos}";
const RETAIN: &str = "${retain}";
const PAYLOAD: &str = "${payload}";
const USER_PROPERTIES: &str = "${user_properties}";

/// Makes the block of a republish action.
pub(super) fn republish(given: Given<'_>) -> Block {
    let mut block = Block::listed("rule.republish", given.about()).part();
    let constant = |given: &Given<'_>, key: &str| {
        let value = given.get(key)?;
        let read = template_or_constant(value);
        if read.is_none() {
            given.left_out(key, "it is neither a text nor a constant");
        }
        read
    };
    let read = |key: &str, default: &str| constant(&given, key).unwrap_or_else(|| Value::from(default));
    block.set("topic", read("topic", ""));
    block.set("payload", read("payload", PAYLOAD));
    block.set("qos", read("qos", QOS));
    block.set("retain", read("retain", RETAIN));
    block.set("user_properties", read("user_properties", USER_PROPERTIES));
    let properties = given.part("mqtt_properties");
    let mut table = InlineTable::new();
    for name in properties.keys() {
        if let Some(value) = constant(&properties, name) {
            table.insert(name, value);
        }
    }
    block.set_some("properties", (!table.is_empty()).then_some(Value::from(table)));
    match constant(&given, "direct_dispatch") {
        None => {}
        Some(direct) if direct.as_bool().is_some() => {
            block.set_some("direct", direct.as_bool().filter(|direct| *direct));
        }
        Some(_) => given.left_out("direct_dispatch", "it is true or false here, no template"),
    }
    properties.finish();
    given.finish();
    block
}
