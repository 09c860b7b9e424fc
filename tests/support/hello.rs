//! The CONNECT of a client that asks for nothing special.

use forebay::mqtt::packet::{Connect, Version};
use forebay::mqtt::property::Properties;

/// Clean start, no keep-alive.
pub(crate) fn hello(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        is_bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}
