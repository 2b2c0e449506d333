//! Values whose text form is not their fields: quantities, times, durations, base64.
//!
//! Turns each into its one canonical spelling. It does not know where in an object they stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use value::Value;

use crate::error::DecodeError;
use crate::table::Special;
use crate::wire::{Reader, Wire, put_bytes, put_int};

/// Seconds of Go's zero time, 0001-01-01T00:00:00Z: it stands for "unset" and is written as null.
const ZERO_TIME_SECONDS: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z: later years have no place in RFC 3339.
const LAST_TIME_SECONDS: i64 = 253_402_300_799;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Brings a special value that is text or number in JSON into canonical form. `Null` means unset.
pub(crate) fn canonicalize(special: Special, value: &mut Value) -> Result<(), DecodeError> {
    match special {
        Special::Quantity => {
            let text = match &*value {
                Value::String(text) if is_canonical_quantity(text) => return Ok(()),
                Value::String(text) => text.trim().to_owned(),
                Value::Number(number) => number.to_string(),
                other => return Err(quantity_error(&other.to_string())),
            };
            if !is_canonical_quantity(&text) {
                *value =
                    Value::String(meta::quantity::canonical(&text).map_err(DecodeError::Value)?);
            } else if value.as_str() != Some(&text) {
                *value = Value::String(text);
            }
        }
        Special::IntOrString => match value {
            Value::String(_) => {}
            Value::Number(number)
                if number
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok()) => {}
            other => {
                return Err(DecodeError::Type(format!(
                    "json: cannot unmarshal {} into Go value of type int32",
                    go_value(other, true)
                )));
            }
        },
        Special::Time | Special::MicroTime => {
            let fraction = special == Special::MicroTime;
            let micros = time_micros(value)?;
            // Of these lengths and in UTC, what could be read is what would be written.
            let length = if fraction { 27 } else { 20 };
            let canonical = value
                .as_str()
                .is_some_and(|text| text.len() == length && text.ends_with('Z'));
            if !canonical || micros.div_euclid(MICROS_PER_SECOND) <= ZERO_TIME_SECONDS {
                *value = time_value(micros, fraction);
            }
        }
        Special::Duration => {
            let Value::String(text) = &*value else {
                return Err(DecodeError::Type(format!(
                    "json: cannot unmarshal {} into Go value of type string",
                    go_value(value, false)
                )));
            };
            let nanos = meta::time::parse_go_duration(text).map_err(DecodeError::Value)?;
            *value = Value::String(meta::time::format_go_duration(nanos));
        }
        _ => {}
    }
    Ok(())
}

/// Recognises most quantities that are canonical already, without parsing them: a small number that its suffix cannot
/// absorb a factor of. `false` only means to look closer.
pub(crate) fn is_canonical_quantity(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=6).contains(&digits) || text.starts_with('0') {
        return false;
    }
    let Ok(mantissa) = text[..digits].parse::<u32>() else {
        return false;
    };
    match &text[digits..] {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" => !mantissa.is_multiple_of(1000),
        "Ki" | "Mi" | "Gi" | "Ti" => !mantissa.is_multiple_of(1024),
        _ => false,
    }
}

fn quantity_error(text: &str) -> DecodeError {
    let error = meta::quantity::canonical(text).err();
    DecodeError::Value(error.unwrap_or_else(|| "quantities must be strings or numbers".to_owned()))
}

fn time_micros(value: &Value) -> Result<i64, DecodeError> {
    match value {
        Value::String(text) => meta::time::parse(text).map_err(DecodeError::Value),
        other => Err(DecodeError::Type(format!(
            "json: cannot unmarshal {} into Go value of type string",
            go_value(other, false)
        ))),
    }
}

fn time_value(micros: i64, fraction: bool) -> Value {
    if micros.div_euclid(MICROS_PER_SECOND) <= ZERO_TIME_SECONDS {
        return Value::Null;
    }
    Value::String(if fraction {
        meta::time::format_micros(micros)
    } else {
        meta::time::format_seconds(micros)
    })
}

/// How Go names the JSON value it could not use.
pub(crate) fn go_value(value: &Value, number_text: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number_text => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// The JSON of a special type's zero value.
pub(crate) fn zero_json(special: Special) -> &'static str {
    match special {
        Special::Quantity => "\"0\"",
        Special::IntOrString => "0",
        Special::Duration => "\"0s\"",
        Special::SchemaOrBool => "false",
        _ => "null",
    }
}

/// Whether a canonical value is the zero value of its type.
pub(crate) fn is_zero(special: Special, value: &Value) -> bool {
    match (special, value) {
        (_, Value::Null) => true,
        (Special::Quantity, Value::String(text)) => text == "0",
        (Special::IntOrString, Value::Number(number)) => number.as_i64() == Some(0),
        (Special::Duration, Value::String(text)) => text == "0s",
        (Special::SchemaOrBool, Value::Bool(allows)) => !allows,
        (Special::Items, Value::Array(items)) => items.is_empty(),
        _ => false,
    }
}

/// Writes the message content of a canonical quantity, time or the like. `false` if the value is not of the type.
pub(crate) fn encode(special: Special, value: &Value, out: &mut Vec<u8>) -> bool {
    match (special, value) {
        (Special::Quantity, Value::Null) => put_bytes(1, b"0", out),
        (Special::Quantity, Value::String(text)) => put_bytes(1, text.as_bytes(), out),
        (Special::IntOrString, Value::Null) => int_or_string(0, 0, "", out),
        (Special::IntOrString, Value::String(text)) => int_or_string(1, 0, text, out),
        (Special::IntOrString, Value::Number(number)) => match number
            .as_i64()
            .and_then(|number| i32::try_from(number).ok())
        {
            Some(number) => int_or_string(0, number, "", out),
            None => return false,
        },
        (Special::Time | Special::MicroTime, Value::Null) => {}
        (Special::Time | Special::MicroTime, Value::String(text)) => {
            let Ok(micros) = meta::time::parse(text) else {
                return false;
            };
            let seconds = micros.div_euclid(MICROS_PER_SECOND);
            let nanos = if special == Special::Time {
                0
            } else {
                micros.rem_euclid(MICROS_PER_SECOND) * 1000
            };
            put_int(1, seconds as u64, out);
            put_int(2, nanos as u64, out);
        }
        (Special::Duration, Value::Null) => put_int(1, 0, out),
        (Special::Duration, Value::String(text)) => {
            let Ok(nanos) = meta::time::parse_go_duration(text) else {
                return false;
            };
            put_int(1, nanos as u64, out);
        }
        _ => return false,
    }
    true
}

fn int_or_string(kind: u64, number: i32, text: &str, out: &mut Vec<u8>) {
    put_int(1, kind, out);
    put_int(2, i64::from(number) as u64, out);
    put_bytes(3, text.as_bytes(), out);
}

/// A decoded special message, borrowed from the wire.
pub(crate) enum Plain<'a> {
    Null,
    Text(&'a str),
    Owned(String),
    Time(TimeText),
    Int(i64),
}

/// A time written out, without an allocation: a watch frame has several.
pub(crate) struct TimeText {
    bytes: [u8; 27],
    length: usize,
}

impl TimeText {
    fn new(seconds: i64, micros: Option<i64>) -> TimeText {
        let seconds = seconds.clamp(ZERO_TIME_SECONDS, LAST_TIME_SECONDS);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years begin in March here, so that the leap day is the last of its year; 400 years are an era.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let mut text = TimeText {
            bytes: *b"0000-00-00T00:00:00.000000Z",
            length: 27,
        };
        text.put(0, 4, year);
        text.put(5, 2, month);
        text.put(8, 2, day);
        text.put(11, 2, second / 3_600);
        text.put(14, 2, second / 60 % 60);
        text.put(17, 2, second % 60);
        match micros {
            Some(micros) => text.put(20, 6, micros),
            None => {
                text.bytes[19] = b'Z';
                text.length = 20;
            }
        }
        text
    }

    fn put(&mut self, at: usize, width: usize, mut value: i64) {
        for place in (at..at + width).rev() {
            self.bytes[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn as_str(&self) -> &str {
        // Digits and punctuation are always UTF-8.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// Reads the message content of a quantity, time or the like.
pub(crate) fn decode(special: Special, message: &[u8]) -> Result<Plain<'_>, DecodeError> {
    let mut reader = Reader::new(message);
    let (mut ints, mut text) = ([0i64; 3], "");
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1 | 2, Wire::Varint(value)) => ints[number as usize] = value as i64,
            (1 | 3, Wire::Bytes(bytes)) => {
                text = std::str::from_utf8(bytes)
                    .map_err(|_| DecodeError::protobuf("string is not UTF-8"))?;
            }
            (1..=3, _) => {
                return Err(DecodeError::protobuf(
                    "wrong wireType in a well-known value",
                ));
            }
            _ => {}
        }
    }
    Ok(match special {
        Special::Quantity if text.is_empty() => Plain::Text("0"),
        Special::Quantity => Plain::Text(text),
        Special::IntOrString if ints[1] == 1 => Plain::Text(text),
        Special::IntOrString => Plain::Int(i64::from(ints[2] as i32)),
        Special::Time | Special::MicroTime
            if message.is_empty() || ints[1] <= ZERO_TIME_SECONDS =>
        {
            Plain::Null
        }
        Special::Time => Plain::Time(TimeText::new(ints[1], None)),
        Special::MicroTime => Plain::Time(TimeText::new(
            ints[1],
            Some((ints[2] / 1000).clamp(0, 999_999)),
        )),
        Special::Duration => Plain::Owned(meta::time::format_go_duration(ints[1])),
        _ => Plain::Null,
    })
}

/// Base64 as Go reads it: line breaks are ignored.
pub(crate) fn base64_decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    let result = if text.contains(['\n', '\r']) {
        STANDARD.decode(text.replace(['\n', '\r'], ""))
    } else {
        STANDARD.decode(text)
    };
    result.map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _)
            | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            _ => text.len(),
        };
        DecodeError::Value(format!("illegal base64 data at input byte {at}"))
    })
}

pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn canonical(special: Special, mut value: Value) -> Result<Value, String> {
        canonicalize(special, &mut value)
            .map(|()| value)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn canonical_spellings() {
        assert_eq!(canonical(Special::Quantity, json!("1000m")), Ok(json!("1")));
        assert_eq!(canonical(Special::Quantity, json!(0.5)), Ok(json!("500m")));
        assert_eq!(canonical(Special::Quantity, json!(2)), Ok(json!("2")));
        assert_eq!(
            canonical(Special::Quantity, json!("1024Mi")),
            Ok(json!("1Gi"))
        );
        assert!(canonical(Special::Quantity, json!("1 Gi")).is_err());
        assert_eq!(
            canonical(Special::Time, json!("2026-01-02T03:04:05.9+01:00")),
            Ok(json!("2026-01-02T02:04:05Z"))
        );
        assert_eq!(
            canonical(Special::Time, json!("0001-01-01T00:00:00Z")),
            Ok(Value::Null)
        );
        assert_eq!(
            canonical(Special::MicroTime, json!("2026-01-02T03:04:05.5Z")),
            Ok(json!("2026-01-02T03:04:05.500000Z"))
        );
        assert_eq!(
            canonical(Special::Duration, json!("90s")),
            Ok(json!("1m30s"))
        );
        assert_eq!(
            canonical(Special::IntOrString, json!("25%")),
            Ok(json!("25%"))
        );
        assert_eq!(
            canonical(Special::IntOrString, json!(true)),
            Err("json: cannot unmarshal bool into Go value of type int32".to_owned())
        );
    }

    #[test]
    fn the_short_cut_for_quantities_agrees_with_parsing_them() {
        for mantissa in (0..3_000).chain([10_000, 99_999, 102_400, 1_048_576, 999_999]) {
            for suffix in [
                "", "n", "u", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "e3", "x",
            ] {
                let text = format!("{mantissa}{suffix}");
                if is_canonical_quantity(&text) {
                    assert_eq!(meta::quantity::canonical(&text), Ok(text));
                }
            }
        }
        assert!(
            is_canonical_quantity("128Mi")
                && is_canonical_quantity("100m")
                && !is_canonical_quantity("1000m")
        );
    }

    #[test]
    fn times_are_written_as_meta_writes_them() {
        let mut seconds = ZERO_TIME_SECONDS;
        while seconds < LAST_TIME_SECONDS {
            let micros = seconds.rem_euclid(MICROS_PER_SECOND);
            let wanted = meta::time::format_micros(seconds * MICROS_PER_SECOND + micros);
            assert_eq!(TimeText::new(seconds, Some(micros)).as_str(), wanted);
            assert_eq!(
                TimeText::new(seconds, None).as_str(),
                meta::time::format_seconds(seconds * MICROS_PER_SECOND)
            );
            seconds += 86_400 * 1_000 + 12_345;
        }
    }

    #[test]
    fn message_bytes() {
        let bytes = |special, value: Value| {
            let mut out = Vec::new();
            assert!(encode(special, &value, &mut out));
            out
        };
        assert_eq!(bytes(Special::Quantity, json!("1Gi")), b"\x0a\x031Gi");
        assert_eq!(
            bytes(Special::IntOrString, json!(80)),
            [0x08, 0, 0x10, 80, 0x1a, 0]
        );
        assert_eq!(
            bytes(Special::IntOrString, json!("http")),
            b"\x08\x01\x10\x00\x1a\x04http"
        );
        assert_eq!(
            bytes(Special::Time, json!("1970-01-01T00:00:05Z")),
            [0x08, 5, 0x10, 0]
        );
        assert_eq!(
            bytes(Special::MicroTime, json!("1970-01-01T00:00:05.000001Z")),
            [0x08, 5, 0x10, 0xe8, 0x07]
        );
        assert!(bytes(Special::Time, Value::Null).is_empty());
        assert_eq!(bytes(Special::Duration, json!("1µs")), [0x08, 0xe8, 0x07]);
    }

    #[test]
    fn base64_errors_name_the_byte() {
        assert_eq!(base64_decode("aGk=\n").unwrap(), b"hi");
        assert_eq!(
            base64_decode("a$==").unwrap_err().to_string(),
            "illegal base64 data at input byte 1"
        );
    }
}
