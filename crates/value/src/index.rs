//! `value["name"]` and `value[0]`: what is not there reads as null, and is made when it is written.

use std::ops;

use crate::{Key, NULL, Value};

/// What finds a part of a value: a field's name, or a place in a list.
pub trait Index {
    /// The part, if it is there.
    fn part<'a>(&self, value: &'a Value) -> Option<&'a Value>;

    /// The part for changing, if it is there.
    fn part_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value>;

    /// The part, made if a field is missing; a value that cannot have it is a mistake of the program.
    fn make<'a>(&self, value: &'a mut Value) -> &'a mut Value;
}

impl Index for str {
    fn part<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.as_object()?.get(self)
    }

    fn part_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        value.as_object_mut()?.get_mut(self)
    }

    fn make<'a>(&self, value: &'a mut Value) -> &'a mut Value {
        if value.is_null() {
            *value = Value::Object(crate::Map::new());
        }
        match value {
            Value::Object(map) => &mut map[self],
            other => panic!("cannot set the field {self:?} of {other}"),
        }
    }
}

impl Index for usize {
    fn part<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.as_array()?.get(*self)
    }

    fn part_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        value.as_array_mut()?.get_mut(*self)
    }

    fn make<'a>(&self, value: &'a mut Value) -> &'a mut Value {
        if value.get(*self).is_none() {
            panic!("there is no item {self} in {value}");
        }
        match value.get_mut(*self) {
            Some(item) => item,
            None => unreachable!("it is there"),
        }
    }
}

macro_rules! as_text {
    ($ty:ty) => {
        impl Index for $ty {
            fn part<'a>(&self, value: &'a Value) -> Option<&'a Value> {
                self.as_str().part(value)
            }

            fn part_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
                self.as_str().part_mut(value)
            }

            fn make<'a>(&self, value: &'a mut Value) -> &'a mut Value {
                self.as_str().make(value)
            }
        }
    };
}

as_text!(String);
as_text!(Key);

impl<T: Index + ?Sized> Index for &T {
    fn part<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        (**self).part(value)
    }

    fn part_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        (**self).part_mut(value)
    }

    fn make<'a>(&self, value: &'a mut Value) -> &'a mut Value {
        (**self).make(value)
    }
}

impl<I: Index> ops::Index<I> for Value {
    type Output = Value;

    fn index(&self, index: I) -> &Value {
        index.part(self).unwrap_or(&NULL)
    }
}

impl<I: Index> ops::IndexMut<I> for Value {
    fn index_mut(&mut self, index: I) -> &mut Value {
        index.make(self)
    }
}
