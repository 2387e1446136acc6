//! What the kernel tells of a process: processor time and memory, from `/proc`.

use std::collections::HashMap;
use std::time::Duration;

/// `/proc` counts processor time in hundredths of a second (USER_HZ, proc(5); 100 on every Linux platform).
const TICK: Duration = Duration::from_millis(10);

/// A process that cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} cannot be measured: {reason}")]
pub struct ProcessError {
    pid: u32,
    reason: String,
}

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Processor time so far, in user and kernel mode, all threads.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// The most it ever was, in bytes.
    pub rss_bytes_max: u64,
}

/// Looks at a process.
pub fn sample(pid: u32) -> Result<Sample, ProcessError> {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}"))
            .map_err(|error| ProcessError { pid, reason: error.to_string() })
    };
    let missing = || ProcessError { pid, reason: "/proc holds no such numbers".to_owned() };
    let status = read("status")?;
    Ok(Sample {
        cpu: cpu(&read("stat")?).ok_or_else(missing)?,
        rss_bytes: kilobytes(&status, "VmRSS:").ok_or_else(missing)?,
        rss_bytes_max: kilobytes(&status, "VmHWM:").ok_or_else(missing)?,
    })
}

/// Fields 14 and 15, utime and stime. The name in field 2 may hold blanks and brackets.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// A process and all that descend from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tree {
    /// Processor time so far, that of children that have ended included.
    pub cpu: Duration,
    /// Resident memory in bytes; what processes share counts for each.
    pub rss_bytes: u64,
}

impl std::ops::AddAssign for Tree {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.rss_bytes += other.rss_bytes;
    }
}

/// What `stat` tells of a process: its parent, and its time with that of the children that it has waited for.
struct Stat {
    parent: u32,
    cpu: Duration,
}

/// Looks at a process and its descendants.
pub fn tree(root: u32) -> Result<Tree, ProcessError> {
    let failed = |error: std::io::Error| ProcessError { pid: root, reason: error.to_string() };
    let mut stats = HashMap::new();
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let Some(pid) = entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Who ends while all are looked at is in its parent's time.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stats.extend(stat.ok().and_then(|text| stat_of(&text)).map(|stat| (pid, stat)));
    }
    if !stats.contains_key(&root) {
        return Err(ProcessError { pid: root, reason: "it is not there".to_owned() });
    }
    let mut tree = Tree::default();
    for (pid, stat) in stats.iter().filter(|(pid, _)| descends(**pid, root, &stats)) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        tree += Tree { cpu: stat.cpu, rss_bytes: kilobytes(&status, "VmRSS:").unwrap_or(0) };
    }
    Ok(tree)
}

fn descends(pid: u32, root: u32, stats: &HashMap<u32, Stat>) -> bool {
    std::iter::successors(Some(pid), |pid| stats.get(pid).map(|stat| stat.parent)).any(|pid| pid == root)
}

/// Fields 4 and 14 to 17: the parent; utime, stime, cutime and cstime.
fn stat_of(stat: &str) -> Option<Stat> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let ticks: u32 = fields.skip(9).take(4).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    Some(Stat { parent, cpu: TICK * ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 5 0 100 1 2";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_time_of_children_counts_for_a_tree() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194304 90 0 0 0 250 50 100 20 20 0 5 0 100 1 2";
        let stat = stat_of(stat).unwrap();
        assert_eq!((stat.parent, stat.cpu), (3, Duration::from_millis(4_200)));
    }

    #[test]
    fn a_tree_holds_its_descendants_and_nobody_else() {
        let stat = |parent| Stat { parent, cpu: Duration::ZERO };
        let stats = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1)].map(|(pid, parent)| (pid, stat(parent))).into();
        let within = |pid| descends(pid, 5, &stats);
        assert_eq!([1, 5, 6, 7, 8].map(within), [false, true, true, true, false]);
        let own = tree(std::process::id()).unwrap();
        assert!(own.rss_bytes > 100 << 10);
    }

    #[test]
    fn this_process_has_memory_and_one_that_is_not_there_is_named() {
        let own = sample(std::process::id()).unwrap();
        assert!(own.rss_bytes > 100 << 10 && own.rss_bytes_max >= own.rss_bytes);
        let error = sample(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("4294967295"), "{error}");
    }
}
