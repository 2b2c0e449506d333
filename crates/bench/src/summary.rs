//! The table at the end of a story: one row a stretch, for people. The same figures are in the report, one by one.
//!
//! Knows no cluster.

/// One stretch.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub name: &'static str,
    pub seconds: f64,
    pub per_second: f64,
    pub cores: f64,
    pub cpu_micros_each: f64,
    pub resident_gib: f64,
    /// Of small requests made meanwhile, by kind.
    pub calls_p99_ms: Vec<(&'static str, f64)>,
}

/// The rows under their headings; nothing without rows.
pub fn table(rows: &[Row]) -> String {
    let Some(first) = rows.iter().max_by_key(|row| row.calls_p99_ms.len()) else {
        return String::new();
    };
    let kinds: Vec<&str> = first.calls_p99_ms.iter().map(|(kind, _)| *kind).collect();
    let mut cells: Vec<Vec<String>> = Vec::new();
    let headings = [
        "stretch",
        "seconds",
        "a second",
        "cores",
        "us CPU each",
        "GiB",
    ];
    let mut heading: Vec<String> = headings.map(String::from).to_vec();
    heading.extend(kinds.iter().map(|kind| format!("{kind} p99 ms")));
    cells.push(heading);
    for row in rows {
        let mut line = vec![
            row.name.to_owned(),
            format!("{:.1}", row.seconds),
            crate::report::grouped(&format!("{:.0}", row.per_second)),
            format!("{:.2}", row.cores),
            format!("{:.1}", row.cpu_micros_each),
            format!("{:.2}", row.resident_gib),
        ];
        line.extend(kinds.iter().map(|kind| {
            let millis = row.calls_p99_ms.iter().find(|(one, _)| one == kind);
            millis.map_or("-".into(), |(_, millis)| format!("{millis:.2}"))
        }));
        cells.push(line);
    }
    let width = |column: usize| {
        let of = |line: &Vec<String>| line.get(column).map_or(0, String::len);
        cells.iter().map(of).max().unwrap_or(0)
    };
    let mut text = String::new();
    for line in &cells {
        let columns: Vec<String> = line
            .iter()
            .enumerate()
            .map(|(column, cell)| match column {
                0 => format!("{cell:<width$}", width = width(0)),
                _ => format!("{cell:>width$}", width = width(column)),
            })
            .collect();
        text.push_str(columns.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, calls: &[(&'static str, f64)]) -> Row {
        Row {
            name,
            seconds: 32.94,
            per_second: 6_079.0,
            cores: 1.234,
            cpu_micros_each: 132.04,
            resident_gib: 0.83,
            calls_p99_ms: calls.to_vec(),
        }
    }

    #[test]
    fn rows_stand_under_their_headings() {
        let rows = [
            row("register", &[]),
            row("steady", &[("get", 0.06), ("mutate", 0.21)]),
        ];
        let expected = "\
stretch   seconds  a second  cores  us CPU each   GiB  get p99 ms  mutate p99 ms
register     32.9     6,079   1.23        132.0  0.83           -              -
steady       32.9     6,079   1.23        132.0  0.83        0.06           0.21
";
        assert_eq!(table(&rows), expected);
        assert_eq!(table(&[]), "");
    }
}
