//! Figures as lines of text, cut to a width and a height.
//!
//! Knows no terminal: plain text, whose first words of a section are capitals.

use super::figures::Figures;

/// The width that everything is made for.
pub const COLUMNS_MIN: usize = 80;
/// Rows of a section at most, and at least where there is little room.
const ROWS_MAX: usize = 12;
const ROWS_MIN: usize = 2;

/// The picture: at most `rows` lines of at most `columns` characters.
pub fn lines(figures: &Figures, columns: usize, rows: usize) -> Vec<String> {
    let mut lines = head(figures);
    // What is left, shared out: three headings, and an empty line before each.
    let room = rows.saturating_sub(lines.len() + 6) / 3;
    let room = room.clamp(ROWS_MIN, ROWS_MAX);
    let mut add = |section: Vec<String>| {
        if section.len() > 1 {
            lines.push(String::new());
            lines.extend(section);
        }
        lines.len()
    };
    add(requests(figures, room));
    let used = add(latencies(figures, room));
    // The last takes what the others did not need.
    let left = rows.saturating_sub(used + 2);
    add(kinds(figures, left.clamp(ROWS_MIN, ROWS_MAX)));
    lines.truncate(rows);
    lines.iter().map(|line| cut(line, columns)).collect()
}

/// At most so many characters of a text, of its first line.
pub fn cut(text: &str, columns: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars()
        .take(columns)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn head(figures: &Figures) -> Vec<String> {
    let or_none = |value: Option<f64>, text: fn(f64) -> String| value.map_or("?".into(), text);
    let mut lines = vec![format!(
        "{}  memory {}  revision {}{}",
        figures.server,
        or_none(figures.resident_bytes, size),
        or_none(figures.revision_applied, count),
        match (figures.revision_applied, figures.revision_durable) {
            // Without a disk nothing ever is durable.
            (Some(applied), Some(durable)) if durable > 0.0 => {
                format!(", {} not durable yet", count((applied - durable).max(0.0)))
            }
            _ => String::new(),
        }
    )];
    lines.push(format!(
        "Writes {}/s  watches {} open, {} events/s",
        or_none(figures.writes_per_second, count),
        or_none(figures.watches_open, count),
        or_none(figures.watch_events_per_second, count),
    ));
    lines.push(format!(
        "Nodes {}: {} Ready, {} not",
        or_none(figures.nodes, count),
        or_none(figures.nodes_ready, count),
        or_none(figures.nodes_not_ready(), count),
    ));
    let pending: f64 = figures.pending.values().sum();
    let queues: Vec<String> = figures
        .pending
        .iter()
        .filter(|(_, pods)| **pods > 0.0)
        .map(|(queue, pods)| format!("{queue} {}", count(*pods)))
        .collect();
    let queues = if queues.is_empty() {
        String::new()
    } else {
        format!(" ({})", queues.join(", "))
    };
    lines.push(format!(
        "Pods {}: {} scheduled/s, {} pending{queues}",
        or_none(figures.pods, count),
        or_none(figures.scheduled_per_second, count),
        count(pending),
    ));
    if let Some(fleet) = &figures.fleet {
        lines.push(format!(
            "Fleet {} nodes, {} silent: {} renewals/s, at most {:.1} s late",
            count(fleet.registered),
            count(fleet.silent),
            count(fleet.renewals_per_second),
            fleet.renewal_late_max_ms / 1e3,
        ));
        lines.push(format!(
            "      pods {} started/s, {} ended/s; {} failures/s",
            count(fleet.pods_started_per_second),
            count(fleet.pods_stopped_per_second),
            count(fleet.failures_per_second),
        ));
    }
    lines
}

fn requests(figures: &Figures, rows: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<8} {:<44} {:>12} {:>12}",
        "REQUESTS", "", "a second", "errors"
    )];
    lines.extend(figures.requests.iter().take(rows).map(|one| {
        format!(
            "{:<8} {:<44} {:>12} {:>12}",
            short(&one.verb, 8),
            short(&one.name(), 44),
            count(one.per_second),
            count(one.errors_per_second)
        )
    }));
    lines
}

fn latencies(figures: &Figures, rows: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<16} {:>12} {:>12} {:>12}",
        "LATENCY", "a second", "p50 ms", "p99 ms"
    )];
    lines.extend(figures.latencies.iter().take(rows).map(|one| {
        format!(
            "{:<16} {:>12} {:>12.2} {:>12.2}",
            short(&one.verb, 16),
            count(one.per_second),
            one.p50_ms,
            one.p99_ms
        )
    }));
    lines
}

fn kinds(figures: &Figures, rows: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<34} {:>11} {:>10} {:>10} {:>10}",
        "MEMORY", "objects", "live", "history", "watches"
    )];
    lines.extend(figures.kinds.iter().take(rows).map(|kind| {
        format!(
            "{:<34} {:>11} {:>10} {:>10} {:>10}",
            short(&kind.name(), 34),
            count(kind.objects),
            size(kind.object_bytes),
            size(kind.history_bytes),
            count(kind.watchers)
        )
    }));
    lines
}

fn short(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

/// A number with thousands apart; one decimal where it is small and broken.
fn count(value: f64) -> String {
    if value < 100.0 && (value - value.round()).abs() > 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + 4);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the unit that fits.
fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1_000.0 {
            let decimals = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1_024.0;
    }
    format!("{value:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::sample;
    use super::*;

    #[test]
    fn the_picture_fits_80_columns() {
        let picture = lines(&sample(), 80, usize::MAX);
        let expected = "\
https://h:1  memory 100 MiB  revision 5,000, 10 not durable yet
Writes 100/s  watches 12 open, ? events/s
Nodes 10: 8 Ready, 2 not
Pods 3: 3 scheduled/s, 3 pending (active 1, backoff 2)
Fleet 10 nodes, 2 silent: 100 renewals/s, at most 0.0 s late
      pods 0 started/s, 0 ended/s; 0 failures/s

REQUESTS                                                  a second       errors
UPDATE   leases.coordination.k8s.io                            100            0
GET      pods                                                    2            1

LATENCY              a second       p50 ms       p99 ms
UPDATE                    100         1.00         9.82

MEMORY                                 objects       live    history    watches
nodes                                       10   29.3 KiB   19.5 KiB          4
pods                                         3    4.0 KiB        0 B          0";
        assert_eq!(picture.join("\n"), expected);
        assert!(picture.iter().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn a_small_window_gets_less() {
        let picture = lines(&sample(), 20, 9);
        assert_eq!(picture.len(), 9);
        assert!(picture.iter().all(|line| line.chars().count() <= 20));
    }

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (12.0, "12"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(count(value), text);
        }
        for (bytes, text) in [
            (0.0, "0 B"),
            (2_048.0, "2.0 KiB"),
            (7e8, "668 MiB"),
            (2e10, "18.6 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
