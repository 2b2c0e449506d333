//! What a person sees: a bar while nodes register, then one live line; plain lines where there is no terminal.
//!
//! Logs go through here too, so that they never tear the bar.

use std::io::{IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often the line is drawn on a terminal, and printed where there is none.
const DRAW_INTERVAL: Duration = Duration::from_millis(500);
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

static BARS: OnceLock<MultiProgress> = OnceLock::new();

fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// What the line tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Simulated nodes wanted.
    pub nodes_wanted: usize,
    /// Nodes registered by the fleet.
    pub registered: usize,
    /// Nodes whose Ready condition is True.
    pub nodes_ready: usize,
    /// Pods stored.
    pub pods: usize,
    /// Writes so far.
    pub writes: u64,
    /// Latest renewal, milliseconds behind its time.
    pub late_max_millis: u64,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// The screen of one run.
pub struct Screen {
    terminal: bool,
    bar: Option<ProgressBar>,
    begun: Instant,
    last: Option<(Instant, u64)>,
    printed: Option<Instant>,
    registered: bool,
}

impl Screen {
    /// A screen; draws if standard error is a terminal.
    pub fn new() -> Screen {
        Screen {
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            begun: Instant::now(),
            last: None,
            printed: None,
            registered: false,
        }
    }

    /// How long to wait before the next [`Screen::show`].
    pub fn interval() -> Duration {
        DRAW_INTERVAL
    }

    /// Brings the screen up to date.
    pub fn show(&mut self, figures: &Figures) {
        let now = Instant::now();
        let rate = self.rate(now, figures.writes);
        if figures.nodes_wanted > 0 && !self.registered {
            self.registering(figures, rate);
            if figures.registered < figures.nodes_wanted {
                return;
            }
            self.registered = true;
            let seconds = self.begun.elapsed().as_secs_f64();
            say(&format!(
                "{} nodes registered in {seconds:.1} s ({:.0}/s), memory {}",
                figures.nodes_wanted,
                figures.nodes_wanted as f64 / seconds.max(0.001),
                mebibytes(figures.resident_bytes)
            ));
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
        }
        let line = status_line(figures, rate);
        if self.terminal {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = bars().add(ProgressBar::new_spinner());
                bar.set_style(
                    ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| plain()),
                );
                bar
            });
            bar.set_message(line);
            bar.tick();
        } else if self
            .printed
            .is_none_or(|at| now.duration_since(at) >= PRINT_INTERVAL)
        {
            self.printed = Some(now);
            say(&line);
        }
    }

    /// Takes the line away.
    pub fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn registering(&mut self, figures: &Figures, rate: f64) {
        if !self.terminal {
            let due = self.printed.is_none_or(|at| at.elapsed() >= PRINT_INTERVAL);
            if due {
                self.printed = Some(Instant::now());
                say(&format!(
                    "registering nodes: {} of {}",
                    figures.registered, figures.nodes_wanted
                ));
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = bars().add(ProgressBar::new(figures.nodes_wanted as u64));
            let template = "registering nodes {bar:40} {pos}/{len} {per_sec}, ready in {eta} {msg}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| plain()));
            bar
        });
        bar.set_position(figures.registered as u64);
        bar.set_message(format!(
            "({rate:.0} writes/s, {})",
            mebibytes(figures.resident_bytes)
        ));
    }

    fn rate(&mut self, now: Instant, writes: u64) -> f64 {
        let (at, before) = self.last.replace((now, writes)).unwrap_or((now, writes));
        let seconds = now.duration_since(at).as_secs_f64();
        if seconds > 0.0 {
            writes.saturating_sub(before) as f64 / seconds
        } else {
            0.0
        }
    }
}

/// One line that is kept up to date: drawn on a terminal, printed now and then where there is none.
pub struct Line {
    bar: Option<ProgressBar>,
    printed: Option<Instant>,
}

impl Line {
    /// A line that shows nothing yet.
    pub fn new() -> Line {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = bars().add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| plain()),
            );
            bar
        });
        Line { bar, printed: None }
    }

    /// Shows a text in place of the one before.
    pub fn show(&mut self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        } else if self.printed.is_none_or(|at| at.elapsed() >= PRINT_INTERVAL) {
            self.printed = Some(Instant::now());
            say(text);
        }
    }

    /// Takes the line away.
    pub fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn plain() -> ProgressStyle {
    ProgressStyle::default_bar()
}

fn status_line(figures: &Figures, rate: f64) -> String {
    let late = if figures.nodes_wanted > 0 {
        format!(
            " | leases at most {:.1} s late",
            figures.late_max_millis as f64 / 1000.0
        )
    } else {
        String::new()
    };
    format!(
        "nodes Ready {} | pods {} | {rate:.0} writes/s{late} | memory {}",
        figures.nodes_ready,
        figures.pods,
        mebibytes(figures.resident_bytes)
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Prints a line above the bar.
pub fn say(line: &str) {
    bars().suspend(|| eprintln!("{line}"));
}

/// Sends logs to standard error, above the bar: lines for people, or an object of JSON each.
pub fn start_logging(filter: &str, is_json: bool) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("--log {filter}: {error}"))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        .with_writer(|| LogWriter);
    let begun = if is_json {
        logs.json().try_init()
    } else {
        logs.try_init()
    };
    begun.map_err(|error| error.to_string())
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        bars().suspend(|| std::io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_nodes_pods_writes_and_memory() {
        let figures = Figures {
            nodes_wanted: 10,
            registered: 10,
            nodes_ready: 9,
            pods: 3,
            late_max_millis: 1500,
            resident_bytes: 64 << 20,
            ..Figures::default()
        };
        assert_eq!(
            status_line(&figures, 12.4),
            "nodes Ready 9 | pods 3 | 12 writes/s | leases at most 1.5 s late | memory 64 MiB"
        );
    }
}
