//! The collector of what is wrong with one object, and the checks every kind shares.
//!
//! It does not know any kind and does not stop at the first fault: a user should see all of them at once.

use crate::tree;
use meta::{FieldError, FieldPath, Value};

/// Faults listed in one answer. A 3 MiB body could hold a hundred thousand; nobody reads more than this.
const FINDINGS_MAX: usize = 1_000;

/// What is wrong with an object so far.
#[derive(Default)]
pub(crate) struct Findings {
    errors: Vec<FieldError>,
}

impl Findings {
    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.errors.len()
    }

    pub(crate) fn add(&mut self, error: FieldError) {
        if self.errors.len() < FINDINGS_MAX {
            self.errors.push(error);
        }
    }

    pub(crate) fn required(&mut self, path: &FieldPath, detail: &str) {
        self.add(FieldError::required(path, detail));
    }

    pub(crate) fn invalid(
        &mut self,
        path: &FieldPath,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        self.add(FieldError::invalid(path, value, detail));
    }

    pub(crate) fn duplicate(&mut self, path: &FieldPath, value: impl Into<Value>) {
        self.add(FieldError::duplicate(path, value));
    }

    pub(crate) fn not_supported(
        &mut self,
        path: &FieldPath,
        value: impl Into<Value>,
        supported: &[&str],
    ) {
        self.add(FieldError::not_supported(path, value, supported));
    }

    pub(crate) fn too_long(&mut self, path: &FieldPath, bytes_max: usize) {
        self.add(FieldError::too_long(path, bytes_max));
    }

    pub(crate) fn too_many(&mut self, path: &FieldPath, actual: usize, items_max: usize) {
        self.add(FieldError::too_many(path, actual, items_max));
    }

    pub(crate) fn forbidden(&mut self, path: &FieldPath, detail: impl Into<String>) {
        self.add(FieldError::forbidden(path, detail));
    }

    pub(crate) fn not_found(&mut self, path: &FieldPath, value: impl Into<Value>) {
        self.add(FieldError::not_found(path, value));
    }

    /// One `Invalid value` for each text a validator returned.
    pub(crate) fn each(&mut self, path: &FieldPath, value: &str, texts: Vec<String>) {
        for text in texts {
            self.invalid(path, value, text);
        }
    }

    /// A text that must be one of a set; `required` says whether empty counts as missing.
    pub(crate) fn one_of(
        &mut self,
        path: &FieldPath,
        value: &str,
        supported: &[&str],
        required: bool,
    ) {
        if value.is_empty() {
            if required {
                self.required(path, "");
            }
        } else if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    /// A number that may not be negative.
    pub(crate) fn non_negative(&mut self, path: &FieldPath, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value < 0) {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }

    /// A number that must be positive.
    pub(crate) fn positive(&mut self, path: &FieldPath, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value <= 0) {
            self.invalid(path, value, "must be greater than 0");
        }
    }

    /// A port number.
    pub(crate) fn port(&mut self, path: &FieldPath, value: i64) {
        if !(1..=65_535).contains(&value) {
            self.invalid(path, value, "must be between 1 and 65535, inclusive");
        }
    }

    /// A field that may not change.
    pub(crate) fn immutable(&mut self, path: &FieldPath, new: &Value, old: &Value, field: &str) {
        if !tree::same_at(new, old, field) {
            self.invalid(
                path,
                tree::get(new, field).cloned().unwrap_or(Value::Null),
                "field is immutable",
            );
        }
    }

    /// Labels: qualified keys, valid values.
    pub(crate) fn labels(&mut self, path: &FieldPath, labels: Option<&Value>) {
        let Some(labels) = labels.and_then(Value::as_object) else {
            return;
        };
        for (key, value) in labels {
            self.each(path, key, meta::names::qualified_name(key));
            let value = value.as_str().unwrap_or("");
            self.each(path, value, meta::names::label_value(value));
        }
    }

    /// A metav1.LabelSelector.
    pub(crate) fn label_selector(&mut self, path: &FieldPath, selector: &Value) {
        self.labels(
            &path.child("matchLabels"),
            tree::get(selector, "matchLabels"),
        );
        for (index, term) in tree::items(selector, "matchExpressions").iter().enumerate() {
            let path = path.child("matchExpressions").index(index);
            let operator = tree::text(term, "operator");
            let values = tree::items(term, "values");
            match operator {
                "In" | "NotIn" => {
                    if values.is_empty() {
                        self.required(
                            &path.child("values"),
                            "must be specified when `operator` is 'In' or 'NotIn'",
                        );
                    }
                }
                "Exists" | "DoesNotExist" => {
                    if !values.is_empty() {
                        self.forbidden(
                            &path.child("values"),
                            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                        );
                    }
                }
                other => self.invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                ),
            }
            let key = tree::text(term, "key");
            self.each(&path.child("key"), key, meta::names::qualified_name(key));
            for (position, value) in values.iter().enumerate() {
                let value = value.as_str().unwrap_or("");
                self.each(
                    &path.child("values").index(position),
                    value,
                    meta::names::label_value(value),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn selector_faults_have_the_texts_clients_know() {
        let mut findings = Findings::default();
        findings.label_selector(
            &FieldPath::new("spec").child("selector"),
            &json!({"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Is"}]}),
        );
        let texts: Vec<String> = findings
            .into_errors()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.selector.matchExpressions[1].operator: Invalid value: \"Is\": not a valid selector operator",
            ]
        );
    }

    #[test]
    fn the_list_of_faults_is_bounded() {
        let mut findings = Findings::default();
        for _ in 0..2 * FINDINGS_MAX {
            findings.required(&FieldPath::new("x"), "");
        }
        assert_eq!(findings.len(), FINDINGS_MAX);
    }
}
