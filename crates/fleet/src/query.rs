//! The keys of a stage's `matchExpressions`: the part of jq's language that names places in an object.
//!
//! ```text
//!   .metadata.name   .metadata.annotations["a.b/c"]   .spec.containers[0].image   .metadata.ownerReferences.[].kind
//!   .status.conditions.[] | select( .type == "Ready" ) | .status
//! ```
//!
//! Functions, arithmetic, `//`, `,` and what else jq has are refused when the file is read. A query gives any number of
//! values; what is absent or null is no value (as kwok counts them).

use std::str::Chars;

use meta::Value;

/// Longest query, in bytes.
const QUERY_BYTES_MAX: usize = 4_096;

/// A query that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Each,
    At(usize),
    /// Goes on with values for which the inner query's first value is (or is not) this.
    Select(Query, bool, Value),
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// What is not understood, in words.
    pub(crate) fn parse(text: &str) -> Result<Query, String> {
        let fail = |why: String| format!("the query {text:?}: {why}");
        if text.len() > QUERY_BYTES_MAX {
            return Err(format!("a query is longer than {QUERY_BYTES_MAX} bytes"));
        }
        let mut reader = Reader(text.chars());
        let query = reader.pipeline().map_err(fail)?;
        reader.skip_space();
        match reader.peek() {
            None => Ok(query),
            Some(other) => Err(fail(format!("{other:?} is not expected"))),
        }
    }

    /// The values that it names, in order.
    pub(crate) fn values<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut values = vec![object];
        for step in &self.0 {
            let mut next = Vec::with_capacity(values.len());
            for value in values {
                match step {
                    Step::Field(name) => next.extend(value.get(name.as_str())),
                    Step::At(place) => next.extend(value.get(*place)),
                    Step::Each => match value {
                        Value::Array(list) => next.extend(list),
                        Value::Object(map) => next.extend(map.values()),
                        _ => {}
                    },
                    Step::Select(query, is_equal, literal) => {
                        let found = query.values(value);
                        let found = found.first().copied().unwrap_or(&Value::Null);
                        if (found == literal) == *is_equal {
                            next.push(value);
                        }
                    }
                }
            }
            values = next;
        }
        values.retain(|value| !value.is_null());
        values
    }

    /// The first value.
    pub(crate) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.values(object).first().copied()
    }
}

struct Reader<'a>(Chars<'a>);

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.0.clone().next()
    }

    fn take(&mut self, wanted: &str) -> bool {
        match self.0.as_str().strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest.chars();
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.0 = self.0.as_str().trim_start().chars();
    }

    fn word(&mut self) -> String {
        let rest = self.0.as_str();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.0 = rest.chars();
        word.to_owned()
    }

    fn pipeline(&mut self) -> Result<Query, String> {
        let mut steps = Vec::new();
        loop {
            self.skip_space();
            if self.take("select") {
                steps.push(self.select()?);
            } else {
                self.path(&mut steps)?;
            }
            self.skip_space();
            if !self.take("|") {
                return Ok(Query(steps));
            }
        }
    }

    fn select(&mut self) -> Result<Step, String> {
        let expect = |found: bool, what: &str| {
            if found {
                Ok(())
            } else {
                Err(format!("{what} is missing in select()"))
            }
        };
        self.skip_space();
        expect(self.take("("), "(")?;
        self.skip_space();
        let mut steps = Vec::new();
        self.path(&mut steps)?;
        self.skip_space();
        let is_equal = self.take("==");
        expect(is_equal || self.take("!="), "== or !=")?;
        self.skip_space();
        let literal = self.literal()?;
        self.skip_space();
        expect(self.take(")"), ")")?;
        Ok(Step::Select(Query(steps), is_equal, literal))
    }

    /// `.a.b["c"].[0][]`; a lone point is the value itself.
    fn path(&mut self, steps: &mut Vec<Step>) -> Result<(), String> {
        if self.peek() != Some('.') {
            return Err(match self.word() {
                word if word.is_empty() => "a path begins with a point".into(),
                word => format!("{word} is not served: paths and select() are"),
            });
        }
        loop {
            let is_pointed = self.take(".");
            if self.take("[") {
                self.skip_space();
                let step = match self.peek() {
                    Some(']') => Step::Each,
                    Some('"') => match self.literal()? {
                        Value::String(name) => Step::Field(name),
                        _ => return Err("a name is expected".into()),
                    },
                    _ => Step::At(
                        self.word()
                            .parse()
                            .map_err(|_| "[] holds nothing, a number, or a name in quotes")?,
                    ),
                };
                self.skip_space();
                if !self.take("]") {
                    return Err("] is missing".into());
                }
                steps.push(step);
            } else if is_pointed && self.peek() == Some('"') {
                if let Value::String(name) = self.literal()? {
                    steps.push(Step::Field(name));
                }
            } else if is_pointed {
                let name = self.word();
                if !name.is_empty() {
                    steps.push(Step::Field(name));
                } else if !steps.is_empty() {
                    return Err("a name is missing after a point".into());
                }
            } else {
                return Ok(());
            }
            // `.a?` only says that an error is no matter; here it never is.
            let _ = self.take("?");
        }
    }

    /// A literal as in JSON.
    fn literal(&mut self) -> Result<Value, String> {
        let mut stream = serde_json::Deserializer::from_str(self.0.as_str()).into_iter::<Value>();
        let value = match stream.next() {
            Some(Ok(value)) if !value.is_array() && !value.is_object() => value,
            _ => return Err("a text in quotes, a number, true, false or null is expected".into()),
        };
        let rest = &self.0.as_str()[stream.byte_offset()..];
        self.0 = rest.chars();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn found(query: &str, object: &Value) -> Vec<Value> {
        let query = Query::parse(query).unwrap();
        query.values(object).into_iter().cloned().collect()
    }

    #[test]
    fn paths_name_places() {
        let pod = json!({
            "metadata": {"name": "p", "annotations": {"a.b/c": "x"}, "finalizers": null,
                         "ownerReferences": [{"kind": "Job"}, {"kind": "Set"}]},
            "spec": {"containers": [{"image": "one"}, {"image": "two"}]},
            "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Initialized", "status": "True"}]},
        });
        for (query, expected) in [
            (".metadata.name", json!(["p"])),
            (".metadata.annotations[\"a.b/c\"]", json!(["x"])),
            (".metadata.annotations.\"a.b/c\"", json!(["x"])),
            (".metadata[\"name\"]", json!(["p"])),
            (".metadata.finalizers", json!([])),
            (".metadata.deletionTimestamp", json!([])),
            (".metadata.name.deeper", json!([])),
            (".metadata.ownerReferences.[].kind", json!(["Job", "Set"])),
            (".metadata.ownerReferences[].kind", json!(["Job", "Set"])),
            (".spec.containers[1].image", json!(["two"])),
            (".spec.containers.[7].image", json!([])),
            (
                ".status.conditions.[] | select( .type == \"Ready\" ) | .status",
                json!(["False"]),
            ),
            (
                ".status.conditions[] | select(.type != \"Ready\") | .status",
                json!(["True"]),
            ),
            (".metadata?.name?", json!(["p"])),
        ] {
            assert_eq!(Value::from(found(query, &pod)), expected, "{query}");
        }
        assert_eq!(found(".", &json!(1)), [json!(1)]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (query, part) in [
            ("metadata.name", "metadata is not served"),
            ("", "a path begins with a point"),
            (".a | length", "length is not served"),
            (".a..b", "a name is missing after a point"),
            (".a[x]", "[] holds nothing, a number, or a name in quotes"),
            (".a[0", "] is missing"),
            (".a // .b", "'/' is not expected"),
            (".a | select(.b)", "== or != is missing in select()"),
            (".a | select(.b == [1])", "a text in quotes"),
        ] {
            let error = Query::parse(query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }
}
