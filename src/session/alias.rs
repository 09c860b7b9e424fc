//! Topic aliases of one connection, client to server (section 3.3.2.3.4).

use super::end::Violation;

/// The names behind the aliases. Made by the first PUBLISH that sets one; gone with the connection [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// Alias `n` at `n - 1`; as long as the highest alias in use.
    names: Vec<Option<Box<str>>>,
    bytes: u32,
}

impl Aliases {
    /// Sets or replaces an alias that the caller has checked to be 1 or more.
    ///
    /// # Errors
    /// 0x97 when the names would hold more than `bytes_max` in all.
    pub(super) fn set(&mut self, alias: u16, topic: &str, bytes_max: u32) -> Result<(), Violation> {
        let index = usize::from(alias) - 1;
        if index >= self.names.len() {
            self.names.resize(index + 1, None);
        }
        let entry = &mut self.names[index];
        if entry.as_deref() == Some(topic) {
            return Ok(());
        }
        let freed = entry.as_ref().map_or(0, |old| old.len());
        let bytes = self.bytes as usize - freed + topic.len();
        if bytes > bytes_max as usize {
            return Err(Violation::ALIAS_BYTES);
        }
        self.bytes = bytes as u32;
        *entry = Some(topic.into());
        Ok(())
    }

    /// The name behind an alias.
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
        aliases.set(1, "0123456789", 12).expect("10 of 12");
        assert_eq!(aliases.set(2, "abc", 12), Err(Violation::ALIAS_BYTES));
        aliases.set(1, "0123456789ab", 12).expect("the old name is given back first");
        aliases.set(1, "", 12).expect("shorter");
        aliases.set(2, "abc", 12).expect("room again");
    }
}
