//! What the kernel tells of a process: processor time and memory, from `/proc`.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 5 0 100 1 2";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn this_process_has_memory_and_one_that_is_not_there_is_named() {
        let own = sample(std::process::id()).unwrap();
        assert!(own.rss_bytes > 100 << 10 && own.rss_bytes_max >= own.rss_bytes);
        let error = sample(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("4294967295"), "{error}");
    }
}
