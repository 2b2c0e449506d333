//! Field selectors: `metadata.name=web-1,status.phase!=Running`, with upstream's grammar and escapes.
//! Knows no field; which ones a resource supports, and how to read them, is the registry's business.

use std::fmt;

use crate::quote::quote;

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldOperator {
    /// Equal: `=` or `==`.
    Eq,
    /// Different: `!=`.
    NotEq,
}

/// One comparison of a field with a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    /// Name of the field, such as `spec.nodeName`.
    pub field: String,
    /// How to compare.
    pub op: FieldOperator,
    /// The value, unescaped.
    pub value: String,
}

/// Comparisons that must all hold. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Parses the url-decoded text of a `fieldSelector` parameter.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::with_capacity(terms.len());
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let Some((field, op, value)) = split_term(term) else {
                return Err(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                ));
            };
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                op,
                value: unescape(value)?,
            });
        }
        Ok(FieldSelector { requirements })
    }

    /// The selector of one field having one value.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        let requirement = FieldRequirement {
            field: field.into(),
            op: FieldOperator::Eq,
            value: value.into(),
        };
        FieldSelector {
            requirements: vec![requirement],
        }
    }

    /// The comparisons, in the order of their text.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object whose fields `read` tells is selected; an absent field counts as empty.
    pub fn matches<'a>(&self, mut read: impl FnMut(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let equal = read(&requirement.field).unwrap_or_default() == requirement.value;
            equal == (requirement.op == FieldOperator::Eq)
        })
    }

    /// The value a field must equal, if the selector says so.
    pub fn exact_value(&self, field: &str) -> Option<&str> {
        let exact = |r: &&FieldRequirement| r.field == field && r.op == FieldOperator::Eq;
        self.requirements
            .iter()
            .find(exact)
            .map(|requirement| requirement.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.requirements.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let op = match requirement.op {
                FieldOperator::Eq => "=",
                FieldOperator::NotEq => "!=",
            };
            write!(
                f,
                "{comma}{}{op}{}",
                requirement.field,
                escape(&requirement.value)
            )?;
        }
        Ok(())
    }
}

/// Cuts at commas that no backslash protects.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            terms.push(&text[start..at]);
            start = at + 1;
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Cuts a term at its first operator.
fn split_term(term: &str) -> Option<(&str, FieldOperator, &str)> {
    const OPERATORS: [(&str, FieldOperator); 3] = [
        ("!=", FieldOperator::NotEq),
        ("==", FieldOperator::Eq),
        ("=", FieldOperator::Eq),
    ];
    for (at, _) in term.char_indices() {
        for (sign, op) in OPERATORS {
            if let Some(value) = term[at..].strip_prefix(sign) {
                return Some((&term[..at], op, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: {}",
                        quote(&sequence)
                    ));
                }
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    quote(&c.to_string())
                ));
            }
            plain => out.push(plain),
        }
    }
    Ok(out)
}

/// Protects what the grammar would otherwise take as its own.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(field: &str, op: FieldOperator, value: &str) -> FieldRequirement {
        FieldRequirement {
            field: field.into(),
            op,
            value: value.into(),
        }
    }

    #[test]
    fn parses_the_three_operators() {
        let selector =
            FieldSelector::parse("spec.nodeName=n1,status.phase!=Running,metadata.name==x")
                .expect("valid");
        assert_eq!(
            selector.requirements(),
            [
                one("metadata.name", FieldOperator::Eq, "x"),
                one("spec.nodeName", FieldOperator::Eq, "n1"),
                one("status.phase", FieldOperator::NotEq, "Running"),
            ]
        );
        assert_eq!(
            selector.to_string(),
            "metadata.name=x,spec.nodeName=n1,status.phase!=Running"
        );
        assert_eq!(selector.exact_value("spec.nodeName"), Some("n1"));
        assert_eq!(selector.exact_value("status.phase"), None);
        assert!(FieldSelector::parse("").expect("valid").is_empty());
    }

    #[test]
    fn escapes_protect_commas_and_equal_signs() {
        let selector = FieldSelector::parse(r"a=1\,2\=3\\").expect("valid");
        assert_eq!(
            selector.requirements(),
            [one("a", FieldOperator::Eq, r"1,2=3\")]
        );
        assert_eq!(selector.to_string(), r"a=1\,2\=3\\");
        assert!(FieldSelector::parse(r"a=b\x").is_err());
        assert!(FieldSelector::parse("a=b=c").is_err());
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(
            FieldSelector::parse("metadata.name").unwrap_err(),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
    }

    #[test]
    fn absent_fields_count_as_empty() {
        let selector = FieldSelector::parse("spec.nodeName!=,status.phase=Pending").expect("valid");
        assert!(selector.matches(|field| Some(if field == "status.phase" {
            "Pending"
        } else {
            "n1"
        })));
        assert!(!selector.matches(|field| (field == "status.phase").then_some("Pending")));
    }

    proptest! {
        #[test]
        fn any_value_survives_escaping(value in ".*") {
            let selector = FieldSelector::equals("a", value.clone());
            let parsed = FieldSelector::parse(&selector.to_string()).expect("escaped");
            prop_assert_eq!(parsed.exact_value("a"), Some(value.as_str()));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = FieldSelector::parse(&text);
        }
    }
}
