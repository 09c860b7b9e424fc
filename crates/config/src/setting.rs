//! `settings!` generates from a section's table of keys the struct that the program reads, the conversion from the file, the
//! difference between two such structs, and their JSON. [`Setting`] and [`Show`] are the requirements of a key's type: reading a
//! value, and showing it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::Part;
use super::data_dir_id::DataDirId;
use super::keys::{self, Absent, Key, Kind, Word};
use super::problem::Fault;
use super::reader::Table;
use super::resolved::ApiAccess;
use super::values;
use forebay_base::address::Network;
use forebay_bridge::Url;
use forebay_guard::secure::Secret;
use forebay_rule::members::HeadersFrom;
use forebay_rule::record::RecordTemplate;
use forebay_rule::template::Template;
use forebay_rule::time::RecordTime;
use forebay_runtime::Bind;
use forebay_runtime::seam::KeepAlive;

/// A section with a struct that has a field for each key.
pub(super) trait Settings: Sized {
    /// `KEYS` are the keys of the section, in the order of the documents.
    const KEYS: &'static [Key];

    /// Reads every key with a field of its own; fields that are derived from others (`=>` in the table) have their type's default.
    fn read(table: &Table<'_>) -> Self;

    /// Takes over keys of `wanted` that apply while the service runs, and names the keys that differ.
    fn take(&mut self, wanted: &Self) -> Difference;
}

/// The keys in which two sections differ, by their names in the file.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// `applied` are those that were taken over.
    pub(super) applied: Vec<&'static str>,
    /// `waiting` are those that need a restart.
    pub(super) waiting: Vec<&'static str>,
}

/// A type that a key is read to.
pub(super) trait Setting: Sized {
    /// Reads a value, within the key's bounds.
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault>;

    /// Reads the key of a table, or its default.
    fn read(table: &Table<'_>, name: &str) -> Self {
        table.read(name, Self::of)
    }
}

/// A type with values that can be shown as the file would write them.
pub(super) trait Show {
    /// The value as JSON; `null`: not set.
    fn show(&self, key: &Key) -> Value;

    /// The JSON of `None`.
    fn none(_: &Key) -> Value
    where
        Self: Sized,
    {
        Value::Null
    }
}

impl<T: Setting> Setting for Option<T> {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        T::of(key, value).map(Some)
    }

    fn read(table: &Table<'_>, name: &str) -> Self {
        table.find(name, T::of)
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self, key: &Key) -> Value {
        self.as_ref().map_or_else(|| T::none(key), |of| of.show(key))
    }
}

/// `true` is the one of two words that is marked as `yes`.
impl Setting for bool {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        let Kind::Word(words) = key.kind else { return values::flag(key, value) };
        let given = values::word(key, value)?;
        Ok(words.iter().any(|word| word.is_yes && word.name == given))
    }
}

impl Show for bool {
    fn show(&self, key: &Key) -> Value {
        let Kind::Word(words) = key.kind else { return (*self).into() };
        words.iter().find(|word| word.is_yes == *self).map(|word| word.name).into()
    }
}

/// A count, bytes, whole seconds, millionths of a share, or the permissions of a file.
fn number(key: &Key, value: &DeValue<'_>) -> Result<u64, Fault> {
    match key.kind {
        Kind::Size { .. } => values::size(key, value),
        Kind::Duration { .. } => values::whole_seconds(key, value),
        Kind::Share => values::share(key, value),
        Kind::Text => values::mode(key, value).map(u64::from),
        _ => values::integer(key, value),
    }
}

fn show_number(key: &Key, number: u64) -> Value {
    match key.kind {
        Kind::Duration { .. } => Duration::from_secs(number).show(key),
        Kind::Share => (number as f64 / 1e6).into(),
        Kind::Text => format!("{number:04o}").into(),
        _ => number.into(),
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {
        $(
            /// The bounds of a key keep its value within the type.
            impl Setting for $type {
                fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
                    Ok(Self::try_from(number(key, value)?).unwrap_or(Self::MAX))
                }
            }

            impl Show for $type {
                fn show(&self, key: &Key) -> Value {
                    show_number(key, *self as u64)
                }

                fn none(key: &Key) -> Value {
                    // For a key with a default, a duration of zero means none.
                    let is_zero = matches!((key.kind, key.default), (Kind::Duration { .. }, Absent::Is(_)));
                    if is_zero { show_number(key, 0) } else { Value::Null }
                }
            }
        )*
    };
}

numbers!(u16, u32, u64, usize);

impl Setting for Duration {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        values::duration(key, value)
    }
}

impl Show for Duration {
    fn show(&self, _: &Key) -> Value {
        let us = self.as_micros();
        match (us % 1_000_000, us % 1_000) {
            (0, _) => format!("{}s", us / 1_000_000),
            (_, 0) => format!("{}ms", us / 1_000),
            _ => format!("{us}us"),
        }
        .into()
    }
}

impl Setting for SocketAddr {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        values::address(key, value)
    }
}

impl Setting for DataDirId {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        values::data_dir_id(key, value)
    }
}

impl Setting for String {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        values::non_empty(key, value)
    }
}

impl Setting for PathBuf {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        values::non_empty(key, value).map(Self::from)
    }
}

/// `None` is off.
impl Show for KeepAlive {
    fn show(&self, _: &Key) -> Value {
        self.to_string().into()
    }

    fn none(_: &Key) -> Value {
        "none".into()
    }
}

/// `Local` is no file.
impl Show for ApiAccess {
    fn show(&self, key: &Key) -> Value {
        match self {
            Self::Local => "none".into(),
            Self::Tokens(path) => path.show(key),
        }
    }
}

impl Show for PathBuf {
    fn show(&self, _: &Key) -> Value {
        self.display().to_string().into()
    }
}

macro_rules! shown {
    ($($type:ty: $of:ident => $text:expr),* $(,)?) => {
        $(impl Show for $type {
            fn show(&self, _: &Key) -> Value {
                let $of = self;
                $text.into()
            }
        })*
    };
}

shown!(
    String: of => of.as_str(),
    DataDirId: of => of.to_string(),
    Network: of => of.to_string(),
    Bind: of => of.to_string(),
    Url: of => of.shown(),
    RecordTime: of => of.template.to_string(),
    (String, u16): of => format!("{}:{}", of.0, of.1),
    HeadersFrom: of => of.template.to_string(),
    RecordTemplate: of => of.to_string(),
    u8: of => *of,
);

/// A secret is not shown.
impl Show for Secret {
    fn show(&self, _: &Key) -> Value {
        Value::Null
    }
}

/// `None` is an address that is off.
impl Show for SocketAddr {
    fn show(&self, _: &Key) -> Value {
        self.to_string().into()
    }

    fn none(_: &Key) -> Value {
        "off".into()
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self, key: &Key) -> Value {
        self.iter().map(|of| of.show(key)).collect()
    }
}

/// The acknowledgements asked of brokers: `acks`.
impl Show for i16 {
    fn show(&self, _: &Key) -> Value {
        if *self < 0 { "all".into() } else { self.to_string().into() }
    }
}

impl Show for i32 {
    fn show(&self, _: &Key) -> Value {
        (*self).into()
    }
}

/// `None` is an empty one.
impl Show for Template {
    fn show(&self, _: &Key) -> Value {
        self.to_string().into()
    }

    fn none(_: &Key) -> Value {
        "".into()
    }
}

macro_rules! tables {
    ($($type:ty),*) => {
        $(impl Show for Vec<(String, $type)> {
            fn show(&self, key: &Key) -> Value {
                Value::Object(self.iter().map(|(name, of)| (name.clone(), of.show(key))).collect())
            }
        })*
    };
}

tables!(String, Template, RecordTemplate);

/// Rewrites the templates of a sink or source as they are shown, and the constants that they use.
pub fn rewrite_templates(part: Part, shown: &mut Map<String, Value>, with: impl Fn(&str) -> String) {
    let has_templates = |key: &&Key| match key.kind {
        Kind::Template | Kind::TemplateTable | Kind::TextTable | Kind::QosTemplate | Kind::FlagTemplate => true,
        // Names of Kafka topics are none.
        Kind::Topics => shown.get(key.name).is_some_and(Value::is_object),
        _ => false,
    };
    for key in keys::of(part.table()).filter(has_templates).collect::<Vec<_>>() {
        match shown.get_mut(key.name) {
            Some(Value::String(text)) => *text = with(text),
            Some(Value::Object(table)) => table.values_mut().for_each(|value| {
                *value = with(value.as_str().unwrap_or_default()).into();
            }),
            _ => {}
        }
    }
}

/// A type with one value for each word of a key.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// `WORDS` has each value with its word, in the order of the documents.
    const WORDS: &'static [(&'static str, Self)];
    /// `NAMES` are the words alone.
    const NAMES: &'static [Word];
}

impl<W: Words> Setting for W {
    fn of(key: &Key, value: &DeValue<'_>) -> Result<Self, Fault> {
        let given = values::word(key, value)?;
        let found = W::WORDS.iter().find(|(name, _)| *name == given);
        Ok(found.expect("the key has the words of its type").1)
    }
}

impl<W: Words> Show for W {
    fn show(&self, _: &Key) -> Value {
        W::WORDS.iter().find(|(_, of)| of == self).map(|(name, _)| *name).into()
    }
}

/// An enum with a word of the file for each value, `Variant = "word"`, in the order of the documents; `impl`: one of another room.
macro_rules! words {
    (
        $(#[$attr:meta])*
        pub enum $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* }
    ) => {
        $(#[$attr])*
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $name {
            /// The word in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        $crate::setting::words!(impl $name { $($variant = $word,)* });
    };
    (impl $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $crate::setting::Words for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),*];
            const NAMES: &'static [$crate::keys::Word] = &[$($crate::keys::word($word)),*];
        }
    };
}
pub(super) use words;

/// Declares the keys of a section, and the struct that they are read to. A key is
///
/// `WHEN NAME as FIELD: TYPE = KIND, DEFAULT, shown EXAMPLE, MEANING;`
///
/// - WHEN a change applies: `now`; `restart`: it waits for one; `apart`: `change.rs` decides.
/// - `as FIELD` where the field has another name.
/// - `=>` in the place of `=` where the value is worked out from others, by the section's resolver.
/// - `shown EXAMPLE` where the default file shows another value than the default.
/// - Without `: TYPE` a key has no field of its own, and is read, compared and shown by hand.
///
/// FIELD may be one of a field, `part.field`. Fields that are no keys follow in `and { … }`. `impl`: the struct is another room's.
macro_rules! settings {
    // All keys are read.
    (
        @keys [struct $(#[$attr:meta])* $name:ident $section:ident]
        $keys:tt
        [$({ $(#[$of:meta])* $when:ident $named:ident $field:ident [$type:ty] [$($how:tt)*] [$doc:literal] })*]
        $parts:tt
        [$($(#[$more_of:meta])* $more:ident : $more_type:ty,)*]
    ) => {
        $(#[$attr])*
        pub struct $name {
            $(#[doc = $doc] $(#[$of])* pub $field: $type,)*
            $($(#[$more_of])* pub $more: $more_type,)*
        }

        $crate::setting::settings!(@keys [impl $name $section] $keys
            [$({ $when $named $field [$type] [$($how)*] })*] $parts [$($more)*]);
    };
    (
        @keys [impl $name:ident $section:ident]
        [$({ $key:ident [$kind:expr] [$default:expr] [$($shown:literal)?] [$meaning:literal] })*]
        [$({ $when:ident $named:ident $field:ident [$type:ty] [$($how:tt)*] $([$doc:literal])? })*]
        [$({ $part_when:ident $part_named:ident $part:ident . $inner:ident [$part_type:ty] [$($part_how:tt)*] })*]
        [$($more:ident)*]
    ) => {
        impl $crate::setting::Settings for $name {
            const KEYS: &'static [$crate::keys::Key] = &[$($crate::keys::Key {
                section: $crate::keys::Section::$section,
                name: stringify!($key),
                kind: { use $crate::keys::Kind::*; $kind },
                default: { use $crate::keys::Absent::*; $default },
                shown: $crate::setting::settings!(@shown $($shown)?),
                meaning: $meaning,
            }),*];

            fn read(table: &$crate::reader::Table<'_>) -> Self {
                #[allow(unused_mut, reason = "without fields of fields")]
                let mut read = Self {
                    $($field: $crate::setting::settings!(@read $($how)* table, $named, $type),)*
                    $($more: Default::default(),)*
                };
                $(read.$part.$inner = $crate::setting::settings!(@read $($part_how)* table, $part_named, $part_type);)*
                read
            }

            fn take(&mut self, wanted: &Self) -> $crate::setting::Difference {
                let mut different = $crate::setting::Difference::default();
                $($crate::setting::settings!(@take $when different, $named, self.$field, wanted.$field);)*
                $($crate::setting::settings!(@take $part_when different, $part_named, self.$part.$inner, wanted.$part.$inner);)*
                different
            }
        }

        impl $crate::setting::Shown for $name {
            fn shown(&self) -> serde_json::Map<String, serde_json::Value> {
                $crate::setting::show(
                    <Self as $crate::setting::Settings>::KEYS,
                    &[$((stringify!($named), &self.$field),)* $((stringify!($part_named), &self.$part.$inner),)*],
                )
            }
        }
    };
    // A key with a field of the same name.
    (@keys $head:tt $keys:tt $fields:tt $parts:tt $more:tt
        $(#[$of:meta])* $when:ident $name:ident : $($rest:tt)*
    ) => {
        $crate::setting::settings!(@keys $head $keys $fields $parts $more $(#[$of])* $when $name as $name : $($rest)*);
    };
    (@keys $head:tt [$($keys:tt)*] [$($fields:tt)*] $parts:tt $more:tt
        $(#[$of:meta])* $when:ident $name:ident as $field:ident : $type:ty = $kind:expr, $default:expr, $(shown $shown:literal,)? $meaning:literal;
        $($rest:tt)*
    ) => {
        $crate::setting::settings!(@keys $head
            [$($keys)* { $name [$kind] [$default] [$($shown)?] [$meaning] }]
            [$($fields)* { $(#[$of])* $when $name $field [$type] [=] [$meaning] }]
            $parts $more $($rest)*
        );
    };
    (@keys $head:tt [$($keys:tt)*] [$($fields:tt)*] $parts:tt $more:tt
        $(#[$of:meta])* $when:ident $name:ident as $field:ident : $type:ty => $kind:expr, $default:expr, $(shown $shown:literal,)? $meaning:literal;
        $($rest:tt)*
    ) => {
        $crate::setting::settings!(@keys $head
            [$($keys)* { $name [$kind] [$default] [$($shown)?] [$meaning] }]
            [$($fields)* { $(#[$of])* $when $name $field [$type] [=>] [$meaning] }]
            $parts $more $($rest)*
        );
    };
    // A key with a field of a field.
    (@keys $head:tt [$($keys:tt)*] $fields:tt [$($parts:tt)*] $more:tt
        $when:ident $name:ident as $part:ident . $inner:ident : $type:ty = $kind:expr, $default:expr, $(shown $shown:literal,)? $meaning:literal;
        $($rest:tt)*
    ) => {
        $crate::setting::settings!(@keys $head
            [$($keys)* { $name [$kind] [$default] [$($shown)?] [$meaning] }] $fields
            [$($parts)* { $when $name $part . $inner [$type] [=] }]
            $more $($rest)*
        );
    };
    (@keys $head:tt [$($keys:tt)*] $fields:tt [$($parts:tt)*] $more:tt
        $when:ident $name:ident as $part:ident . $inner:ident : $type:ty => $kind:expr, $default:expr, $(shown $shown:literal,)? $meaning:literal;
        $($rest:tt)*
    ) => {
        $crate::setting::settings!(@keys $head
            [$($keys)* { $name [$kind] [$default] [$($shown)?] [$meaning] }] $fields
            [$($parts)* { $when $name $part . $inner [$type] [=>] }]
            $more $($rest)*
        );
    };
    // A key without a field.
    (@keys $head:tt [$($keys:tt)*] $fields:tt $parts:tt $more:tt
        apart $name:ident = $kind:expr, $default:expr, $(shown $shown:literal,)? $meaning:literal; $($rest:tt)*
    ) => {
        $crate::setting::settings!(@keys $head
            [$($keys)* { $name [$kind] [$default] [$($shown)?] [$meaning] }] $fields $parts $more $($rest)*
        );
    };
    (@read = $table:ident, $name:ident, $type:ty) => {
        <$type as $crate::setting::Setting>::read($table, stringify!($name))
    };
    (@read => $table:ident, $name:ident, $type:ty) => {{
        let _ = $table;
        <$type>::default()
    }};
    (@take now $different:ident, $name:ident, $known:expr, $wanted:expr) => {
        if $known != $wanted {
            $different.applied.push(stringify!($name));
            $known.clone_from(&$wanted);
        }
    };
    (@take restart $different:ident, $name:ident, $known:expr, $wanted:expr) => {
        if $known != $wanted {
            $different.waiting.push(stringify!($name));
        }
    };
    (@take apart $different:ident, $name:ident, $known:expr, $wanted:expr) => {};
    (@shown) => { None };
    (@shown $shown:literal) => { Some($shown) };
    (
        $(#[$attr:meta])*
        pub struct $name:ident in $section:ident { $($keys:tt)* }
        $(and { $($more:tt)* })?
    ) => {
        $crate::setting::settings!(@keys [struct $(#[$attr])* $name $section] [] [] [] [$($($more)*)?] $($keys)*);
    };
    (impl $name:ident in $section:ident { $($keys:tt)* } $(and { $($more:ident),* })?) => {
        $crate::setting::settings!(@keys [impl $name $section] [] [] [] [$($($more)*)?] $($keys)*);
    };
}
pub(super) use settings;

/// A section of the configuration that shows what it has.
pub trait Shown {
    /// The section's keys as the file would write them; `null`: not set. Keys without a field of their own are not among them.
    #[must_use]
    fn shown(&self) -> Map<String, Value>;
}

/// The JSON of a section's fields.
pub(super) fn show(keys: &[Key], fields: &[(&str, &dyn Show)]) -> Map<String, Value> {
    let one = |(name, of): &(&str, &dyn Show)| {
        let key = keys.iter().find(|key| key.name == *name)?;
        Some(((*name).to_owned(), of.show(key)))
    };
    fields.iter().filter_map(one).collect()
}
