//! What the operating system says of this process. On another system than Linux it says nothing.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// When the process began, as near as this is asked early.
#[derive(Debug)]
pub struct Begun(SystemTime);

impl Default for Begun {
    fn default() -> Self {
        Begun(SystemTime::now())
    }
}

/// Writes the figures that every Prometheus client library tells.
pub fn tell(begun: &Begun, out: &mut String) {
    let mut line = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    };
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    line(
        "process_cpu_seconds_total",
        "counter",
        "Processor time of all threads, in seconds.",
        cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
    );
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) as f64;
    line(
        "process_max_fds",
        "gauge",
        "Descriptors it may have open.",
        limit,
    );
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let open = open.count() as f64;
        line(
            "process_open_fds",
            "gauge",
            "Descriptors it has open.",
            open,
        );
        line("os_fd_used", "gauge", "Descriptors it has open.", open);
        line(
            "os_fd_limit",
            "gauge",
            "Descriptors it may have open.",
            limit,
        );
    }
    if let Some((all, resident)) = memory_bytes() {
        line(
            "process_resident_memory_bytes",
            "gauge",
            "Memory that is resident, in bytes.",
            resident,
        );
        line(
            "process_virtual_memory_bytes",
            "gauge",
            "Addresses that are taken, in bytes.",
            all,
        );
    }
    let since = begun.0.duration_since(UNIX_EPOCH).unwrap_or_default();
    line(
        "process_start_time_seconds",
        "gauge",
        "When it began, in seconds since the Unix epoch.",
        since.as_secs_f64(),
    );
}

/// Virtual and resident.
fn memory_bytes() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let page = rustix::param::page_size() as f64;
    let mut pages = text.split_whitespace().map(|pages| pages.parse::<f64>());
    let (all, resident) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some((all * page, resident * page))
}
