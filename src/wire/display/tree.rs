//! A tree of named fields: what any message looks like to a human or to a program, without saying in which
//! syntax.

use std::fmt::{self, Write as _};

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A value of a field. `Display` is the text for humans: one field per line, nested ones indented; objects
/// without nested values take one line. `Serialize` is the same for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A bit.
    Bool(bool),
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
    /// Fields in the order of the message.
    Object(Vec<Field>),
    /// Values of one kind.
    List(Vec<Value>),
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Lower case with underscores.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

impl Value {
    /// The value of the field `name` of this object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|field| field.name == name).map(|field| &field.value),
            _ => None,
        }
    }

    fn is_nested(&self) -> bool {
        matches!(self, Self::Object(_) | Self::List(_))
    }

    /// Whether it fits a line of its own.
    fn is_flat(&self) -> bool {
        match self {
            Self::Object(fields) => !fields.iter().any(|field| field.value.is_nested()),
            Self::List(values) => !values.iter().any(Self::is_nested),
            _ => true,
        }
    }

    fn inline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(bit) => f.write_char(if *bit { '1' } else { '0' }),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Object(fields) => {
                for (i, Field { name, value }) in fields.iter().enumerate() {
                    write!(f, "{}{name} ", if i == 0 { "" } else { ", " })?;
                    value.inline(f)?;
                }
                Ok(())
            }
            Self::List(values) if values.is_empty() => f.write_str("none"),
            Self::List(values) => {
                for (i, value) in values.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    value.inline(f)?;
                }
                Ok(())
            }
        }
    }

    /// Lines, each begun by `indent` spaces and ended by a newline.
    fn lines(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Self::Object(fields) => {
                for Field { name, value } in fields {
                    write!(f, "{:indent$}{name}:", "")?;
                    if value.is_flat() {
                        f.write_char(' ')?;
                        value.inline(f)?;
                        f.write_char('\n')?;
                    } else {
                        f.write_char('\n')?;
                        value.lines(f, indent + 2)?;
                    }
                }
                Ok(())
            }
            Self::List(values) => {
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{:indent$}{}:", "", i + 1)?;
                    if value.is_flat() {
                        f.write_char(' ')?;
                        value.inline(f)?;
                        f.write_char('\n')?;
                    } else {
                        f.write_char('\n')?;
                        value.lines(f, indent + 2)?;
                    }
                }
                Ok(())
            }
            leaf => {
                write!(f, "{:indent$}", "")?;
                leaf.inline(f)?;
                f.write_char('\n')
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(f, 0)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(bit) => serializer.serialize_bool(*bit),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for Field { name, value } in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::List(values) => serializer.collect_seq(values),
        }
    }
}

impl From<bool> for Value {
    fn from(bit: bool) -> Self {
        Self::Bool(bit)
    }
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                Self::Number(number.into())
            }
        }
    )*};
}
number!(u8, u16, u32, u64);

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Collects the fields of an object.
#[derive(Debug, Default)]
pub struct Object(Vec<Field>);

impl Object {
    /// Without fields.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a field.
    pub fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push(Field { name, value: value.into() });
        self
    }

    /// Appends a field whose value has a readable form of its own.
    pub fn text(self, name: &'static str, value: impl fmt::Display) -> Self {
        self.field(name, value.to_string())
    }

    /// Appends a field where there is a value for it.
    pub fn optional(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// Appends a list, one value per item.
    pub fn list<T>(self, name: &'static str, items: &[T], value: impl Fn(&T) -> Value) -> Self {
        self.field(name, Value::List(items.iter().map(value).collect()))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}
