//! Whether this machine has the memory for a fleet, said before it starts.
//!
//! The one place where the arithmetic is. Knows no more of nodes than what each takes.

use std::path::Path;

/// What an empty plane takes: 35 MiB measured, and buffers of listeners and log.
const PLANE_BYTES: u64 = 64 << 20;
/// What a simulated node takes with its Lease, and what scheduler, controllers and fleet keep of it; pods excepted.
/// Measured: 1,048 MiB in all at 100,000 nodes of 2.6 KB, kept on disk, of which 431 MiB were history; rounded up for
/// tables that have just grown.
const NODE_BYTES: u64 = 8 << 10;
/// What the history of a node and its Lease takes, measured at 30,000 nodes; and what both kinds keep at most.
const NODE_HISTORY_BYTES: u64 = 4_608;
const HISTORY_BYTES_MAX: u64 = 512 << 20;
/// What each of a kubelet-like node's watches takes, at both ends in one process.
const WATCH_BYTES: u64 = 2 << 10;

/// Refuses a fleet for which `available` bytes are too few, with the size that fits.
///
/// # Errors
/// The text for the user.
pub fn check(nodes: u32, watches_a_node: usize, available: u64) -> Result<(), String> {
    let node = NODE_BYTES + watches_a_node as u64 * WATCH_BYTES;
    let needed_by = |nodes: u64| {
        PLANE_BYTES + nodes * node + (nodes * NODE_HISTORY_BYTES).min(HISTORY_BYTES_MAX)
    };
    let needed = needed_by(u64::from(nodes));
    if nodes == 0 || needed <= available {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let room = available.saturating_sub(PLANE_BYTES);
    // With a history that is still growing, or with one that is full.
    let fits =
        (room / (node + NODE_HISTORY_BYTES)).max(room.saturating_sub(HISTORY_BYTES_MAX) / node);
    Err(format!(
        "{nodes} nodes take about {:.1} GiB of memory without pods, and {:.1} GiB are free: {fits} nodes fit (--nodes \
         {fits}); --force starts anyway",
        gib(needed),
        gib(available)
    ))
}

/// Memory that may still be taken: what the system has free, or what a control group leaves if that is less. Unknown is
/// much.
pub fn available_bytes() -> u64 {
    let system = std::fs::read_to_string("/proc/meminfo").ok();
    let system = system.as_deref().and_then(available_of_system);
    let group = available_of_group(Path::new("/sys/fs/cgroup"));
    system.unwrap_or(u64::MAX).min(group.unwrap_or(u64::MAX))
}

fn available_of_system(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Of control groups of the second version; `max` is no limit.
fn available_of_group(folder: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let (max, current) = (number("memory.max")?, number("memory.current")?);
    // The page cache counts as taken and is given back when it is needed.
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "));
    let cached: u64 = cached
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Some(max.saturating_sub(current.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_does() {
        assert_eq!(check(100_000, 0, 2 << 30), Ok(()));
        assert_eq!(check(0, 0, 0), Ok(()));
        let text = check(1_000_000, 0, 4 << 30).unwrap_err();
        assert_eq!(
            text,
            "1000000 nodes take about 8.2 GiB of memory without pods, and 4.0 GiB are free: 450560 nodes fit (--nodes \
             450560); --force starts anyway"
        );
        assert_eq!(check(450_560, 0, 4 << 30), Ok(()));
        assert!(check(450_561, 0, 4 << 30).is_err());
        // Little room: what fits has a history that is not full.
        let text = check(1_000_000, 0, 256 << 20).unwrap_err();
        assert!(text.contains(": 15728 nodes fit"), "{text}");
        assert_eq!(check(15_728, 0, 256 << 20), Ok(()));
        assert!(check(15_730, 0, 256 << 20).is_err());
        assert!(check(1_000, 18, 64 << 20).is_err());
    }

    #[test]
    fn free_memory_is_read_from_the_system_and_its_groups() {
        let text = "MemTotal: 100 kB\nMemAvailable:    50 kB\n";
        assert_eq!(available_of_system(text), Some(50 * 1024));
        assert_eq!(available_of_system("nothing"), None);
        let folder = std::env::temp_dir().join(format!("megaplane-group-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("memory.max", "1000\n"),
            ("memory.current", "700\n"),
            ("memory.stat", "anon 5\ninactive_file 200\n"),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        assert_eq!(available_of_group(&folder), Some(500));
        std::fs::write(folder.join("memory.max"), "max\n").unwrap();
        assert_eq!(available_of_group(&folder), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
