//! [`crate::json!`]: a value as it is written in JSON, with Rust's expressions in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::{Key, Map, Number, Value};

/// What can stand in [`crate::json!`]; it is copied.
pub trait ToValue {
    /// A copy as a value.
    fn to_value(&self) -> Value;
}

/// Builds a [`Value`]: `json!({"name": name, "ports": [80, 443], "more": null})`.
///
/// An expression is borrowed and copied ([`ToValue`]). A key is any expression, too;
/// what a literal names is not copied.
#[macro_export]
macro_rules! json {
    (null) => {
        $crate::Value::Null
    };
    ([ $($items:tt)* ]) => {
        $crate::json_items!([] $($items)*)
    };
    ({ $($fields:tt)* }) => {{
        #[allow(unused_mut)]
        let mut map = $crate::Map::new();
        $crate::json_fields!(map $($fields)*);
        $crate::Value::Object(map)
    }};
    ($value:expr) => {
        $crate::ToValue::to_value(&$value)
    };
}

/// The items of a list, one after the other, into `[..]`.
#[doc(hidden)]
#[macro_export]
macro_rules! json_items {
    ([ $($done:expr),* ]) => {
        $crate::Value::Array(::std::vec![ $($done),* ])
    };
    ([ $($done:expr),* ] null $(, $($rest:tt)*)?) => {
        $crate::json_items!([ $($done,)* $crate::Value::Null ] $($($rest)*)?)
    };
    ([ $($done:expr),* ] [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::json_items!([ $($done,)* $crate::json!([ $($inner)* ]) ] $($($rest)*)?)
    };
    ([ $($done:expr),* ] { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json_items!([ $($done,)* $crate::json!({ $($inner)* }) ] $($($rest)*)?)
    };
    ([ $($done:expr),* ] $value:expr $(, $($rest:tt)*)?) => {
        $crate::json_items!([ $($done,)* $crate::ToValue::to_value(&$value) ] $($($rest)*)?)
    };
}

/// The fields of an object, one after the other, into a map.
#[doc(hidden)]
#[macro_export]
macro_rules! json_fields {
    ($map:ident) => {};
    ($map:ident $key:tt : null $(, $($rest:tt)*)?) => {
        $crate::json_field!($map $key, $crate::Value::Null);
        $crate::json_fields!($map $($($rest)*)?);
    };
    ($map:ident $key:tt : [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::json_field!($map $key, $crate::json!([ $($inner)* ]));
        $crate::json_fields!($map $($($rest)*)?);
    };
    ($map:ident $key:tt : { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json_field!($map $key, $crate::json!({ $($inner)* }));
        $crate::json_fields!($map $($($rest)*)?);
    };
    ($map:ident $key:tt : $value:expr $(, $($rest:tt)*)?) => {
        $crate::json_field!($map $key, $crate::ToValue::to_value(&$value));
        $crate::json_fields!($map $($($rest)*)?);
    };
    ($map:ident $key:tt $($rest:tt)+) => {
        $crate::json_key!($map [$key] $($rest)+);
    };
}

/// A name of several words: all up to the colon.
#[doc(hidden)]
#[macro_export]
macro_rules! json_key {
    ($map:ident [$($key:tt)+] : $($rest:tt)+) => {
        $crate::json_fields!($map ($($key)+) : $($rest)+);
    };
    ($map:ident [$($key:tt)+] $next:tt $($rest:tt)+) => {
        $crate::json_key!($map [$($key)+ $next] $($rest)+);
    };
}

/// One field: a literal name is not copied.
#[doc(hidden)]
#[macro_export]
macro_rules! json_field {
    ($map:ident $key:literal, $value:expr) => {
        $map.insert($key, $value);
    };
    ($map:ident $key:expr, $value:expr) => {
        $crate::object_field(&mut $map, &$key, $value);
    };
}

/// Sets a field of a name that is copied.
#[doc(hidden)]
pub fn object_field<K: AsRef<str> + ?Sized>(map: &mut Map, key: &K, value: Value) {
    map.insert(Key::copied(key.as_ref()), value);
}

macro_rules! by_from {
    ($($ty:ty)*) => {$(
        impl ToValue for $ty {
            fn to_value(&self) -> Value {
                Value::from(self.clone())
            }
        }
    )*};
}

by_from!(bool u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 String Map Number Key);

impl ToValue for () {
    fn to_value(&self) -> Value {
        Value::Null
    }
}

impl ToValue for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value {
        self.into()
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue + ?Sized> ToValue for &mut T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue + ?Sized> ToValue for Box<T> {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue + ?Sized> ToValue for Arc<T> {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue + ToOwned + ?Sized> ToValue for Cow<'_, T> {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

impl<T: ToValue> ToValue for [T] {
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(ToValue::to_value).collect())
    }
}

impl<T: ToValue> ToValue for Vec<T> {
    fn to_value(&self) -> Value {
        self.as_slice().to_value()
    }
}

impl<T: ToValue, const N: usize> ToValue for [T; N] {
    fn to_value(&self) -> Value {
        self.as_slice().to_value()
    }
}

impl<T: ToValue> ToValue for BTreeSet<T> {
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(ToValue::to_value).collect())
    }
}

impl<K: AsRef<str>, T: ToValue> ToValue for BTreeMap<K, T> {
    fn to_value(&self) -> Value {
        let field = |(key, value): (&K, &T)| (Key::copied(key.as_ref()), value.to_value());
        Value::Object(self.iter().map(field).collect())
    }
}

impl<K: AsRef<str>, T: ToValue, S> ToValue for HashMap<K, T, S> {
    fn to_value(&self) -> Value {
        let field = |(key, value): (&K, &T)| (Key::copied(key.as_ref()), value.to_value());
        Value::Object(self.iter().map(field).collect())
    }
}
