//! JSON text: a strict, bounded reader into trees, and writers that spell values as Go's encoder does.
//!
//! It knows nothing of Kubernetes types. Integers are kept exactly; nesting is bounded by [`crate::MAX_DEPTH`].

use value::{Key, Map, Number, Value};

use crate::MAX_DEPTH;
use crate::error::DecodeError;
use crate::table::table;

/// A parsed document, and whether some object in it named a key twice (the later one won).
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) duplicates: bool,
}

/// Parses exactly one JSON value.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    let mut scanner = Scanner::new(bytes);
    let mut duplicates = false;
    let value = scanner.value(0, &mut duplicates)?;
    scanner.end()?;
    Ok(Parsed { value, duplicates })
}

/// Walks JSON text byte by byte. Also used without building trees: to skip, compact and search.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Scanner<'a> {
        Scanner { bytes, at: 0 }
    }

    /// Skips white space and looks at the next byte.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Only white space may remain.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.invalid("after top-level value")),
        }
    }

    pub(crate) fn expect(&mut self, byte: u8, place: &str) -> Result<(), DecodeError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.invalid(place))
    }

    /// After an element: `true` if another follows, `false` after the closing byte.
    pub(crate) fn another(&mut self, close: u8, place: &str) -> Result<bool, DecodeError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.invalid(place)),
        }
    }

    /// Steps over an opening byte; `true` if the collection is empty (and is then closed, too).
    pub(crate) fn open(&mut self, close: u8) -> bool {
        self.at += 1;
        if self.peek() == Some(close) {
            self.at += 1;
            return true;
        }
        false
    }

    pub(crate) fn key(&mut self) -> Result<String, DecodeError> {
        if self.peek() != Some(b'"') {
            return Err(self.invalid("looking for beginning of object key string"));
        }
        let key = self.string()?;
        self.expect(b':', "after object key")?;
        Ok(key)
    }

    /// A key that is not copied if it is a field's name.
    fn shared_key(&mut self) -> Result<Key, DecodeError> {
        if self.peek() != Some(b'"') {
            return Err(self.invalid("looking for beginning of object key string"));
        }
        let begin = self.at;
        let (raw, escaped) = self.raw_string()?;
        let known = std::str::from_utf8(raw)
            .ok()
            .filter(|_| !escaped)
            .and_then(|name| table().known_name(name));
        let key = match known {
            Some(name) => name.into(),
            None => {
                self.at = begin;
                self.string()?.into()
            }
        };
        self.expect(b':', "after object key")?;
        Ok(key)
    }

    fn value(&mut self, depth: usize, duplicates: &mut bool) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match self.peek() {
            Some(b'{') => {
                let mut map = Map::new();
                if self.open(b'}') {
                    return Ok(Value::Object(map));
                }
                loop {
                    let key = self.shared_key()?;
                    let value = self.value(depth + 1, duplicates)?;
                    *duplicates |= map.insert(key, value).is_some();
                    if !self.another(b'}', "after object key:value pair")? {
                        return Ok(Value::Object(map));
                    }
                }
            }
            Some(b'[') => {
                let mut items = Vec::new();
                if self.open(b']') {
                    return Ok(Value::Array(items));
                }
                loop {
                    items.push(self.value(depth + 1, duplicates)?);
                    if !self.another(b']', "after array element")? {
                        return Ok(Value::Array(items));
                    }
                }
            }
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.word("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Value::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number().and_then(number_value),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    /// Steps over one value without keeping it.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match self.peek() {
            Some(b'{') => {
                if self.open(b'}') {
                    return Ok(());
                }
                loop {
                    if self.peek() != Some(b'"') {
                        return Err(self.invalid("looking for beginning of object key string"));
                    }
                    self.raw_string()?;
                    self.expect(b':', "after object key")?;
                    self.skip(depth + 1)?;
                    if !self.another(b'}', "after object key:value pair")? {
                        return Ok(());
                    }
                }
            }
            Some(b'[') => {
                if self.open(b']') {
                    return Ok(());
                }
                loop {
                    self.skip(depth + 1)?;
                    if !self.another(b']', "after array element")? {
                        return Ok(());
                    }
                }
            }
            Some(b'"') => self.raw_string().map(|_| ()),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), DecodeError> {
        for expected in word.bytes() {
            if self.bytes.get(self.at) != Some(&expected) {
                return Err(self.invalid(&format!(
                    "in literal {word} (expecting {:?})",
                    char::from(expected)
                )));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// The text of a number, checked against JSON's grammar.
    fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        std::str::from_utf8(&self.bytes[start..self.at])
            .map_err(|_| self.invalid("in numeric literal"))
    }

    fn digits(&mut self, place: &str) -> Result<(), DecodeError> {
        let start = self.at;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.invalid(place))
        } else {
            Ok(())
        }
    }

    /// The bytes between the quotes, escapes unread, and whether there are any.
    fn raw_string(&mut self) -> Result<(&'a [u8], bool), DecodeError> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((&self.bytes[start..self.at - 1], escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    match self.bytes.get(self.at) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                            self.at += 1
                        }
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.bytes.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                                    return Err(self.invalid("in \\u hexadecimal character escape"));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(self.invalid("in string escape code")),
                    }
                }
                Some(0..=0x1f) => return Err(self.invalid("in string literal")),
                Some(_) => self.at += 1,
                None => return Err(self.invalid("in string literal")),
            }
        }
    }

    /// A string, unescaped. What is not UTF-8, and lone surrogates, become U+FFFD as in Go.
    pub(crate) fn string(&mut self) -> Result<String, DecodeError> {
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(String::from_utf8_lossy(raw).into_owned());
        }
        let mut out = Vec::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
            out.extend_from_slice(&rest[..at]);
            let escape = rest.get(at + 1).copied().unwrap_or(b'\\');
            rest = rest.get(at + 2..).unwrap_or(&[]);
            let plain = match escape {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let unit = hex4(rest);
                    rest = rest.get(4..).unwrap_or(&[]);
                    let mut character = char::from_u32(unit);
                    if (0xd800..0xdc00).contains(&unit) && rest.starts_with(b"\\u") {
                        let low = hex4(&rest[2..]);
                        if (0xdc00..0xe000).contains(&low) {
                            rest = rest.get(6..).unwrap_or(&[]);
                            character =
                                char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
                        }
                    }
                    let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                other => other,
            };
            out.push(plain);
        }
        out.extend_from_slice(rest);
        Ok(String::from_utf8(out)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn invalid(&self, place: &str) -> DecodeError {
        match self.bytes.get(self.at) {
            None => DecodeError::Syntax("unexpected end of JSON input".to_owned()),
            Some(byte) => {
                DecodeError::Syntax(format!("invalid character {:?} {place}", char::from(*byte)))
            }
        }
    }
}

fn hex4(bytes: &[u8]) -> u32 {
    let digits = bytes
        .get(..4)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(0xfffd)
}

fn number_value(text: &str) -> Result<Value, DecodeError> {
    if !text.contains(['.', 'e', 'E']) {
        if let Ok(integer) = text.parse::<i64>() {
            return Ok(Value::from(integer));
        }
        if let Ok(integer) = text.parse::<u64>() {
            return Ok(Value::from(integer));
        }
    }
    let number = text.parse::<f64>().ok().and_then(Number::from_f64);
    number.map(Value::Number).ok_or_else(|| {
        DecodeError::Type(format!(
            "json: cannot unmarshal number {text} into Go value of type float64"
        ))
    })
}

/// Whether `<`, `>`, `&` are escaped: Go does so in replies, never inside stored raw JSON.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Html {
    Escape,
    Keep,
}

/// Writes a tree compactly, keys sorted.
pub(crate) fn write_value(value: &Value, html: Html, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string_as(text, html, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, html, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string_as(key, html, out);
                out.push(b':');
                write_value(item, html, out);
            }
            out.push(b'}');
        }
    }
}

pub(crate) fn write_number(number: &Number, out: &mut Vec<u8>) {
    if let Some(integer) = number.as_i64() {
        write_int(integer, out);
    } else if let Some(integer) = number.as_u64() {
        out.extend_from_slice(integer.to_string().as_bytes());
    } else {
        write_float(number.as_f64().unwrap_or(0.0), out);
    }
}

pub(crate) fn write_int(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// The shortest text that reads back equal; an exponent only outside 1e-6..1e21, as Go writes it.
pub(crate) fn write_float(value: f64, out: &mut Vec<u8>) {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        out.extend_from_slice(mantissa.as_bytes());
        out.push(b'e');
        if !exponent.starts_with('-') {
            out.push(b'+');
        }
        out.extend_from_slice(exponent.as_bytes());
    } else {
        out.extend_from_slice(format!("{value}").as_bytes());
    }
}

/// Writes a string with its quotes, escaping `<`, `>`, `&` as Go's encoder does.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    write_string_as(text, Html::Escape, out);
}

pub(crate) fn write_string_as(text: &str, html: Html, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text.as_bytes(), html, out);
    out.push(b'"');
}

/// Bytes that a JSON string may carry as they are. 0xE2 opens U+2028 and U+2029, which Go escapes.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[b'<' as usize] = false;
    plain[b'>' as usize] = false;
    plain[b'&' as usize] = false;
    plain[0xE2] = false;
    plain
};

fn escape(bytes: &[u8], html: Html, out: &mut Vec<u8>) {
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if PLAIN[usize::from(*byte)] {
            continue;
        }
        let replacement: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            b'<' if html == Html::Escape => b"\\u003c",
            b'>' if html == Html::Escape => b"\\u003e",
            b'&' if html == Html::Escape => b"\\u0026",
            b'<' | b'>' | b'&' => continue,
            0xE2 if bytes[at..].starts_with(&[0xE2, 0x80, 0xA8]) => b"\\u2028",
            0xE2 if bytes[at..].starts_with(&[0xE2, 0x80, 0xA9]) => b"\\u2029",
            0xE2 => continue,
            control => {
                out.extend_from_slice(&bytes[start..at]);
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
                start = at + 1;
                continue;
            }
        };
        out.extend_from_slice(&bytes[start..at]);
        out.extend_from_slice(replacement);
        start = at + if *byte == 0xE2 { 3 } else { 1 };
    }
    out.extend_from_slice(&bytes[start..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Copies raw JSON without its white space and with HTML escaped; fails if it is not JSON.
pub(crate) fn compact(raw: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut check = Scanner::new(raw);
    check.skip(0)?;
    check.end()?;
    let text = std::str::from_utf8(raw)
        .map_err(|_| DecodeError::Syntax("raw JSON is not UTF-8".to_owned()))?;
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'>' => out.extend_from_slice(b"\\u003e"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            0xE2 if raw[at..].starts_with(&[0xE2, 0x80, 0xA8]) => out.extend_from_slice(b"\\u2028"),
            0xE2 if raw[at..].starts_with(&[0xE2, 0x80, 0xA9]) => out.extend_from_slice(b"\\u2029"),
            0xA8 | 0xA9 if at >= 2 && raw[at - 2..at] == [0xE2, 0x80] => {}
            0x80 if at >= 1
                && raw[at - 1] == 0xE2
                && matches!(raw.get(at + 1), Some(0xA8 | 0xA9)) => {}
            byte => out.push(byte),
        }
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            in_string = byte == b'"';
        }
    }
    Ok(())
}

/// Indents compact JSON by two spaces a level, as `?pretty=true` shows it. The input must be JSON.
pub fn indent(compact: &[u8], out: &mut Vec<u8>) {
    let newline = |depth: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    let mut depth = 0usize;
    let (mut in_string, mut escaped) = (false, false);
    let mut bytes = compact.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                if let Some(close) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(depth, out);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                newline(depth, out);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                newline(depth, out);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &Value) -> String {
        let mut out = Vec::new();
        write_value(value, Html::Escape, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_survive_and_floats_look_like_go() {
        let parsed = parse(
            b" [9223372036854775807, -1, 1e21, 1e-7, 0.1, 100.0, 1e20, 18446744073709551615] ",
        )
        .unwrap();
        assert_eq!(
            text(&parsed.value),
            "[9223372036854775807,-1,1e+21,1e-7,0.1,100,100000000000000000000,18446744073709551615]"
        );
    }

    #[test]
    fn strings_escape_as_in_go() {
        let parsed = parse(br#""\u003c\"\\\/\b\f\n\u0001\ud83d\ude00\ud800 \u2028""#).unwrap();
        assert_eq!(
            text(&parsed.value),
            "\"\\u003c\\\"\\\\/\\b\\f\\n\\u0001\u{1f600}\u{fffd} \\u2028\""
        );
    }

    #[test]
    fn duplicates_are_seen_and_the_last_wins() {
        let parsed = parse(br#"{"a":1,"b":{"c":1,"c":2}}"#).unwrap();
        assert!(parsed.duplicates);
        assert_eq!(text(&parsed.value), r#"{"a":1,"b":{"c":2}}"#);
        assert!(!parse(br#"{"a":1,"b":{"a":1}}"#).unwrap().duplicates);
    }

    #[test]
    fn broken_documents_are_errors() {
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            "+1",
            "nul",
            "\"\\x\"",
            "\"",
            "{} {}",
            "{a:1}",
            "\"\n\"",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(
            parse(b"").err().unwrap().to_string(),
            "unexpected end of JSON input"
        );
        assert_eq!(
            parse(b"{]").err().unwrap().to_string(),
            "invalid character ']' looking for beginning of object key string"
        );
        let deep = "[".repeat(MAX_DEPTH + 2);
        assert_eq!(parse(deep.as_bytes()).err(), Some(DecodeError::TooDeep));
    }

    #[test]
    fn compact_and_indent() {
        let mut out = Vec::new();
        compact(
            "{ \"a b\" : [ 1, \"x \\\" <y>\u{2028}\" ], \"c\":{} }".as_bytes(),
            &mut out,
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out.clone()).unwrap(),
            r#"{"a b":[1,"x \" \u003cy\u003e\u2028"],"c":{}}"#
        );
        let mut pretty = Vec::new();
        indent(&out, &mut pretty);
        assert_eq!(
            String::from_utf8(pretty).unwrap(),
            "{\n  \"a b\": [\n    1,\n    \"x \\\" \\u003cy\\u003e\\u2028\"\n  ],\n  \"c\": {}\n}"
        );
        assert!(compact(b"{", &mut Vec::new()).is_err());
    }
}
