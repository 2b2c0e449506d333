//! Progress on standard error, once work has taken long enough to be wondered about.
//!
//! Never writes to standard output, which belongs to the report.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(2);
/// How often a line is printed where there is no terminal.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one stretch of work.
pub struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    bar: Option<ProgressBar>,
    next: Instant,
}

impl Progress {
    /// Work of `total` steps.
    pub fn new(what: &'static str, total: usize) -> Progress {
        Progress {
            what,
            total,
            done: 0,
            bar: None,
            next: Instant::now() + QUIET,
        }
    }

    /// So many steps more are done.
    pub fn add(&mut self, steps: usize) {
        self.set(self.done + steps);
    }

    /// So many steps are done in all.
    pub fn set(&mut self, done: usize) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if Instant::now() >= self.next {
            self.show();
        }
    }

    fn show(&mut self) {
        if !std::io::stderr().is_terminal() {
            eprintln!("{}: {} of {}", self.what, self.done, self.total);
            self.next = Instant::now() + PRINT_INTERVAL;
            return;
        }
        let bar = ProgressBar::with_draw_target(
            Some(self.total as u64),
            ProgressDrawTarget::stderr_with_hz(5),
        );
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}")
        {
            bar.set_style(style);
        }
        bar.set_message(self.what);
        bar.set_position(self.done as u64);
        self.bar = Some(bar);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
