//! Topic aliases of one connection, client to server (section 3.3.2.3.4); with those from server to client.

use super::end::Violation;
use super::sent_aliases::SentAliases;

/// The topic names of a connection's aliases. Created by the first PUBLISH, of either side, that sets one; gone with the connection
/// [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// Alias `n` at `n - 1`; as long as the highest alias in use.
    names: Vec<Option<Box<str>>>,
    bytes: u32,
    /// Server to client.
    pub(super) sent: SentAliases,
}

/// Bytes of an alias, besides its name.
const ENTRY_BYTES: usize = size_of::<Option<Box<str>>>();

impl Aliases {
    /// Sets or replaces an alias that the caller has checked to be 1 or more, up to what CONNACK announced [MQTT-3.3.2-12].
    ///
    /// # Errors
    /// 0x97 if the aliases would take more than `bytes_max` in all ([`Aliases::memory`]).
    pub(super) fn set(&mut self, alias: u16, topic: &str, bytes_max: usize) -> Result<(), Violation> {
        let index = usize::from(alias) - 1;
        let entry = self.names.get(index).and_then(Option::as_deref);
        if entry == Some(topic) {
            return Ok(());
        }
        let bytes = self.bytes as usize - entry.map_or(0, str::len) + topic.len();
        let entries = self.names.len().max(index + 1);
        if bytes + entries * ENTRY_BYTES > bytes_max {
            return Err(Violation::ALIAS_BYTES);
        }
        self.names.resize(entries, None);
        let entry = &mut self.names[index];
        self.bytes = bytes as u32;
        *entry = Some(topic.into());
        Ok(())
    }

    /// Bytes of memory that the aliases take.
    pub(super) fn memory(&self) -> usize {
        self.bytes as usize + self.names.len() * ENTRY_BYTES
    }

    /// The topic name of an alias.
    pub(super) fn get(&self, alias: u16) -> Option<&str> {
        self.names.get(usize::from(alias).checked_sub(1)?)?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_replace_and_look_up() {
        let mut aliases = Aliases::default();
        assert_eq!(aliases.get(1), None);
        aliases.set(2, "a/b", 100).expect("room");
        assert_eq!((aliases.get(0), aliases.get(1), aliases.get(2), aliases.get(3)), (None, None, Some("a/b"), None));
        aliases.set(2, "c", 100).expect("room");
        assert_eq!(aliases.get(2), Some("c"));
    }

    #[test]
    fn names_are_bounded_by_their_bytes() {
        let mut aliases = Aliases::default();
        let room = 12 + 2 * ENTRY_BYTES;
        aliases.set(1, "0123456789", room).expect("10 of 12");
        assert_eq!(aliases.set(2, "abc", room), Err(Violation::ALIAS_BYTES));
        assert_eq!(aliases.set(3, "", room), Err(Violation::ALIAS_BYTES), "the table itself counts");
        aliases.set(1, "0123456789ab", room).expect("the old name is given back first");
        aliases.set(1, "", room).expect("shorter");
        aliases.set(2, "abc", room).expect("room again");
        assert_eq!(aliases.memory(), 3 + 2 * ENTRY_BYTES);
    }
}
