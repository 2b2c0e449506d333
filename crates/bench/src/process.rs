//! Other processes, as the system tells of them: the servers that are measured from outside.
//!
//! Knows nothing of what they serve.

/// Processor time of all threads a process has now.
pub fn cpu_nanos(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        on_cpu_nanos(&text)
    };
    tasks.into_iter().flatten().flatten().filter_map(of).sum()
}

/// The first number of a thread's `schedstat`.
fn on_cpu_nanos(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a process; 0 when it is gone.
pub fn resident_bytes(process: u32) -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

/// A port that nobody has at the moment.
pub fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_on_a_processor_is_the_first_number() {
        assert_eq!(on_cpu_nanos("1234567 89 4\n"), Some(1_234_567));
        assert_eq!(on_cpu_nanos(""), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        assert!(cpu_nanos(std::process::id()) > 0);
        assert!(resident_bytes(std::process::id()) > 0);
        assert_eq!(resident_bytes(u32::MAX), 0);
    }
}
