//! YAML in and out. In: one document, bounded, read as sigs.k8s.io/yaml reads it (YAML 1.1 booleans and octals). Out:
//! sorted keys, lists flush with their key, strings quoted only where they would read back as something else.
//!
//! It knows trees, not Kubernetes types.

use serde_saphyr::options::DuplicateKeyPolicy;
use value::Value;

use crate::MAX_DEPTH;
use crate::error::DecodeError;
use crate::json::{write_float, write_int};

/// A request body is at most 3 MiB; aliases must not blow that up: this many nodes and bytes at most come out of it.
const NODES_MAX: usize = 400_000;
const SCALAR_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A document, and the complaint about a key that is there twice.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) complaint: Option<String>,
}

pub(crate) fn parse(body: &[u8]) -> Result<Value, DecodeError> {
    parse_with_complaint(body).map(|parsed| parsed.value)
}

pub(crate) fn parse_with_complaint(body: &[u8]) -> Result<Parsed, DecodeError> {
    match read(body, DuplicateKeyPolicy::Error) {
        Ok(value) => Ok(Parsed {
            value,
            complaint: None,
        }),
        Err(problem) if !problem.to_ascii_lowercase().contains("duplicate") => {
            Err(DecodeError::Yaml(problem))
        }
        // If nothing but a duplicate key was wrong, the second reading succeeds.
        Err(complaint) => match read(body, DuplicateKeyPolicy::LastWins) {
            Ok(value) => Ok(Parsed {
                value,
                complaint: Some(complaint),
            }),
            Err(problem) => Err(DecodeError::Yaml(problem)),
        },
    }
}

fn read(body: &[u8], duplicate_keys: DuplicateKeyPolicy) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: NODES_MAX,
            max_documents: 1,
            max_total_scalar_bytes: SCALAR_BYTES_MAX,
        },
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_slice_with_options(body, options).map_err(|error| error.to_string())
}

/// Appends a tree as a block-style document.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) if !map.is_empty() => write_map(map, 0, out),
        Value::Array(items) if !items.is_empty() => write_list(items, 0, out),
        scalar => {
            write_scalar(scalar, 0, out);
            out.push(b'\n');
        }
    }
}

fn write_map(map: &value::Map, indent: usize, out: &mut Vec<u8>) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            spaces(indent, out);
        }
        write_string(key, None, out);
        out.push(b':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push(b'\n');
                spaces(indent + 2, out);
                write_map(inner, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push(b'\n');
                spaces(indent, out);
                write_list(items, indent, out);
            }
            scalar => {
                out.push(b' ');
                write_scalar(scalar, indent + 2, out);
                out.push(b'\n');
            }
        }
    }
}

fn write_list(items: &[Value], indent: usize, out: &mut Vec<u8>) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            spaces(indent, out);
        }
        out.extend_from_slice(b"- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(map, indent + 2, out),
            Value::Array(inner) if !inner.is_empty() => write_list(inner, indent + 2, out),
            scalar => {
                write_scalar(scalar, indent + 2, out);
                out.push(b'\n');
            }
        }
    }
}

fn spaces(count: usize, out: &mut Vec<u8>) {
    out.extend(std::iter::repeat_n(b' ', count));
}

fn write_scalar(value: &Value, indent: usize, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => write_int(integer, out),
            (None, Some(float)) if number.is_f64() => write_float(float, out),
            _ => out.extend_from_slice(number.to_string().as_bytes()),
        },
        Value::String(text) => write_string(text, Some(indent), out),
        Value::Array(_) => out.extend_from_slice(b"[]"),
        Value::Object(_) => out.extend_from_slice(b"{}"),
    }
}

/// `block_indent` is where a literal block may stand; keys have none.
fn write_string(text: &str, block_indent: Option<usize>, out: &mut Vec<u8>) {
    let special = text
        .chars()
        .any(|character| character != '\n' && !printable(character));
    let multiline = text.contains('\n');
    if let (true, false, Some(indent)) = (
        multiline,
        special || text.contains(" \n") || text.ends_with(' '),
        block_indent,
    ) {
        write_literal(text, indent, out);
    } else if special || multiline || reads_as_other(text) {
        write_double_quoted(text, out);
    } else if plain_allowed(text) {
        out.extend_from_slice(text.as_bytes());
    } else {
        out.push(b'\'');
        out.extend_from_slice(text.replace('\'', "''").as_bytes());
        out.push(b'\'');
    }
}

fn printable(character: char) -> bool {
    !matches!(character, '\0'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{2029}' | '\u{85}')
}

/// Text that, bare, would be null, a boolean, a number, a date or a merge key. Generous where YAML 1.1 is murky.
fn reads_as_other(text: &str) -> bool {
    let words = [
        "", "~", "null", "Null", "NULL", "<<", ".nan", ".NaN", ".NAN",
    ];
    if words.contains(&text) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let cased =
        text == lower || text == text.to_ascii_uppercase() || text.get(1..) == lower.get(1..);
    if cased
        && matches!(
            lower.as_str(),
            "y" | "n" | "yes" | "no" | "true" | "false" | "on" | "off"
        )
    {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && (number(unsigned) || date(text) || base60(unsigned))
}

fn number(unsigned: &str) -> bool {
    let digits = unsigned.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|digit| digit.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0X", 16) || radix("0b", 2) || radix("0o", 8) {
        return true;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() {
        return true;
    }
    let (mantissa, exponent) = digits
        .split_once(['e', 'E'])
        .map_or((digits.as_str(), None), |(left, right)| (left, Some(right)));
    let mantissa_fine = mantissa.bytes().any(|byte| byte.is_ascii_digit())
        && mantissa
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && mantissa.bytes().filter(|byte| *byte == b'.').count() <= 1;
    let exponent_fine = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && exponent.bytes().all(|byte| byte.is_ascii_digit())
    });
    mantissa_fine && exponent_fine
}

/// `2026-01-02` and longer: a timestamp of YAML 1.1.
fn date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let four = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    let Some(rest) = four.then(|| &text[5..]) else {
        return false;
    };
    let Some((month, day)) = rest.split_once('-') else {
        return false;
    };
    let day_digits = day.bytes().take_while(u8::is_ascii_digit).count();
    let after = &day[day_digits..];
    (1..=2).contains(&month.len())
        && month.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=2).contains(&day_digits)
        && (after.is_empty()
            || after.starts_with(['T', 't', ' '])
                && after[1..].starts_with(|c: char| c.is_ascii_digit())
                && after.contains(':'))
}

/// `12:30:45`: a number in base sixty to YAML 1.1.
fn base60(unsigned: &str) -> bool {
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or("");
    let rest: Vec<&str> = parts.collect();
    let digits = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'_')
    };
    !rest.is_empty()
        && digits(first)
        && rest.iter().all(|part| {
            let whole = part.split('.').next().unwrap_or("");
            digits(whole)
                && whole.len() <= 2
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'_')
        })
}

/// Whether a one-line text may stand bare in block context.
fn plain_allowed(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else {
        return false;
    };
    let blank_after = |at: usize| bytes.get(at + 1).is_none_or(|byte| *byte == b' ');
    if text.starts_with("---")
        || text.starts_with("...")
        || text.starts_with(' ')
        || text.ends_with(' ')
    {
        return false;
    }
    if b"#,[]{}&*!|>'\"%@`".contains(first) || (matches!(first, b'-' | b'?') && blank_after(0)) {
        return false;
    }
    !bytes.iter().enumerate().any(|(at, byte)| match byte {
        b':' => blank_after(at),
        b'#' => at > 0 && bytes[at - 1] == b' ',
        _ => false,
    })
}

fn write_literal(text: &str, indent: usize, out: &mut Vec<u8>) {
    out.push(b'|');
    if text.starts_with([' ', '\n']) {
        out.push(b'2');
    }
    let body = match text.strip_suffix('\n') {
        None => {
            out.push(b'-');
            text
        }
        Some(body) => {
            if body.ends_with('\n') || body.is_empty() {
                out.push(b'+');
            }
            body
        }
    };
    for line in body.split('\n') {
        out.push(b'\n');
        if !line.is_empty() {
            spaces(indent, out);
            out.extend_from_slice(line.as_bytes());
        }
    }
}

fn write_double_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        let short = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\0' => "\\0",
            '\x07' => "\\a",
            '\x08' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\x0b' => "\\v",
            '\x0c' => "\\f",
            '\r' => "\\r",
            '\x1b' => "\\e",
            '\u{85}' => "\\N",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            character if printable(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            character => {
                let code = u32::from(character);
                let escaped = if code < 0x100 {
                    format!("\\x{code:02X}")
                } else {
                    format!("\\u{code:04X}")
                };
                out.extend_from_slice(escaped.as_bytes());
                continue;
            }
        };
        out.extend_from_slice(short.as_bytes());
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn text(value: &Value) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn reads_as_kubernetes_does() {
        let value = parse(b"a: yes\nb: 0644\nc: \"no\"\nd: 1.5\ne: ~\nf: 0x10\ng: 9223372036854775807\n1: [off]\n").unwrap();
        assert_eq!(
            value,
            json!({"a": true, "b": 420, "c": "no", "d": 1.5, "e": null, "f": 16, "g": 9_223_372_036_854_775_807i64, "1": [false]})
        );
        assert_eq!(
            parse(b"base: &b {x: 1}\nuse: *b\n").unwrap()["use"],
            json!({"x": 1})
        );
    }

    #[test]
    fn bombs_and_broken_documents_are_refused() {
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (name, before) in "bcdefghi".chars().zip("abcdefgh".chars()) {
            bomb.push_str(&format!(
                "{name}: &{name} [{}]\n",
                vec![format!("*{before}"); 9].join(",")
            ));
        }
        assert!(parse(bomb.as_bytes()).is_err());
        assert!(parse("[".repeat(MAX_DEPTH + 10).as_bytes()).is_err());
        for bad in ["a: [", "a: b: c", "a: 1\n---\nb: 2\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_deepest_allowed_document_fits_the_smallest_stack() {
        let depth = MAX_DEPTH - 2;
        let flow = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let value = parse(flow.as_bytes()).unwrap();
        assert_eq!(crate::parse_json(flow.as_bytes()).unwrap(), value);
        assert!(!text(&value).is_empty());
    }

    #[test]
    fn duplicate_keys_are_complained_about() {
        let parsed = parse_with_complaint(b"a: 1\na: 2\n").unwrap();
        assert_eq!(parsed.value, json!({"a": 2}));
        assert!(parsed.complaint.is_some());
    }

    #[test]
    fn quoting() {
        let value = json!({
            "bool": "true", "date": "2026-01-02", "empty": "", "float": "1e3", "int": "0", "key: odd": "x",
            "lead": " x", "list": ["a b", "- a", "-a", "a: b", "a:b", "it's #1", "#x", "*", "y", "12:30:45", "1.2.3", "10.0.0.1", "0x1F", "1Gi"],
            "multi": "a\n  b\n", "multi2": "a\nb", "tab": "a\tb", "nested": [[1, 2], {"a": 1, "b": []}], "null": null, "obj": {},
        });
        let expected = "bool: \"true\"
date: \"2026-01-02\"
empty: \"\"
float: \"1e3\"
int: \"0\"
'key: odd': x
lead: ' x'
list:
- a b
- '- a'
- -a
- 'a: b'
- a:b
- 'it''s #1'
- '#x'
- '*'
- \"y\"
- \"12:30:45\"
- 1.2.3
- 10.0.0.1
- \"0x1F\"
- 1Gi
multi: |
  a
    b
multi2: |-
  a
  b
nested:
- - 1
  - 2
- a: 1
  b: []
\"null\": null
obj: {}
tab: \"a\\tb\"
";
        assert_eq!(text(&value), expected);
        assert_eq!(parse(expected.as_bytes()).unwrap(), value);
    }
}
