//! The first bytes of a trunk, from the side that has made it: which protocol this is, in which version, who speaks, and for which shard.

use super::frame::Malformed;

/// The first bytes of every trunk.
const MAGIC: &[u8] = b"forebay trunk\0";
/// The version of the preface and of all that follows it.
const VERSION: u8 = 1;
/// The longest name.
const NAME_BYTES_MAX: usize = 1024;
/// Magic, version, shard and length of the name.
const FIXED: usize = MAGIC.len() + 1 + 2 + 2;

/// The preface of a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preface {
    /// Name of the instance that has made the trunk.
    pub front: Box<str>,
    /// The shard that the trunk is for, 0-based.
    pub shard: u16,
}

impl Preface {
    /// Appends the preface. A name that is too long is cut, which no instance has.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = self.front.as_bytes();
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.shard.to_be_bytes());
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(name);
    }

    /// Reads a preface from all bytes that a connection has sent so far. Returns the preface and its length in bytes. `None`: it is not whole yet.
    ///
    /// # Errors
    /// The bytes are no preface, or one of another version.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(Malformed("the first bytes are not those of an instance"));
        }
        if bytes.get(MAGIC.len()).is_some_and(|version| *version != VERSION) {
            return Err(Malformed("of a version that this one does not know"));
        }
        let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else { return Ok(None) };
        let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (shard, len) = (number(MAGIC.len() + 1), usize::from(number(MAGIC.len() + 3)));
        if len > NAME_BYTES_MAX {
            return Err(Malformed("with a name that is too long"));
        }
        let Some(name) = rest.get(..len) else { return Ok(None) };
        let front = std::str::from_utf8(name).map_err(|_| Malformed("with a name that is not UTF-8"))?;
        Ok(Some((Self { front: front.into(), shard }, FIXED + len)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(preface: &Preface) -> Vec<u8> {
        let mut bytes = Vec::new();
        preface.write(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(front in ".{0,40}", shard: u16, more in proptest::collection::vec(any::<u8>(), 0..9)) {
            let preface = Preface { front: front.into(), shard };
            let bytes = written(&preface);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Preface::read(&bytes[..cut]), Ok(None));
            }
            let len = bytes.len();
            prop_assert_eq!(Preface::read(&[bytes, more].concat()), Ok(Some((preface, len))));
        }
    }

    #[test]
    fn others_are_refused_as_soon_as_they_show() {
        let bytes = written(&Preface { front: "eu-1".into(), shard: 3 });
        for at in 0..=MAGIC.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(Preface::read(&other[..=at]).is_err(), "{at}");
        }
        assert!(Preface::read(b"PROXY TCP4").is_err() && Preface::read(&[0x10]).is_err());
        let mut long = bytes.clone();
        long[FIXED - 2] = 0xff;
        assert!(Preface::read(&long).is_err());
        let mut other = bytes;
        *other.last_mut().expect("a name") = 0xff;
        assert!(Preface::read(&other).is_err());
    }
}
