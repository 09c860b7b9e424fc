//! `[listener.ws]`.

use std::sync::Arc;

use super::keys::Section;
use super::problem::Fault;
use super::reader::{Spot, Table};
use super::resolved::Transport;
use super::values;
use forebay_listener::ws::Settings;

/// Reads the WebSocket settings of a listener's table; each key has a default. `is_password_needed`: no client connects without.
pub(super) fn resolve(listener: &Table<'_>, transport: Transport, is_password_needed: bool) -> Option<Arc<Settings>> {
    let table = listener.part(Section::ListenerWs);
    if !transport.has_ws() {
        if let Some(table) = table {
            let fault = Fault::new("has no effect: transport is not \"ws\" or \"wss\"");
            table.source.report(&table.spot, fault.hint("set transport, or remove [listener.ws]"));
        }
        return None;
    }
    let nothing = toml::de::DeTable::new();
    let defaults = || Table::new(listener.source, Section::ListenerWs, &nothing, Spot::nowhere("listener.ws"));
    let table = table.unwrap_or_else(defaults);
    let path = table.read("path", values::non_empty);
    if !path.starts_with('/') || path.contains(|c: char| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        table.source.report(&table.spot("path"), Fault::new("is no path of a URL").hint("as in path = \"/mqtt\""));
    }
    let origins = if table.has("origins") { table.texts("origins") } else { Vec::new() };
    for (origin, spot) in &origins {
        let authority = origin.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
        if authority.is_none_or(|rest| rest.is_empty() || rest.contains(['/', '*', ' '])) {
            let hint = "it is scheme, host and port if the page has one, as in \"https://app.example\"";
            table.source.report(spot, Fault::new("is no origin").hint(hint));
        }
    }
    let origins: Vec<String> = origins.into_iter().map(|(origin, _)| origin).collect();
    let is_forwarded = table.read("forwarded", values::flag);
    // A password, which a page cannot add by itself, protects the listener from pages.
    let any_origin = is_password_needed && origins.is_empty();
    Some(Arc::new(Settings { path, origins, any_origin, is_forwarded }))
}
