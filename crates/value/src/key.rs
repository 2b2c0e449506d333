//! A field's name: borrowed from the program where the program or its schema knows it, else owned.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// A field's name.
#[derive(Clone)]
pub struct Key(Name);

#[derive(Clone)]
enum Name {
    Known(&'static str),
    Owned(Box<str>),
}

impl Key {
    /// A name that is copied.
    pub fn copied(name: &str) -> Self {
        Self(Name::Owned(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Known(name) => name,
            Name::Owned(name) => name,
        }
    }

    /// Whether it is this name: most others differ in length or in the first byte, and a known one is where it was.
    #[inline]
    pub(crate) fn is(&self, name: &str) -> bool {
        let own = self.as_str().as_bytes();
        let name = name.as_bytes();
        own.len() == name.len()
            && (std::ptr::eq(own.as_ptr(), name.as_ptr())
                || own.first() == name.first() && own == name)
    }

    /// How it stands to this name in the order of bytes; the first byte decides most often.
    #[inline]
    pub(crate) fn against(&self, name: &str) -> Ordering {
        let own = self.as_str().as_bytes();
        let name = name.as_bytes();
        match (own.first(), name.first()) {
            (Some(a), Some(b)) if a != b => a.cmp(b),
            _ => own.cmp(name),
        }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self(Name::Known(""))
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.against(other)
    }
}

/// As its text does, which it can be borrowed as.
impl Hash for Key {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.as_str().hash(to);
    }
}

impl PartialEq<str> for Key {
    fn eq(&self, other: &str) -> bool {
        self.is(other)
    }
}

impl PartialEq<&str> for Key {
    fn eq(&self, other: &&str) -> bool {
        self.is(other)
    }
}

impl PartialEq<String> for Key {
    fn eq(&self, other: &String) -> bool {
        self.is(other)
    }
}

impl PartialEq<Key> for str {
    fn eq(&self, other: &Key) -> bool {
        other.is(self)
    }
}

impl PartialEq<Key> for String {
    fn eq(&self, other: &Key) -> bool {
        other.is(self)
    }
}

impl From<&'static str> for Key {
    fn from(name: &'static str) -> Self {
        Self(Name::Known(name))
    }
}

impl From<String> for Key {
    fn from(name: String) -> Self {
        Self(Name::Owned(name.into_boxed_str()))
    }
}

impl From<Box<str>> for Key {
    fn from(name: Box<str>) -> Self {
        Self(Name::Owned(name))
    }
}

impl From<&String> for Key {
    fn from(name: &String) -> Self {
        Self::copied(name)
    }
}

impl From<&Key> for Key {
    fn from(name: &Key) -> Self {
        name.clone()
    }
}

impl From<Cow<'_, str>> for Key {
    fn from(name: Cow<'_, str>) -> Self {
        name.into_owned().into()
    }
}

impl From<Key> for String {
    fn from(name: Key) -> Self {
        match name.0 {
            Name::Known(name) => name.to_owned(),
            Name::Owned(name) => name.into_string(),
        }
    }
}

impl From<&Key> for String {
    fn from(name: &Key) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), to)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), to)
    }
}
