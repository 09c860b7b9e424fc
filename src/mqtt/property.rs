//! MQTT 5.0 properties.
/// Checked properties in wire form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}
