//! Fields by name, in the order of their names: a sorted list while they are few, a B-tree beyond.
//!
//! Nobody outside sees which of the two it is. Most objects have fewer than ten fields, and a list of those is found,
//! copied and dropped faster; that somebody from outside may send half a million labels is what the tree is for.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::{Key, Value};

/// Fields up to which a map is a list.
pub const SMALL_MAX: usize = 32;
/// Fields up to which one is looked for from the beginning, which few names make faster than halving.
const WALK_MAX: usize = 8;

/// Fields by name.
#[derive(Clone, Default)]
pub struct Map(Form);

#[derive(Clone)]
enum Form {
    /// Sorted by name, each once, at most [`SMALL_MAX`].
    Small(Vec<(Key, Value)>),
    Large(BTreeMap<Key, Value>),
}

impl Default for Form {
    fn default() -> Self {
        Form::Small(Vec::new())
    }
}

/// Where a name is in a list, or where it belongs.
fn place(fields: &[(Key, Value)], name: &str) -> Result<usize, usize> {
    match fields.last() {
        None => Err(0),
        // Names often come in their order.
        Some((last, _)) if last.against(name).is_lt() => Err(fields.len()),
        _ => fields.binary_search_by(|(key, _)| key.against(name)),
    }
}

fn find(fields: &[(Key, Value)], name: &str) -> Option<usize> {
    if fields.len() <= WALK_MAX {
        return fields.iter().position(|(key, _)| key.is(name));
    }
    place(fields, name).ok()
}

impl Map {
    /// A map without fields.
    pub const fn new() -> Self {
        Self(Form::Small(Vec::new()))
    }

    /// A map with room for so many fields, as far as a list goes.
    pub fn with_capacity(fields: usize) -> Self {
        Self(Form::Small(Vec::with_capacity(fields.min(SMALL_MAX))))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Small(fields) => fields.len(),
            Form::Large(fields) => fields.len(),
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all fields.
    pub fn clear(&mut self) {
        self.0 = Form::default();
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match &self.0 {
            Form::Small(fields) => find(fields, name).map(|at| &fields[at].1),
            Form::Large(fields) => fields.get(name),
        }
    }

    /// The value of a field, for changing.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        match &mut self.0 {
            Form::Small(fields) => find(fields, name).map(|at| &mut fields[at].1),
            Form::Large(fields) => fields.get_mut(name),
        }
    }

    /// A field with its own copy of the name.
    pub fn get_key_value(&self, name: &str) -> Option<(&Key, &Value)> {
        match &self.0 {
            Form::Small(fields) => find(fields, name).map(|at| (&fields[at].0, &fields[at].1)),
            Form::Large(fields) => fields.get_key_value(name),
        }
    }

    /// Whether there is such a field.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets a field, and returns what it was.
    pub fn insert(&mut self, name: impl Into<Key>, value: Value) -> Option<Value> {
        let name = name.into();
        if let Form::Small(fields) = &mut self.0 {
            match place(fields, &name) {
                Ok(at) => return Some(std::mem::replace(&mut fields[at].1, value)),
                Err(at) if fields.len() < SMALL_MAX => {
                    fields.insert(at, (name, value));
                    return None;
                }
                Err(_) => {}
            }
        }
        self.tree().insert(name, value)
    }

    /// Takes a field away.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.remove_entry(name).map(|(_, value)| value)
    }

    /// Takes a field away, with its name.
    pub fn remove_entry(&mut self, name: &str) -> Option<(Key, Value)> {
        match &mut self.0 {
            Form::Small(fields) => find(fields, name).map(|at| fields.remove(at)),
            Form::Large(fields) => fields.remove_entry(name),
        }
    }

    /// A field to be set if it is not.
    pub fn entry(&mut self, name: impl Into<Key>) -> Entry<'_> {
        Entry {
            map: self,
            name: name.into(),
        }
    }

    /// Moves all fields of another map here; those of one name are replaced.
    pub fn append(&mut self, other: &mut Map) {
        self.extend(std::mem::take(other));
    }

    /// Keeps the fields of which it is true.
    pub fn retain(&mut self, mut wanted: impl FnMut(&Key, &mut Value) -> bool) {
        match &mut self.0 {
            Form::Small(fields) => fields.retain_mut(|(key, value)| wanted(key, value)),
            Form::Large(fields) => fields.retain(wanted),
        }
    }

    /// Fields in the order of their names.
    pub fn iter(&self) -> Iter<'_> {
        Iter(match &self.0 {
            Form::Small(fields) => Walk::Small(fields.iter()),
            Form::Large(fields) => Walk::Large(fields.iter()),
        })
    }

    /// Fields in the order of their names, for changing.
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        IterMut(match &mut self.0 {
            Form::Small(fields) => Walk::Small(fields.iter_mut()),
            Form::Large(fields) => Walk::Large(fields.iter_mut()),
        })
    }

    /// Names in their order.
    pub fn keys(&self) -> Keys<'_> {
        Keys(self.iter())
    }

    /// Values in the order of their names.
    pub fn values(&self) -> Values<'_> {
        Values(self.iter())
    }

    /// Values in the order of their names, for changing.
    pub fn values_mut(&mut self) -> ValuesMut<'_> {
        ValuesMut(self.iter_mut())
    }

    /// Values in the order of their names, given away.
    pub fn into_values(self) -> IntoValues {
        IntoValues(self.into_iter())
    }

    /// The tree, which a list becomes.
    fn tree(&mut self) -> &mut BTreeMap<Key, Value> {
        if let Form::Small(fields) = &mut self.0 {
            self.0 = Form::Large(std::mem::take(fields).into_iter().collect());
        }
        match &mut self.0 {
            Form::Large(fields) => fields,
            Form::Small(_) => unreachable!("it was made a tree"),
        }
    }
}

/// A field that may be set or not.
pub struct Entry<'a> {
    map: &'a mut Map,
    name: Key,
}

impl<'a> Entry<'a> {
    /// The field, set to this if it is not set.
    pub fn or_insert(self, value: Value) -> &'a mut Value {
        self.or_insert_with(|| value)
    }

    /// The field, set to what the function says if it is not set.
    pub fn or_insert_with(self, value: impl FnOnce() -> Value) -> &'a mut Value {
        let Self { map, name } = self;
        let at = match &map.0 {
            Form::Small(fields) => match place(fields, &name) {
                Err(_) if fields.len() == SMALL_MAX => None,
                at => Some(at),
            },
            Form::Large(_) => None,
        };
        let Some(found) = at else {
            return map.tree().entry(name).or_insert_with(value);
        };
        let Form::Small(fields) = &mut map.0 else {
            unreachable!("the place is one in a list");
        };
        let at = match found {
            Ok(at) => at,
            Err(at) => {
                fields.insert(at, (name, value()));
                at
            }
        };
        &mut fields[at].1
    }

    /// Changes the field if it is set.
    pub fn and_modify(self, change: impl FnOnce(&mut Value)) -> Self {
        if let Some(value) = self.map.get_mut(&self.name) {
            change(value);
        }
        self
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Map {}

impl Hash for Map {
    fn hash<H: Hasher>(&self, to: &mut H) {
        to.write_usize(self.len());
        for field in self {
            field.hash(to);
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_map().entries(self).finish()
    }
}

impl<K: Into<Key>, V: Into<Value>> Extend<(K, V)> for Map {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, fields: I) {
        for (name, value) in fields {
            self.insert(name, value.into());
        }
    }
}

impl<K: Into<Key>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        let mut map = Self::new();
        map.extend(fields);
        map
    }
}

impl<K: Into<Key>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Map {
    fn from(fields: [(K, V); N]) -> Self {
        fields.into_iter().collect()
    }
}

/// The field of this name, which must be there.
impl std::ops::Index<&str> for Map {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        self.get(name)
            .unwrap_or_else(|| panic!("there is no field {name:?}"))
    }
}

/// The field of this name, null before if it was not there.
impl std::ops::IndexMut<&str> for Map {
    fn index_mut(&mut self, name: &str) -> &mut Value {
        if !self.contains_key(name) {
            self.insert(Key::copied(name), Value::Null);
        }
        match self.get_mut(name) {
            Some(value) => value,
            None => unreachable!("it was inserted"),
        }
    }
}

/// A walk over one of the two forms.
#[derive(Clone)]
enum Walk<S, L> {
    Small(S),
    Large(L),
}

/// Fields in the order of their names.
#[derive(Clone)]
pub struct Iter<'a>(Walk<std::slice::Iter<'a, (Key, Value)>, btree_map::Iter<'a, Key, Value>>);

/// Fields in the order of their names, for changing.
pub struct IterMut<'a>(
    Walk<std::slice::IterMut<'a, (Key, Value)>, btree_map::IterMut<'a, Key, Value>>,
);

/// Fields in the order of their names, given away.
pub struct IntoIter(Walk<std::vec::IntoIter<(Key, Value)>, btree_map::IntoIter<Key, Value>>);

macro_rules! walks {
    ($name:ty, $item:ty, $split:expr) => {
        impl<'a> Iterator for $name {
            type Item = $item;

            fn next(&mut self) -> Option<Self::Item> {
                match &mut self.0 {
                    Walk::Small(fields) => fields.next().map($split),
                    Walk::Large(fields) => fields.next(),
                }
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                match &self.0 {
                    Walk::Small(fields) => fields.size_hint(),
                    Walk::Large(fields) => fields.size_hint(),
                }
            }
        }

        impl<'a> DoubleEndedIterator for $name {
            fn next_back(&mut self) -> Option<Self::Item> {
                match &mut self.0 {
                    Walk::Small(fields) => fields.next_back().map($split),
                    Walk::Large(fields) => fields.next_back(),
                }
            }
        }

        impl<'a> ExactSizeIterator for $name {}
    };
}

walks!(Iter<'a>, (&'a Key, &'a Value), |(key, value)| (key, value));
walks!(IterMut<'a>, (&'a Key, &'a mut Value), |(key, value)| (
    &*key, value
));

impl Iterator for IntoIter {
    type Item = (Key, Value);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Small(fields) => fields.next(),
            Walk::Large(fields) => fields.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Walk::Small(fields) => fields.size_hint(),
            Walk::Large(fields) => fields.size_hint(),
        }
    }
}

impl ExactSizeIterator for IntoIter {}

/// Names in their order.
#[derive(Clone)]
pub struct Keys<'a>(Iter<'a>);

/// Values in the order of their names.
#[derive(Clone)]
pub struct Values<'a>(Iter<'a>);

/// Values in the order of their names, for changing.
pub struct ValuesMut<'a>(IterMut<'a>);

/// Values in the order of their names, given away.
pub struct IntoValues(IntoIter);

macro_rules! halves {
    ($name:ty, $item:ty, $half:tt) => {
        impl<'a> Iterator for $name {
            type Item = $item;

            fn next(&mut self) -> Option<Self::Item> {
                self.0.next().map(|field| field.$half)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl<'a> ExactSizeIterator for $name {}
    };
}

halves!(Keys<'a>, &'a Key, 0);
halves!(Values<'a>, &'a Value, 1);
halves!(ValuesMut<'a>, &'a mut Value, 1);

impl Iterator for IntoValues {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.next().map(|(_, value)| value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a Key, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Map {
    type Item = (&'a Key, &'a mut Value);
    type IntoIter = IterMut<'a>;

    fn into_iter(self) -> IterMut<'a> {
        self.iter_mut()
    }
}

impl IntoIterator for Map {
    type Item = (Key, Value);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(match self.0 {
            Form::Small(fields) => Walk::Small(fields.into_iter()),
            Form::Large(fields) => Walk::Large(fields.into_iter()),
        })
    }
}
