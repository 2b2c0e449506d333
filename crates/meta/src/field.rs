//! Where in an object something is wrong, and what: field paths and field errors with upstream's texts.
//! Knows no kind and no rule; the rooms that validate say which field breaks which rule.

use std::fmt;
use std::rc::Rc;

use value::Value;

use crate::quote::quote;

/// A path to a field, cheap to clone and to extend: `spec.containers[0].resources.limits[cpu]`.
#[derive(Clone, Debug, Default)]
pub struct FieldPath {
    last: Option<Rc<Segment>>,
}

#[derive(Debug)]
struct Segment {
    step: Step,
    parent: FieldPath,
}

#[derive(Debug)]
enum Step {
    Child(String),
    Index(usize),
    Key(String),
}

impl FieldPath {
    /// A path of one field.
    pub fn new(name: impl Into<String>) -> Self {
        FieldPath::root().child(name)
    }

    /// The path of the object itself; its children print without a prefix.
    pub fn root() -> Self {
        FieldPath { last: None }
    }

    /// The field `name` of what this path points to.
    pub fn child(&self, name: impl Into<String>) -> Self {
        self.step(Step::Child(name.into()))
    }

    /// The item at `index` of the list this path points to.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// The entry `key` of the map this path points to.
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.step(Step::Key(key.into()))
    }

    fn step(&self, step: Step) -> Self {
        FieldPath {
            last: Some(Rc::new(Segment {
                step,
                parent: self.clone(),
            })),
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.last.is_none() {
            // What a nil path prints upstream.
            return f.write_str("<nil>");
        }
        let mut segments = Vec::new();
        let mut at = self;
        while let Some(segment) = &at.last {
            segments.push(segment);
            at = &segment.parent;
        }
        for (position, segment) in segments.iter().rev().enumerate() {
            match &segment.step {
                Step::Child(name) if position == 0 => f.write_str(name)?,
                Step::Child(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}

impl From<&str> for FieldPath {
    fn from(name: &str) -> Self {
        FieldPath::new(name)
    }
}

/// What kind of rule a field breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// What the field refers to does not exist.
    NotFound,
    /// The field must be set.
    Required,
    /// The value occurs twice where it may occur once.
    Duplicate,
    /// The value breaks a rule the detail tells.
    Invalid,
    /// The value is not one of a closed list.
    NotSupported,
    /// The field may not be set or changed here.
    Forbidden,
    /// The text or list of bytes is too long.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The rule itself could not be evaluated.
    Internal,
    /// The value has the wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The machine-readable reason in `Status.details.causes`.
    pub fn reason(self) -> &'static str {
        match self {
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::Internal => "InternalError",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(
            self,
            FieldErrorKind::Required
                | FieldErrorKind::Forbidden
                | FieldErrorKind::TooLong
                | FieldErrorKind::Internal
        )
    }
}

/// One broken rule at one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Kind of rule.
    pub kind: FieldErrorKind,
    /// Path of the field, as text.
    pub field: String,
    /// The offending value, printed for most kinds.
    pub bad_value: Value,
    /// What the rule wants.
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &FieldPath, bad_value: Value, detail: String) -> Self {
        FieldError {
            kind,
            field: path.to_string(),
            bad_value,
            detail,
        }
    }

    /// The field must be set.
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(
            FieldErrorKind::Required,
            path,
            Value::from(""),
            detail.into(),
        )
    }

    /// The value breaks the rule told by `detail`.
    pub fn invalid(
        path: &FieldPath,
        bad_value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(
            FieldErrorKind::Invalid,
            path,
            bad_value.into(),
            detail.into(),
        )
    }

    /// The value occurred before where it must be unique.
    pub fn duplicate(path: &FieldPath, bad_value: impl Into<Value>) -> Self {
        Self::new(
            FieldErrorKind::Duplicate,
            path,
            bad_value.into(),
            String::new(),
        )
    }

    /// The value is not one of `supported`, which is printed in the order given.
    pub fn not_supported<S: AsRef<str>>(
        path: &FieldPath,
        bad_value: impl Into<Value>,
        supported: &[S],
    ) -> Self {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let quoted: Vec<String> = supported
                .iter()
                .map(|value| quote(value.as_ref()))
                .collect();
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, path, bad_value.into(), detail)
    }

    /// The text is longer than `max_bytes`. The value is never printed.
    pub fn too_long(path: &FieldPath, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max_bytes} {unit}");
        Self::new(
            FieldErrorKind::TooLong,
            path,
            Value::from("<value omitted>"),
            detail,
        )
    }

    /// The list has `actual` items where at most `max_items` are allowed.
    pub fn too_many(path: &FieldPath, actual: usize, max_items: usize) -> Self {
        let unit = if max_items == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max_items} {unit}");
        Self::new(FieldErrorKind::TooMany, path, Value::from(actual), detail)
    }

    /// The field may not be set or changed.
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(
            FieldErrorKind::Forbidden,
            path,
            Value::from(""),
            detail.into(),
        )
    }

    /// What the value refers to does not exist.
    pub fn not_found(path: &FieldPath, bad_value: impl Into<Value>) -> Self {
        Self::new(
            FieldErrorKind::NotFound,
            path,
            bad_value.into(),
            String::new(),
        )
    }

    /// The value has the wrong type.
    pub fn type_invalid(
        path: &FieldPath,
        bad_value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(
            FieldErrorKind::TypeInvalid,
            path,
            bad_value.into(),
            detail.into(),
        )
    }

    /// The rule could not be evaluated.
    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, path, Value::Null, detail.into())
    }

    /// One `Invalid` for each text a validator of [`crate::names`] returned.
    pub fn invalid_each(path: &FieldPath, bad_value: &str, texts: Vec<String>) -> Vec<Self> {
        texts
            .into_iter()
            .map(|text| Self::invalid(path, bad_value, text))
            .collect()
    }

    /// The error without its field, as `Status.details.causes[].message` has it.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if self.kind.shows_value() {
            text.push_str(": ");
            text.push_str(&print_value(&self.bad_value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for FieldError {}

/// Scalars plainly, texts quoted, everything else as JSON; null has quotes around it upstream.
fn print_value(value: &Value) -> String {
    match value {
        Value::Null => "\"null\"".to_owned(),
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

/// Several errors as one text: alone as it is, many as `[a, b]`, repeated texts once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        1 => texts.remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use value::json;

    use super::*;

    #[test]
    fn paths_print_dots_indexes_and_keys() {
        let limits = FieldPath::new("spec")
            .child("containers")
            .index(0)
            .child("limits")
            .key("cpu");
        assert_eq!(limits.to_string(), "spec.containers[0].limits[cpu]");
        assert_eq!(FieldPath::root().child("key").to_string(), "key");
        assert_eq!(FieldPath::root().to_string(), "<nil>");
    }

    #[test]
    fn errors_print_as_upstream() {
        let replicas = FieldPath::new("spec").child("replicas");
        let cases = [
            (
                FieldError::invalid(&replicas, -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                FieldError::required(&replicas, ""),
                "spec.replicas: Required value",
            ),
            (
                FieldError::not_supported(&replicas, "X", &["A", "B"]),
                r#"spec.replicas: Unsupported value: "X": supported values: "A", "B""#,
            ),
            (
                FieldError::duplicate(&replicas, "web"),
                r#"spec.replicas: Duplicate value: "web""#,
            ),
            (
                FieldError::too_long(&replicas, 63),
                "spec.replicas: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&replicas, 5, 3),
                "spec.replicas: Too many: 5: must have at most 3 items",
            ),
            (
                FieldError::forbidden(&replicas, "may not be set"),
                "spec.replicas: Forbidden: may not be set",
            ),
            (
                FieldError::not_found(&replicas, "x"),
                r#"spec.replicas: Not found: "x""#,
            ),
            (
                FieldError::invalid(&replicas, json!({"a": [1]}), "field is immutable"),
                r#"spec.replicas: Invalid value: {"a":[1]}: field is immutable"#,
            ),
            (
                FieldError::invalid(&replicas, Value::Null, "no"),
                r#"spec.replicas: Invalid value: "null": no"#,
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn aggregate_brackets_many_and_drops_repeats() {
        let a = FieldError::required(&"a".into(), "");
        let b = FieldError::required(&"b".into(), "");
        assert_eq!(aggregate(&[a.clone(), a.clone()]), "a: Required value");
        assert_eq!(
            aggregate(&[a.clone(), b, a]),
            "[a: Required value, b: Required value]"
        );
    }
}
