//! Label selectors: the text grammar of `labelSelector=` and the LabelSelector object, with upstream's texts.
//! Knows nothing of objects but their map of labels.

use std::fmt;

use value::Value;

use crate::field::{FieldError, FieldPath, aggregate};
use crate::names;
use crate::quote::quote;

/// Requirements that must all hold, or a selector that selects nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<LabelRequirement>,
    nothing: bool,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelRequirement {
    /// Label key.
    pub key: String,
    /// What must hold.
    pub op: LabelOperator,
    /// Values, sorted and without repeats; none for the existence operators.
    pub values: Vec<String>,
}

/// What a requirement wants of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelOperator {
    /// `key=value`
    Equals,
    /// `key==value`, the same as [`LabelOperator::Equals`] but printed as written.
    DoubleEquals,
    /// `key!=value`: another value, or no such label.
    NotEquals,
    /// `key in (a,b)`
    In,
    /// `key notin (a,b)`: another value, or no such label.
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>1`
    GreaterThan,
    /// `key<1`
    LessThan,
}

impl LabelSelector {
    /// The selector that selects everything.
    pub fn everything() -> Self {
        LabelSelector::default()
    }

    /// The selector that selects nothing, as an absent LabelSelector object does.
    pub fn nothing() -> Self {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// The selector of these requirements, which are taken as they are: from another selector.
    pub fn of(requirements: Vec<LabelRequirement>) -> Self {
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// Parses the url-decoded text of a `labelSelector` parameter.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        Ok(Self::sorted(parser.selector()?))
    }

    /// A metav1.LabelSelector object; null selects nothing, the empty object everything.
    pub fn from_object(object: &Value) -> Result<Self, String> {
        if object.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        if let Some(labels) = object.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let values = vec![value.as_str().unwrap_or_default().to_owned()];
                requirements.push(LabelRequirement::new(key, LabelOperator::Equals, values)?);
            }
        }
        for expression in object
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text_of = |field| {
                expression
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let op = match text_of("operator") {
                "In" => LabelOperator::In,
                "NotIn" => LabelOperator::NotIn,
                "Exists" => LabelOperator::Exists,
                "DoesNotExist" => LabelOperator::DoesNotExist,
                other => {
                    return Err(format!(
                        "{} is not a valid label selector operator",
                        quote(other)
                    ));
                }
            };
            let values = expression.get("values").and_then(Value::as_array);
            let values = values
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            requirements.push(LabelRequirement::new(text_of("key"), op, values)?);
        }
        Ok(Self::sorted(requirements))
    }

    /// The plain map form (Service, ReplicationController): all of these pairs; an absent or empty map selects nothing.
    pub fn from_map(map: &Value) -> Self {
        match map.as_object() {
            Some(pairs) if !pairs.is_empty() => Self::sorted(
                pairs
                    .iter()
                    .map(|(key, value)| LabelRequirement {
                        key: key.to_string(),
                        op: LabelOperator::Equals,
                        values: vec![value.as_str().unwrap_or_default().to_owned()],
                    })
                    .collect(),
            ),
            _ => Self::nothing(),
        }
    }

    fn sorted(mut requirements: Vec<LabelRequirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.requirements
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether it can select nothing at all.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether an object with these labels (a map, or null for none) is selected.
    pub fn matches(&self, labels: &Value) -> bool {
        self.matches_by(|key| labels.get(key).and_then(Value::as_str))
    }

    /// The same, for labels kept in any form.
    pub fn matches_by<'a>(&self, mut read: impl FnMut(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(read(&requirement.key)))
    }

    /// The labels that must have exactly one value: what an index can look up.
    pub fn exact_pairs(&self) -> Vec<(&str, &str)> {
        let exact = |r: &&LabelRequirement| {
            matches!(
                r.op,
                LabelOperator::Equals | LabelOperator::DoubleEquals | LabelOperator::In
            )
        };
        self.requirements
            .iter()
            .filter(exact)
            .filter_map(|requirement| match requirement.values.as_slice() {
                [value] => Some((requirement.key.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.requirements.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl LabelRequirement {
    /// A requirement whose key and values are checked.
    pub fn new(key: &str, op: LabelOperator, mut values: Vec<String>) -> Result<Self, String> {
        let mut errors = key_errors(key, &FieldPath::root().child("key"));
        let path = FieldPath::root().child("values");
        if let Some(detail) = count_complaint(op, values.len()) {
            errors.push(FieldError::invalid(&path, values.clone(), detail));
        }
        if matches!(op, LabelOperator::GreaterThan | LabelOperator::LessThan) {
            for (index, value) in values
                .iter()
                .enumerate()
                .filter(|(_, value)| value.parse::<i64>().is_err())
            {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(
                    &path.index(index),
                    value.as_str(),
                    detail,
                ));
            }
        }
        for (index, value) in values.iter().enumerate() {
            let texts = names::label_value(value);
            if !texts.is_empty() {
                errors.push(FieldError::invalid(
                    &path.index(index).key(key),
                    value.as_str(),
                    texts.join("; "),
                ));
            }
        }
        if !errors.is_empty() {
            return Err(aggregate(&errors));
        }
        values.sort_unstable();
        values.dedup();
        Ok(LabelRequirement {
            key: key.to_owned(),
            op,
            values,
        })
    }

    /// Whether a label with this value, or its absence, satisfies the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.op {
            LabelOperator::Equals | LabelOperator::DoubleEquals | LabelOperator::In => {
                value.is_some_and(listed)
            }
            LabelOperator::NotEquals | LabelOperator::NotIn => !value.is_some_and(listed),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
            LabelOperator::GreaterThan => self
                .compare(value)
                .is_some_and(|(have, bound)| have > bound),
            LabelOperator::LessThan => self
                .compare(value)
                .is_some_and(|(have, bound)| have < bound),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.op {
            LabelOperator::Exists => return f.write_str(&self.key),
            LabelOperator::DoesNotExist => return write!(f, "!{}", self.key),
            LabelOperator::In => return write!(f, "{} in ({})", self.key, self.values.join(",")),
            LabelOperator::NotIn => {
                return write!(f, "{} notin ({})", self.key, self.values.join(","));
            }
            LabelOperator::Equals => "=",
            LabelOperator::DoubleEquals => "==",
            LabelOperator::NotEquals => "!=",
            LabelOperator::GreaterThan => ">",
            LabelOperator::LessThan => "<",
        };
        write!(f, "{}{sign}{}", self.key, self.values.join(","))
    }
}

/// What is wrong with the number of values, if anything.
fn count_complaint(op: LabelOperator, count: usize) -> Option<&'static str> {
    match op {
        LabelOperator::In | LabelOperator::NotIn => {
            (count == 0).then_some("for 'in', 'notin' operators, values set can't be empty")
        }
        LabelOperator::Equals | LabelOperator::DoubleEquals | LabelOperator::NotEquals => {
            (count != 1).then_some("exact-match compatibility requires one single value")
        }
        LabelOperator::Exists | LabelOperator::DoesNotExist => {
            (count != 0).then_some("values set must be empty for exists and does not exist")
        }
        LabelOperator::GreaterThan | LabelOperator::LessThan => {
            (count != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required")
        }
    }
}

fn key_errors(key: &str, path: &FieldPath) -> Vec<FieldError> {
    let texts = names::qualified_name(key);
    if texts.is_empty() {
        Vec::new()
    } else {
        vec![FieldError::invalid(path, key, texts.join("; "))]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Symbol,
    End,
}

#[derive(Clone, Debug)]
struct Token<'a> {
    kind: Kind,
    text: std::borrow::Cow<'a, str>,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(blank);
        let Some(first) = rest.chars().next() else {
            break;
        };
        let length = if special(first) {
            if rest.starts_with("==") || rest.starts_with("!=") {
                2
            } else {
                1
            }
        } else {
            rest.find(|c| special(c) || blank(c)).unwrap_or(rest.len())
        };
        let kind = if special(first) {
            Kind::Symbol
        } else {
            Kind::Word
        };
        out.push(Token {
            kind,
            text: rest[..length].into(),
        });
        rest = &rest[length..];
    }
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).cloned().unwrap_or(Token {
            kind: Kind::End,
            text: "".into(),
        })
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<LabelRequirement>, String> {
        let mut requirements = Vec::new();
        if self.peek().kind == Kind::End {
            return Ok(requirements);
        }
        if !self.peek().starts_requirement() {
            return Err(format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                self.peek().text
            ));
        }
        loop {
            let requirement = self
                .requirement()
                .map_err(|e| format!("unable to parse requirement: {e}"))?;
            requirements.push(requirement);
            let separator = self.next();
            if separator.kind == Kind::End {
                return Ok(requirements);
            }
            if !separator.is(",") {
                return Err(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    separator.text
                ));
            }
            if !self.peek().starts_requirement() {
                return Err(format!(
                    "found '{}', expected: identifier after ','",
                    self.peek().text
                ));
            }
        }
    }

    fn requirement(&mut self) -> Result<LabelRequirement, String> {
        let mut token = self.next();
        let absent = token.is("!");
        if absent {
            token = self.next();
        }
        if token.kind != Kind::Word {
            return Err(format!("found '{}', expected: identifier", token.text));
        }
        let key = token.text;
        let errors = key_errors(&key, &FieldPath::root());
        if !errors.is_empty() {
            return Err(aggregate(&errors));
        }
        if absent {
            return LabelRequirement::new(&key, LabelOperator::DoesNotExist, Vec::new());
        }
        if self.peek().kind == Kind::End || self.peek().is(",") {
            return LabelRequirement::new(&key, LabelOperator::Exists, Vec::new());
        }
        let op = self.operator()?;
        let values = match op {
            LabelOperator::In | LabelOperator::NotIn => self.value_set()?,
            _ => vec![self.single_value()?],
        };
        LabelRequirement::new(&key, op, values)
    }

    fn operator(&mut self) -> Result<LabelOperator, String> {
        let token = self.next();
        match token.text.as_ref() {
            "=" => Ok(LabelOperator::Equals),
            "==" => Ok(LabelOperator::DoubleEquals),
            "!=" => Ok(LabelOperator::NotEquals),
            ">" => Ok(LabelOperator::GreaterThan),
            "<" => Ok(LabelOperator::LessThan),
            "in" => Ok(LabelOperator::In),
            "notin" => Ok(LabelOperator::NotIn),
            other => Err(format!(
                "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
            )),
        }
    }

    fn single_value(&mut self) -> Result<String, String> {
        if self.peek().kind == Kind::End || self.peek().is(",") {
            return Ok(String::new());
        }
        let token = self.next();
        match token.kind {
            Kind::Word => Ok(token.text.into_owned()),
            _ => Err(format!("found '{}', expected: identifier", token.text)),
        }
    }

    /// `(a,b)`; an empty place between commas is the empty value.
    fn value_set(&mut self) -> Result<Vec<String>, String> {
        let open = self.next();
        if !open.is("(") {
            return Err(format!("found '{}' expected: '('", open.text));
        }
        let mut values = Vec::new();
        let mut place_is_empty = true;
        loop {
            let token = self.next();
            if token.kind == Kind::Word && place_is_empty {
                values.push(token.text.into_owned());
                place_is_empty = false;
            } else if token.is(",") || token.is(")") {
                if place_is_empty {
                    values.push(String::new());
                }
                if token.is(")") {
                    return Ok(values);
                }
                place_is_empty = true;
            } else if place_is_empty && values.is_empty() {
                return Err(format!(
                    "found '{}', expected: ',', ')' or identifier",
                    token.text
                ));
            } else if place_is_empty {
                return Err(format!(
                    "found '{}', expected: ',', or identifier",
                    token.text
                ));
            } else {
                return Err(format!("found '{}', expected: ',' or ')'", token.text));
            }
        }
    }
}

impl Token<'_> {
    fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    fn starts_requirement(&self) -> bool {
        self.kind == Kind::Word || self.is("!")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use value::json;

    use super::*;

    fn parse(text: &str) -> LabelSelector {
        LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn texts_print_sorted_and_canonical() {
        let cases = [
            ("", ""),
            ("x=a,y=b,z=c", "x=a,y=b,z=c"),
            ("z==1, a!=2", "a!=2,z==1"),
            ("x in (c,a,,b)", "x in (,a,b,c)"),
            ("x notin ()", "x notin ()"),
            ("x in (a,)", "x in (,a)"),
            ("!x , y", "!x,y"),
            ("x=", "x="),
            ("x=,y=1", "x=,y=1"),
            ("x>1,y<2", "x>1,y<2"),
            ("in in (in,notin)", "in in (in,notin)"),
            ("example.com/a\tin(b)", "example.com/a in (b)"),
        ];
        for (text, printed) in cases {
            assert_eq!(parse(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn grammar_mistakes_are_named() {
        let cases = [
            (
                ",",
                "found ',', expected: !, identifier, or 'end of string'",
            ),
            ("x=a,", "found '', expected: identifier after ','"),
            ("x=a b", "found 'b', expected: ',' or 'end of string'"),
            (
                "x in a",
                "unable to parse requirement: found 'a' expected: '('",
            ),
            (
                "x a",
                "unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "x in (a",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            (
                "x==>",
                "unable to parse requirement: found '>', expected: identifier",
            ),
            (
                "!",
                "unable to parse requirement: found '', expected: identifier",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap_err(), message, "{text}");
        }
        let key = LabelSelector::parse("-x=a").unwrap_err();
        assert!(
            key.starts_with("unable to parse requirement: <nil>: Invalid value: \"-x\": name part must consist of"),
            "{key}"
        );
        let value = LabelSelector::parse("x=a$").unwrap_err();
        assert!(
            value.starts_with("unable to parse requirement: values[0][x]: Invalid value: \"a$\": a valid label must"),
            "{value}"
        );
        assert!(
            LabelSelector::parse("x>a")
                .unwrap_err()
                .contains("the value must be an integer")
        );
    }

    #[test]
    fn matching_follows_the_operators() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        for yes in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "other!=x",
            "app in (web,db)",
            "other notin (x)",
            "tier",
            "!other",
            "n>4",
            "n<6",
        ] {
            assert!(parse(yes).matches(&labels), "{yes}");
        }
        for no in [
            "app=db",
            "app!=web",
            "other",
            "!app",
            "app notin (web)",
            "other in (x)",
            "n>5",
            "app>1",
            "other=",
            "app=web,tier=back",
        ] {
            assert!(!parse(no).matches(&labels), "{no}");
        }
        assert!(parse("!a").matches(&Value::Null));
        assert!(!parse("a").matches(&Value::Null));
    }

    #[test]
    fn objects_become_selectors() {
        let object = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "old", "operator": "DoesNotExist"}]});
        let selector = LabelSelector::from_object(&object).expect("valid");
        assert_eq!(selector.to_string(), "app=web,!old,tier in (a,b)");
        assert_eq!(selector.exact_pairs(), [("app", "web")]);
        assert!(
            LabelSelector::from_object(&json!({}))
                .expect("valid")
                .matches(&Value::Null)
        );
        assert!(
            !LabelSelector::from_object(&Value::Null)
                .expect("valid")
                .matches(&Value::Null)
        );
        let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Has"}]});
        assert_eq!(
            LabelSelector::from_object(&wrong).unwrap_err(),
            "\"Has\" is not a valid label selector operator"
        );
        let empty = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
        assert_eq!(
            LabelSelector::from_object(&empty).unwrap_err(),
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        );
    }

    #[test]
    fn maps_become_selectors() {
        assert!(LabelSelector::from_map(&Value::Null).is_nothing());
        assert!(LabelSelector::from_map(&json!({})).is_nothing());
        assert!(LabelSelector::from_map(&json!({"a": "b"})).matches(&json!({"a": "b", "c": "d"})));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}|[a!=<>(), ]{0,20}(in|notin)?[a(),]{0,10}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
