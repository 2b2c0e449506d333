//! A section of a configuration being read: every field is taken by name, and what is left over was unknown.
//!
//! Does not know any field.

use std::time::Duration;

use meta::FieldPath;
use meta::Value;

/// One object of the file.
pub(super) struct Section<'a> {
    value: &'a Value,
    path: FieldPath,
    known: Vec<&'static str>,
    complaints: &'a mut Vec<String>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        value: &'a Value,
        path: FieldPath,
        complaints: &'a mut Vec<String>,
    ) -> Section<'a> {
        if !value.is_object() && !value.is_null() {
            complaints.push(format!("{path}: an object is expected"));
        }
        Section {
            value,
            path,
            known: Vec::new(),
            complaints,
        }
    }

    /// Complains about fields that nobody took.
    pub(super) fn finish(self) {
        for name in self
            .value
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
        {
            if !self.known.contains(&name.as_str()) {
                let path = self.path.child(name.as_str());
                self.complaints.push(format!("unknown field \"{path}\""));
            }
        }
    }

    /// A field as it is, unless it is absent or null.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.value.get(name).filter(|value| !value.is_null())
    }

    fn mistyped(&mut self, name: &str, expected: &str) {
        let path = self.path.child(name);
        self.complaints
            .push(format!("{path}: {expected} is expected"));
    }

    pub(super) fn text(&mut self, name: &'static str, default: &str) -> String {
        match self.take(name) {
            None => default.to_owned(),
            Some(Value::String(text)) if text.is_empty() => default.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => {
                self.mistyped(name, "a text");
                default.to_owned()
            }
        }
    }

    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> bool {
        match self.take(name).map(Value::as_bool) {
            None => default,
            Some(Some(flag)) => flag,
            Some(None) => {
                self.mistyped(name, "true or false");
                default
            }
        }
    }

    /// An integer of 32 bits.
    pub(super) fn integer(&mut self, name: &'static str, default: i64) -> i64 {
        match self.take(name).map(Value::as_i64) {
            None => default,
            Some(Some(number)) if i32::try_from(number).is_ok() => number,
            Some(_) => {
                self.mistyped(name, "an integer of 32 bits");
                default
            }
        }
    }

    pub(super) fn number(&mut self, name: &'static str, default: f64) -> f64 {
        match self.take(name).map(Value::as_f64) {
            None => default,
            Some(Some(number)) => number,
            Some(None) => {
                self.mistyped(name, "a number");
                default
            }
        }
    }

    /// A duration as Go writes it: `15s`, `1m30s`, `200ms`.
    pub(super) fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        match self
            .take(name)
            .map(|value| value.as_str().and_then(go_duration))
        {
            None => default,
            Some(Some(duration)) => duration,
            Some(None) => {
                self.mistyped(name, "a duration such as 15s");
                default
            }
        }
    }

    pub(super) fn texts(&mut self, name: &'static str) -> Vec<String> {
        let Some(value) = self.take(name) else {
            return Vec::new();
        };
        let list = value.as_array().map(|items| {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        });
        list.flatten().unwrap_or_else(|| {
            self.mistyped(name, "a list of texts");
            Vec::new()
        })
    }

    /// Reads an object below.
    pub(super) fn section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        let value = self.take(name)?;
        let path = self.path.child(name);
        let mut below = Section::new(value, path, self.complaints);
        let result = read(&mut below);
        below.finish();
        Some(result)
    }

    /// Reads a list of objects; each is told where it stands.
    pub(super) fn sections<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Section<'_>, &FieldPath) -> T,
    ) -> Option<Vec<T>> {
        let value = self.take(name)?;
        let Some(items) = value.as_array() else {
            self.mistyped(name, "a list");
            return None;
        };
        let path = self.path.child(name);
        let mut results = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let path = path.index(at);
            let mut below = Section::new(item, path.clone(), self.complaints);
            results.push(read(&mut below, &path));
            below.finish();
        }
        Some(results)
    }
}

fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    if text.is_empty() {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("200ms", 200),
            ("0", 0),
        ] {
            assert_eq!(
                go_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "15", "s", "1x", "-1s", "1e400s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
