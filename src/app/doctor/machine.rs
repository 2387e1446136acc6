//! This machine: file descriptors, room on the disk.

use std::path::Path;

use super::Findings;
use crate::config::{Config, MailBackend};

/// Descriptors besides sockets: backends, files, listeners.
const DESCRIPTORS_BESIDE: u64 = 200;
/// Less free room than this is a warning, in bytes.
const FREE_MIN: u64 = 1024 * 1024 * 1024;

pub(super) fn examine(config: &Config, found: &mut Findings) {
    let wanted = config.limits.sockets as u64 + DESCRIPTORS_BESIDE;
    match descriptors() {
        Some(limit) if limit < wanted => found.warn(
            format!(
                "this process may open {limit} files; limits.sockets = {} needs {wanted}",
                config.limits.sockets
            ),
            "ulimit -n, LimitNOFILE= of systemd, or ulimits of the container; or make limits.sockets smaller",
        ),
        Some(limit) => found.fine(format!("this process may open {limit} files, enough for limits.sockets")),
        None => found.fine("how many files this process may open is not known here"),
    }
    if config.keeps_data() || matches!(config.mail.backend, MailBackend::Capture { .. }) {
        disk(&config.data, found);
    }
}

/// The soft limit of open files (proc_pid_limits(5)).
fn descriptors() -> Option<u64> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

fn disk(data: &Path, found: &mut Findings) {
    let Some(place) = data.ancestors().find(|folder| folder.exists()) else { return };
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let Ok(stat) = rustix::fs::statvfs(place) else { return };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let told = format!("{:.1} GiB are free for {}", free as f64 / FREE_MIN as f64, data.display());
    if free < FREE_MIN {
        found.warn(told, "make room: when the disk is full, messages are refused until there is some");
    } else {
        found.fine(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let line = "Max processes  10  20  processes\nMax open files            1024                 524288               files\n";
        assert_eq!(soft_limit(line), Some(1024));
        assert_eq!(soft_limit("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(soft_limit(""), None);
    }
}
