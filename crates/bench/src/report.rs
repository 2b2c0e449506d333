//! A report: figures in order, as a table for people or as one JSON object.
//!
//! The unit of a figure is in its name, in both forms.

use value::{Map, Value, json};

use crate::measure::{Samples, load_average, machine};
use crate::summary::{Row, table};

/// Figures of one benchmark.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<(String, Value)>,
    rows: Vec<Row>,
}

impl Report {
    /// A report whose writes went to memory only, as in all benchmarks that run in one process.
    pub fn in_memory() -> Report {
        Report::default().text("durability", "memory")
    }

    /// A whole number.
    pub fn count(mut self, name: impl Into<String>, count: usize) -> Report {
        self.figures.push((name.into(), count.into()));
        self
    }

    /// A measured number, to about four digits: more would pretend.
    pub fn number(mut self, name: impl Into<String>, number: f64) -> Report {
        self.figures.push((name.into(), rounded(number)));
        self
    }

    /// The same under a name that is put together.
    pub fn named_number(mut self, name: String, number: f64) -> Report {
        self.figures.push((name, rounded(number)));
        self
    }

    /// A word.
    pub fn text(mut self, name: impl Into<String>, text: &str) -> Report {
        self.figures.push((name.into(), text.into()));
        self
    }

    /// Whole numbers, in the order of time.
    pub fn counts(mut self, name: &'static str, counts: &[u64]) -> Report {
        self.figures.push((name.into(), json!(counts)));
        self
    }

    /// Whether something is so.
    pub fn flag(mut self, name: &'static str, is_so: bool) -> Report {
        self.figures.push((name.into(), is_so.into()));
        self
    }

    /// The median of some runs.
    pub fn median(self, name: impl Into<String>, samples: &Samples) -> Report {
        self.number(name, samples.median())
    }

    /// The median of some runs, and how far they lay apart: the figure that the benchmark is about.
    pub fn main(self, name: impl Into<String>, samples: &Samples) -> Report {
        let name = name.into();
        let (low, high) = samples.range();
        let mut report = self.number(name.clone(), samples.median());
        let range = json!([rounded(low), rounded(high)]);
        report.figures.push((format!("{name}_range"), range));
        report
    }

    /// A row of the summary for people; its figures are in the report by themselves.
    pub fn row(mut self, row: Row) -> Report {
        self.rows.push(row);
        self
    }

    /// Completes it with what is the same in all reports.
    pub fn of_benchmark(mut self, name: &str, load_before: &[f64; 3]) -> Report {
        self.figures.insert(0, ("benchmark".into(), name.into()));
        self.figures
            .push(("load_average_before".into(), json!(load_before)));
        self.figures
            .push(("load_average_after".into(), json!(load_average())));
        self.figures.push(("machine".into(), machine()));
        self
    }

    /// The object of `--json`.
    pub fn to_json(&self) -> Value {
        Value::Object(self.figures.iter().cloned().collect::<Map>())
    }

    /// The table for people.
    pub fn to_table(&self) -> String {
        let width = self
            .figures
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.figures {
            let name = name.replace('_', " ");
            text.push_str(&format!("{name:<width$}  {}\n", readable(value)));
        }
        if !self.rows.is_empty() {
            text.push('\n');
            text.push_str(&table(&self.rows));
        }
        text
    }
}

fn rounded(number: f64) -> Value {
    if !number.is_finite() {
        return Value::Null;
    }
    if number.abs() >= 1000.0 {
        return json!(number.round() as i64);
    }
    let digits = if number.abs() >= 100.0 { 10.0 } else { 1000.0 };
    json!((number * digits).round() / digits)
}

fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(readable).collect::<Vec<_>>().join(" … "),
        Value::Object(map) => {
            let part = |(name, value): (&value::Key, &Value)| {
                format!("{} {}", name.replace('_', " "), readable(value))
            };
            map.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) if number.is_i64() || number.is_u64() => grouped(&number.to_string()),
        other => other.to_string(),
    }
}

/// A whole number with its thousands apart.
pub fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped_for_people() {
        assert_eq!(rounded(1234567.8), json!(1234568));
        assert_eq!(rounded(123.456), json!(123.5));
        assert_eq!(rounded(1.23456), json!(1.235));
        assert_eq!(rounded(f64::NAN), Value::Null);
        for (number, text) in [
            ("1", "1"),
            ("123", "123"),
            ("1234", "1,234"),
            ("1234567", "1,234,567"),
            ("-123", "-123"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_table_and_the_object_say_the_same() {
        let report = Report::in_memory()
            .count("nodes", 12345)
            .number("us_per_pod", 1.5);
        assert_eq!(
            report.to_json(),
            json!({"durability": "memory", "nodes": 12345, "us_per_pod": 1.5})
        );
        assert_eq!(
            report.to_table(),
            "durability  memory\nnodes       12,345\nus per pod  1.5\n"
        );
    }
}
