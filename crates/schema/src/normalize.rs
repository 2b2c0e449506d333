//! From a raw JSON tree to a typed one: names checked, types checked, values brought into canonical form.
//!
//! The typed tree holds exactly what protobuf can hold: absent, not null; no empty list or map; no plain (non-pointer)
//! field that equals its zero value. So two trees of equal meaning are equal. It does not know defaults or validation.

use value::{Map, Number, Value};

use crate::error::DecodeError;
use crate::json::Scanner;
use crate::special::{self, go_value};
use crate::table::{Field, Kind, Shape, Special, Table, Type, TypeId};
use crate::{MAX_COMPLAINTS, MAX_DEPTH};

enum Step {
    Name(&'static str),
    Key(String),
    Index(usize),
}

pub(crate) struct Normalizer {
    table: &'static Table,
    path: Vec<Step>,
    pub(crate) complaints: Vec<String>,
}

impl Normalizer {
    pub(crate) fn new(table: &'static Table) -> Normalizer {
        Normalizer {
            table,
            path: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Normalises a whole object in place.
    pub(crate) fn object(&mut self, ty: TypeId, value: &mut Value) -> Result<(), DecodeError> {
        if self.table.get(ty).special.is_some() {
            return self.value(None, Kind::Message(ty), value);
        }
        match value {
            Value::Object(map) => self.message(ty, map),
            Value::Null => {
                *value = Value::Object(Map::new());
                Ok(())
            }
            other => {
                let go = self.table.go_kind(Kind::Message(ty));
                Err(DecodeError::Type(format!(
                    "json: cannot unmarshal {} into Go value of type {go}",
                    go_value(other, false)
                )))
            }
        }
    }

    fn message(&mut self, ty: TypeId, map: &mut Map) -> Result<(), DecodeError> {
        if self.path.len() > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let owner = self.table.get(ty);
        let mut failure = None;
        map.retain(|key, value| {
            if failure.is_some() {
                return true;
            }
            match self.entry(owner, ty, key, value) {
                Ok(keep) => keep,
                Err(error) => {
                    failure = Some(error);
                    true
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// One key of an object; whether it stays.
    fn entry(
        &mut self,
        owner: &'static Type,
        ty: TypeId,
        key: &str,
        value: &mut Value,
    ) -> Result<bool, DecodeError> {
        let Some(field) = self.table.field(ty, key) else {
            if owner.kind && matches!(key, "apiVersion" | "kind") {
                // Type meta: only the outermost is kept, as protobuf has no place for inner ones.
                let name = if key == "kind" { "kind" } else { "apiVersion" };
                return match value {
                    Value::String(text) => Ok(self.path.is_empty() && !text.is_empty()),
                    Value::Null => Ok(false),
                    other => {
                        self.path.push(Step::Name(name));
                        Err(self.mismatch(Some(owner), "string".to_owned(), other, false))
                    }
                };
            }
            if self.complaints.len() < MAX_COMPLAINTS {
                self.path.push(Step::Key(key.to_owned()));
                let complaint = format!("unknown field {:?}", self.location());
                self.path.pop();
                self.complaints.push(complaint);
            }
            return Ok(false);
        };
        if value.is_null() {
            return Ok(false);
        }
        self.path.push(Step::Name(field.name));
        let keep = self.field(owner, field, value)?;
        self.path.pop();
        Ok(keep)
    }

    fn field(
        &mut self,
        owner: &'static Type,
        field: &'static Field,
        value: &mut Value,
    ) -> Result<bool, DecodeError> {
        match field.shape {
            Shape::One | Shape::Pointer | Shape::Inline => {
                self.value(Some((owner, field)), field.kind, value)?;
                let unset = value.is_null()
                    || (field.shape == Shape::One && is_zero(self.table, field.kind, value));
                let empty_bytes = field.kind == Kind::Bytes && !field.omitempty && !value.is_null();
                Ok(!unset || empty_bytes)
            }
            Shape::List => {
                let Value::Array(items) = value else {
                    return Err(self.mismatch(
                        Some(owner),
                        self.table.go_field(field),
                        value,
                        false,
                    ));
                };
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(Step::Index(index));
                    self.element(owner, field, item)?;
                    self.path.pop();
                }
                Ok(!items.is_empty())
            }
            Shape::Map => {
                let Value::Object(entries) = value else {
                    return Err(self.mismatch(
                        Some(owner),
                        self.table.go_field(field),
                        value,
                        false,
                    ));
                };
                for (key, item) in entries.iter_mut() {
                    if field.kind == Kind::String && item.is_string() {
                        continue;
                    }
                    self.path.push(Step::Key(key.to_string()));
                    self.element(owner, field, item)?;
                    self.path.pop();
                }
                Ok(!entries.is_empty())
            }
        }
    }

    /// A list element or map value: null stands for the zero value.
    fn element(
        &mut self,
        owner: &'static Type,
        field: &'static Field,
        value: &mut Value,
    ) -> Result<(), DecodeError> {
        if value.is_null() {
            *value = zero(self.table, field.kind);
            return Ok(());
        }
        self.value(Some((owner, field)), field.kind, value)?;
        if value.is_null() {
            *value = zero(self.table, field.kind);
        }
        Ok(())
    }

    fn value(
        &mut self,
        place: Option<(&'static Type, &'static Field)>,
        kind: Kind,
        value: &mut Value,
    ) -> Result<(), DecodeError> {
        match (kind, &mut *value) {
            (Kind::String, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => Ok(()),
            (Kind::Int32, Value::Number(number))
                if number
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok()) =>
            {
                Ok(())
            }
            (Kind::Int64, Value::Number(number)) if number.as_i64().is_some() => Ok(()),
            (Kind::Double, Value::Number(number)) => {
                *value = Value::Number(canonical_double(number.as_f64().unwrap_or(0.0)));
                Ok(())
            }
            (Kind::Bytes, Value::String(text)) => {
                let canonical = special::base64_encode(&special::base64_decode(text)?);
                if canonical != *text {
                    *text = canonical;
                }
                Ok(())
            }
            (Kind::Message(ty), value) => match (self.table.get(ty).special, value) {
                (None, Value::Object(map)) => self.message(ty, map),
                (Some(special), value) => self.special(place, ty, special, value),
                (None, other) => Err(self.wrong(place, kind, other, false)),
            },
            (Kind::Int32 | Kind::Int64, other @ Value::Number(_)) => {
                Err(self.wrong(place, kind, other, true))
            }
            (_, other) => Err(self.wrong(place, kind, other, false)),
        }
    }

    fn special(
        &mut self,
        place: Option<(&'static Type, &'static Field)>,
        ty: TypeId,
        special: Special,
        value: &mut Value,
    ) -> Result<(), DecodeError> {
        let fields = &self.table.get(ty).fields;
        match special {
            Special::Raw => bounded(value, self.path.len()),
            Special::Items | Special::SchemaOrArray | Special::SchemaOrStrings
                if value.is_array() =>
            {
                let Some(field) = fields.iter().find(|field| field.shape == Shape::List) else {
                    return Ok(());
                };
                let owner = self.table.get(ty);
                if let Value::Array(items) = value {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.path.push(Step::Index(index));
                        self.element(owner, field, item)?;
                        self.path.pop();
                    }
                }
                Ok(())
            }
            Special::SchemaOrBool if value.is_boolean() => Ok(()),
            Special::SchemaOrArray | Special::SchemaOrBool | Special::SchemaOrStrings
                if value.is_object() =>
            {
                let Some(schema) = fields
                    .iter()
                    .find(|field| matches!(field.kind, Kind::Message(_)))
                else {
                    return Ok(());
                };
                self.value(place, schema.kind, value)
            }
            Special::Items
            | Special::SchemaOrArray
            | Special::SchemaOrBool
            | Special::SchemaOrStrings => Err(self.wrong(place, Kind::Message(ty), value, false)),
            _ => special::canonicalize(special, value),
        }
    }

    fn wrong(
        &self,
        place: Option<(&'static Type, &'static Field)>,
        kind: Kind,
        value: &Value,
        number_text: bool,
    ) -> DecodeError {
        let go = match place {
            Some((_, field)) if field.kind == kind => self.table.go_element(field),
            _ => self.table.go_kind(kind),
        };
        self.mismatch(place.map(|(owner, _)| owner), go, value, number_text)
    }

    /// The error in Go's words.
    fn mismatch(
        &self,
        owner: Option<&Type>,
        go: String,
        value: &Value,
        number_text: bool,
    ) -> DecodeError {
        let what = go_value(value, number_text);
        let names: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Name(name) => Some(*name),
                _ => None,
            })
            .collect();
        DecodeError::Type(match owner {
            Some(owner) if !names.is_empty() => {
                format!(
                    "json: cannot unmarshal {what} into Go struct field {}.{} of type {go}",
                    owner.name,
                    names.join(".")
                )
            }
            _ => format!("json: cannot unmarshal {what} into Go value of type {go}"),
        })
    }

    /// The present place as strict decoding names it: `spec.containers[0].image`.
    fn location(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => out.push_str(&format!("[{index}]")),
                Step::Name(name) => push_name(&mut out, name),
                Step::Key(key) => push_name(&mut out, key),
            }
        }
        out
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Doubles that are whole numbers are kept as integers, so that equal numbers are equal trees.
pub(crate) fn canonical_double(value: f64) -> Number {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Number::from(value as i64);
    }
    Number::from_f64(value).unwrap_or_else(|| Number::from(0))
}

/// The tree of a kind's zero value, as a list element or map value shows it.
pub(crate) fn zero(table: &Table, kind: Kind) -> Value {
    match kind {
        Kind::String | Kind::Bytes => Value::String(String::new()),
        Kind::Int32 | Kind::Int64 | Kind::Double => Value::from(0),
        Kind::Bool => Value::Bool(false),
        Kind::Message(ty) => match table.get(ty).special {
            None => Value::Object(Map::new()),
            Some(Special::Quantity) => Value::from("0"),
            Some(Special::IntOrString) => Value::from(0),
            Some(Special::Duration) => Value::from("0s"),
            Some(Special::SchemaOrBool) => Value::Bool(false),
            Some(Special::Items) => Value::Array(Vec::new()),
            Some(_) => Value::Null,
        },
    }
}

pub(crate) fn is_zero(table: &Table, kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Message(ty), value) => match (table.get(ty).special, value) {
            (Some(special), value) => special::is_zero(special, value),
            (None, Value::Object(map)) => map.is_empty(),
            _ => false,
        },
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::Bool(flag)) => !flag,
        (_, Value::Null) => true,
        _ => false,
    }
}

fn bounded(value: &Value, depth: usize) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| bounded(item, depth + 1)),
        Value::Object(map) => map.values().try_for_each(|item| bounded(item, depth + 1)),
        _ => Ok(()),
    }
}

/// Lists unknown and duplicate fields in the order of the text. Only for documents that are known to have some.
pub(crate) fn complaints_in_order(table: &'static Table, ty: TypeId, body: &[u8]) -> Vec<String> {
    let mut scan = Complaints {
        table,
        scanner: Scanner::new(body),
        path: String::new(),
        found: Vec::new(),
    };
    // The body was parsed before: what cannot be walked was reported then.
    let _ = scan.value(Some((Kind::Message(ty), Shape::One)), 0);
    scan.found
}

struct Complaints<'a> {
    table: &'static Table,
    scanner: Scanner<'a>,
    path: String,
    found: Vec<String>,
}

impl Complaints<'_> {
    fn complain(&mut self, what: &str) {
        let complaint = format!("{what} field {:?}", self.path);
        if self.found.len() < MAX_COMPLAINTS && !self.found.contains(&complaint) {
            self.found.push(complaint);
        }
    }

    fn value(&mut self, shape: Option<(Kind, Shape)>, depth: usize) -> Result<(), DecodeError> {
        let Some((kind, shape)) = shape.filter(|_| depth <= MAX_DEPTH) else {
            return self.scanner.skip(depth);
        };
        match (shape, self.scanner.peek()) {
            (Shape::List, Some(b'[')) => self.list(kind, depth),
            (Shape::Map, Some(b'{')) => self.object(None, |_| Some((kind, Shape::One)), depth),
            (Shape::One | Shape::Pointer | Shape::Inline, first) => {
                let Kind::Message(ty) = kind else {
                    return self.scanner.skip(depth);
                };
                let message = self.table.get(ty);
                match (message.special, first) {
                    (None, Some(b'{')) => {
                        let table = self.table;
                        self.object(
                            Some(message),
                            |name| table.field(ty, name).map(|field| (field.kind, field.shape)),
                            depth,
                        )
                    }
                    (
                        Some(
                            Special::SchemaOrArray
                            | Special::SchemaOrBool
                            | Special::SchemaOrStrings,
                        ),
                        Some(open),
                    ) => {
                        let schema = message
                            .fields
                            .iter()
                            .find(|field| matches!(field.kind, Kind::Message(_)));
                        match (schema, open) {
                            (Some(schema), b'{') => {
                                self.value(Some((schema.kind, Shape::One)), depth)
                            }
                            (Some(schema), b'[') => self.list(schema.kind, depth),
                            _ => self.scanner.skip(depth),
                        }
                    }
                    _ => self.scanner.skip(depth),
                }
            }
            _ => self.scanner.skip(depth),
        }
    }

    fn list(&mut self, kind: Kind, depth: usize) -> Result<(), DecodeError> {
        if self.scanner.open(b']') {
            return Ok(());
        }
        let outer = self.path.len();
        for index in 0usize.. {
            self.path.push_str(&format!("[{index}]"));
            self.value(Some((kind, Shape::One)), depth + 1)?;
            self.path.truncate(outer);
            if !self.scanner.another(b']', "after array element")? {
                break;
            }
        }
        Ok(())
    }

    /// `owner` is `None` for maps, where every key is known.
    fn object(
        &mut self,
        owner: Option<&Type>,
        field: impl Fn(&str) -> Option<(Kind, Shape)>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        if self.scanner.open(b'}') {
            return Ok(());
        }
        let outer = self.path.len();
        let mut seen = std::collections::HashSet::new();
        loop {
            let key = self.scanner.key()?;
            push_name(&mut self.path, &key);
            let shape = field(&key);
            let type_meta = owner.is_some_and(|owner| owner.kind)
                && matches!(key.as_str(), "apiVersion" | "kind");
            if shape.is_none() && !type_meta {
                self.complain("unknown");
            } else if !seen.insert(key) {
                self.complain("duplicate");
            }
            self.value(shape, depth + 1)?;
            self.path.truncate(outer);
            if !self.scanner.another(b'}', "after object key:value pair")? {
                return Ok(());
            }
        }
    }
}
