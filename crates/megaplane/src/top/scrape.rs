//! Prometheus text to numbers, by name and labels.
//!
//! Knows the text format; no metric by its name.

use std::collections::BTreeMap;

/// Lines of one scrape that are read: a plane with every kind in use has a few thousand.
const LINES_MAX: usize = 200_000;

/// Labels of a series.
pub type Labels = BTreeMap<String, String>;

/// One scrape.
#[derive(Debug, Default)]
pub struct Scrape(BTreeMap<String, Vec<(Labels, f64)>>);

impl Scrape {
    /// Reads what can be read; lines that are no samples are passed over.
    pub fn parse(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        for line in text.lines().take(LINES_MAX) {
            if let Some((name, labels, value)) = sample(line) {
                scrape
                    .0
                    .entry(name.to_owned())
                    .or_default()
                    .push((labels, value));
            }
        }
        scrape
    }

    /// All series of a name.
    pub fn series(&self, name: &str) -> &[(Labels, f64)] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The value of a series without labels, or the sum of those with.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let series = self.0.get(name)?;
        Some(series.iter().map(|(_, value)| value).sum())
    }

    /// The value of one series.
    pub fn of(&self, name: &str, labels: &Labels) -> Option<f64> {
        let series = self.series(name).iter();
        series
            .filter(|(known, _)| known == labels)
            .map(|(_, value)| *value)
            .next()
    }
}

fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    // A time may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// `a="b",c="d"}` and what follows.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        text = rest.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_everything_else_is_passed_over() {
        let text = "# HELP a A.\n# TYPE a counter\na 3\nb{x=\"1\",y=\"say \\\"hi\\\"\"} 2.5 1700000000\nb{x=\"2\"} 1\n\
                    broken{x=\"1\nnothing\nc NaN\nd{} 7\n";
        let scrape = Scrape::parse(text);
        assert_eq!(scrape.sum("a"), Some(3.0));
        assert_eq!(scrape.sum("b"), Some(3.5));
        assert_eq!(scrape.series("b")[0].0["y"], "say \"hi\"");
        assert_eq!(
            scrape.of("b", &Labels::from([("x".into(), "2".into())])),
            Some(1.0)
        );
        assert_eq!(scrape.sum("d"), Some(7.0));
        assert_eq!(scrape.sum("broken"), None);
        assert_eq!(scrape.sum("nothing"), None);
    }
}
