//! A run as a picture: four panels over one axis of time, as SVG text.
//!
//! ```text
//!   a second    renewals, writes, and what each stretch is about
//!   late        the latest renewal, in seconds
//!   memory      resident, in GiB
//!   cores       in use
//! ```
//!
//! Stretches are shaded and named. Pure: samples in, text out; the same samples give the same bytes.

use std::fmt::Write as _;

use crate::board::{Sample, Stretch};

const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 70.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 34.0;
const BOTTOM: f64 = 50.0;
/// Columns that a picture can show: more samples are drawn together.
const POINTS_MAX: usize = 1_200;

struct Line {
    name: &'static str,
    colour: &'static str,
    of: fn(&Sample) -> f64,
}

struct Panel {
    unit: &'static str,
    lines: &'static [Line],
}

const PANELS: [Panel; 4] = [
    Panel {
        unit: "a second",
        lines: &[
            Line {
                name: "writes",
                colour: "#9aa5b1",
                of: |sample| sample.writes_per_second,
            },
            Line {
                name: "Lease renewals",
                colour: "#1f6fb4",
                of: |sample| sample.renewals_per_second,
            },
            Line {
                name: "nodes or pods of the stretch",
                colour: "#c8511b",
                of: |sample| sample.done_per_second,
            },
        ],
    },
    Panel {
        unit: "seconds late",
        lines: &[Line {
            name: "latest renewal",
            colour: "#a3262a",
            of: |sample| sample.late_seconds,
        }],
    },
    Panel {
        unit: "GiB",
        lines: &[Line {
            name: "resident memory",
            colour: "#2b7a3d",
            of: |sample| sample.resident_gib,
        }],
    },
    Panel {
        unit: "cores",
        lines: &[Line {
            name: "cores in use",
            colour: "#6b3fa0",
            of: |sample| sample.cores,
        }],
    },
];

/// The picture of a run.
pub fn svg(title: &str, samples: &[Sample], stretches: &[Stretch]) -> String {
    let end = samples
        .iter()
        .map(|sample| sample.at)
        .chain(stretches.iter().filter_map(|stretch| stretch.ended))
        .fold(1.0, f64::max);
    let height = TOP + PANELS.len() as f64 * (PANEL + GAP) - GAP + BOTTOM;
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * (seconds / end).clamp(0.0, 1.0);
    let mut out = String::with_capacity(64 << 10);
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>"
    );
    text(&mut out, LEFT, 24.0, "start", "#222", 16, title);
    for (number, panel) in PANELS.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + GAP);
        shade(&mut out, stretches, end, &x, top, number == 0);
        draw(&mut out, panel, samples, &x, top);
    }
    let bottom = height - BOTTOM;
    let (step, unit) = time_step(end);
    let mut at = 0.0;
    while at <= end {
        let place = x(at);
        let _ = writeln!(
            out,
            "<line x1=\"{place:.1}\" y1=\"{bottom:.1}\" x2=\"{place:.1}\" y2=\"{:.1}\" stroke=\"#222\"/>",
            bottom + 5.0
        );
        let number = short(at / unit.0);
        text(
            &mut out,
            place,
            bottom + 18.0,
            "middle",
            "#222",
            12,
            &number,
        );
        at += step;
    }
    let name = format!("{} since the start", unit.1);
    text(
        &mut out,
        (LEFT + WIDTH - RIGHT) / 2.0,
        bottom + 36.0,
        "middle",
        "#222",
        12,
        &name,
    );
    out.push_str("</svg>\n");
    out
}

fn shade(
    out: &mut String,
    stretches: &[Stretch],
    end: f64,
    x: &impl Fn(f64) -> f64,
    top: f64,
    is_named: bool,
) {
    for (number, stretch) in stretches.iter().enumerate() {
        let (from, to) = (x(stretch.begun), x(stretch.ended.unwrap_or(end)));
        let fill = if number % 2 == 0 {
            "#eef3f8"
        } else {
            "#f8f4ec"
        };
        let _ = writeln!(
            out,
            "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{PANEL}\" fill=\"{fill}\"/>",
            to - from
        );
        // Names of short stretches would lie over each other: two rows in turn.
        if is_named {
            let row = top - 5.0 - 13.0 * (number % 2) as f64;
            text(out, from + 2.0, row, "start", "#555", 11, stretch.name);
        }
    }
}

fn draw(out: &mut String, panel: &Panel, samples: &[Sample], x: &impl Fn(f64) -> f64, top: f64) {
    let highest = panel
        .lines
        .iter()
        .flat_map(|line| samples.iter().map(line.of))
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max);
    let step = nice_step(highest, 4.0);
    let limit = (highest / step).ceil().max(1.0) * step;
    let y = |value: f64| top + PANEL - PANEL * (value / limit).clamp(0.0, 1.0);
    let mut tick = 0.0;
    while tick <= limit * 1.0001 {
        let place = y(tick);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{place:.1}\" x2=\"{:.1}\" y2=\"{place:.1}\" stroke=\"#ccd\" stroke-width=\"0.6\"/>",
            WIDTH - RIGHT
        );
        text(
            out,
            LEFT - 6.0,
            place + 4.0,
            "end",
            "#222",
            12,
            &short(tick),
        );
        tick += step;
    }
    let middle = top + PANEL / 2.0;
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"{middle:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {middle:.1})\">{}</text>",
        escaped(panel.unit)
    );
    let mut legend = WIDTH - RIGHT - 6.0;
    for line in panel.lines.iter().rev() {
        text(out, legend, top + 14.0, "end", line.colour, 12, line.name);
        legend -= 7.0 * line.name.len() as f64 + 16.0;
    }
    for line in panel.lines {
        let points = points(samples, line.of);
        let mut path = String::new();
        for (at, value) in points {
            let _ = write!(path, "{:.1},{:.1} ", x(at), y(value));
        }
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\" points=\"{}\"/>",
            line.colour,
            path.trim_end()
        );
    }
}

/// As many points as a picture can show, each the highest of its neighbours: a peak is what is looked for.
fn points(samples: &[Sample], of: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let together = samples.len().div_ceil(POINTS_MAX).max(1);
    samples
        .chunks(together)
        .filter_map(|chunk| {
            let values = chunk.iter().map(of).filter(|value| value.is_finite());
            let highest = values.fold(0.0, f64::max);
            chunk.last().map(|last| (last.at, highest))
        })
        .collect()
}

/// Of 1, 2 and 5 times a power of ten the smallest that makes at most so many steps up to `highest`.
fn nice_step(highest: f64, steps: f64) -> f64 {
    let wanted = (highest / steps).max(1e-3);
    let power = 10f64.powf(wanted.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = factors
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= wanted * 0.9999);
    fits.unwrap_or(10.0 * power)
}

/// Seconds between two marks of the time, and the unit they are written in.
fn time_step(end: f64) -> (f64, (f64, &'static str)) {
    let unit = match end {
        end if end <= 180.0 => (1.0, "seconds"),
        end if end <= 3.0 * 3_600.0 => (60.0, "minutes"),
        _ => (3_600.0, "hours"),
    };
    (nice_step(end / unit.0, 10.0) * unit.0, unit)
}

/// A number as an axis has room for it.
fn short(number: f64) -> String {
    let (number, suffix) = match number.abs() {
        size if size >= 999_999.5 => (number / 1e6, "M"),
        size if size >= 10_000.0 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let text = format!("{number:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{suffix}")
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, colour: &str, size: u32, words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\">{}</text>",
        escaped(words)
    );
}

fn escaped(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of elements in the order in which they begin; fails where they are not nested, where an attribute has no
    /// quotes, or where text holds what it must not.
    fn elements(text: &str) -> Vec<String> {
        let (mut open, mut all, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some(at) = rest.find('<') {
            let before = &rest[..at];
            assert!(!before.contains('>'), "{before}");
            for part in before.split('&').skip(1) {
                assert!(
                    ["amp;", "lt;", "gt;"]
                        .iter()
                        .any(|name| part.starts_with(name)),
                    "{before}"
                );
            }
            let end = rest[at..].find('>').expect("a tag ends") + at;
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
                continue;
            }
            let (tag, is_empty) = tag
                .strip_suffix('/')
                .map_or((tag, false), |tag| (tag, true));
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let mut left = attributes.trim();
            while !left.is_empty() {
                let (key, value) = left.split_once("=\"").expect("a quoted attribute");
                assert!(
                    key.bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                    "{key}"
                );
                let (value, after) = value.split_once('"').expect("a closed attribute");
                assert!(
                    !value.contains('<') && !value.contains("NaN") && !value.contains("inf"),
                    "{value}"
                );
                left = after.trim_start();
            }
            all.push(name.to_owned());
            if !is_empty {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        all
    }

    fn run(seconds: usize) -> Vec<Sample> {
        (1..=seconds)
            .map(|second| Sample {
                at: second as f64,
                done_per_second: 20_000.0,
                renewals_per_second: second as f64 * 100.0,
                writes_per_second: second as f64 * 110.0,
                late_seconds: if second == 7 { 3.5 } else { 0.1 },
                cores: 1.9,
                resident_gib: 8.0 + second as f64 / 100.0,
            })
            .collect()
    }

    #[test]
    fn a_picture_is_well_formed_and_holds_all_lines_and_stretches() {
        let stretches = [
            Stretch {
                name: "register",
                begun: 0.0,
                ended: Some(20.0),
            },
            Stretch {
                name: "a < b & c",
                begun: 20.0,
                ended: None,
            },
        ];
        let picture = svg("1,000 nodes <&>", &run(60), &stretches);
        let elements = elements(&picture);
        let count = |name: &str| elements.iter().filter(|one| *one == name).count();
        assert_eq!((count("svg"), count("polyline")), (1, 6));
        // The ground, and two stretches in four panels.
        assert_eq!(count("rect"), 1 + 8);
        assert!(
            picture.contains("1,000 nodes &lt;&amp;&gt;") && picture.contains("a &lt; b &amp; c")
        );
        for words in [
            "a second",
            "seconds late",
            "GiB",
            "cores",
            "seconds since the start",
        ] {
            assert!(picture.contains(words), "{words}");
        }
    }

    #[test]
    fn nothing_lies_outside_whatever_the_samples_are() {
        let mut odd = run(5_000);
        odd[3].cores = f64::INFINITY;
        odd[4].late_seconds = f64::NAN;
        for samples in [&odd[..], &[], &odd[..1]] {
            let picture = svg("t", samples, &[]);
            elements(&picture);
            for points in picture.split("points=\"").skip(1) {
                let points = points.split('"').next().unwrap();
                assert!(points.split_whitespace().count() <= POINTS_MAX);
                for point in points.split_whitespace() {
                    let (x, y) = point.split_once(',').unwrap();
                    let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                    assert!(
                        (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=820.0).contains(&y),
                        "{point}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_peak_is_seen_however_long_the_run() {
        let points = points(&run(10_000), |sample| sample.late_seconds);
        assert!(points.len() <= POINTS_MAX);
        assert_eq!(points[0], (9.0, 3.5));
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(
            [0.0, 0.9, 1.9, 8.31, 110_000.0].map(|highest| nice_step(highest, 4.0)),
            [0.001, 0.5, 0.5, 5.0, 50_000.0]
        );
        assert_eq!(
            [0.0, 0.25, 9_000.0, 20_000.0, 1_500_000.0].map(short),
            ["0", "0.25", "9000", "20k", "1.5M"]
        );
        assert_eq!(time_step(60.0), (10.0, (1.0, "seconds")));
        assert_eq!(time_step(600.0), (60.0, (60.0, "minutes")));
    }
}
