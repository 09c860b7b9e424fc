//! Republish actions: `[[rule.republish]]`.

use toml_edit::{InlineTable, Value};

use super::draft::Block;
use super::given::Given;
use super::rule::template_or_constant;

/// Keys with EMQX's defaults, which are ours.
const DEFAULTS: [(&str, &str); 4] =
    [("payload", "${payload}"), ("qos", "${qos}"), ("retain", "${retain}"), ("user_properties", "${user_properties}")];

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
    block.set("topic", constant(&given, "topic").unwrap_or_else(|| Value::from("")));
    for (key, default) in DEFAULTS {
        block.set_some(key, constant(&given, key).filter(|value| value.as_str() != Some(default)));
    }
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
