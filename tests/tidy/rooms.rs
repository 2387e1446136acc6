//! Who may import whom (docs/ARCHITECTURE.md, "Rooms").

use super::paths::named;
use super::rust::{Shipped, shipped};
use super::tree::Tree;

/// Each room with the rooms that it may name, itself aside.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("telemetry", &["domain"]),
    ("auth", &["domain"]),
    ("presence", &["domain"]),
    // What the adapters of one technology share: not a port, and named by them alone.
    ("redis", &["domain"]),
    ("pipeline", &["domain"]),
    // The books name the log and its records.
    ("storage", &["domain", "pipeline"]),
    // Receipts, and mails with the policy of who is due, are storage's words.
    ("delivery", &["domain", "storage"]),
    ("notify", &["domain", "storage", "presence", "telemetry"]),
    ("chat", &["app", "auth", "delivery", "domain", "pipeline", "presence", "storage"]),
    // A session's sends know the log's generations and failures.
    ("ws", &["app", "auth", "chat", "delivery", "domain", "pipeline"]),
    // Pages of history are storage's.
    ("http", &["app", "auth", "chat", "delivery", "domain", "storage"]),
    (
        "app",
        &[
            "auth",
            "chat",
            "config",
            "delivery",
            "domain",
            "notify",
            "pipeline",
            "presence",
            "redis",
            "storage",
            "telemetry",
        ],
    ),
    (
        "roles",
        &[
            "app",
            "chat",
            "config",
            "delivery",
            "domain",
            "http",
            "notify",
            "pipeline",
            "storage",
            "telemetry",
            "ws",
        ],
    ),
    // Commands that audit compare storage with the log by themselves.
    ("cli", &["app", "auth", "chat", "config", "domain", "pipeline", "roles", "storage", "telemetry"]),
];

/// The files of one technology behind a port, with what they may name beside the port and `domain`.
const ADAPTERS: &[(&[&str], &[&str])] = &[
    (&["auth", "jwt"], &[]),
    (&["auth", "redis"], &["redis"]),
    (&["auth", "tickets"], &[]),
    (&["delivery", "memory"], &["storage"]),
    (&["delivery", "redis"], &["redis", "storage"]),
    (&["notify", "capture"], &[]),
    (&["notify", "smtp"], &[]),
    (&["pipeline", "embedded"], &[]),
    (&["pipeline", "kafka"], &[]),
    (&["presence", "memory"], &[]),
    (&["presence", "redis"], &["redis"]),
    (&["storage", "postgres"], &["pipeline"]),
    (&["storage", "sqlite"], &["pipeline"]),
];

/// Where adapters are named: those who open them, and who looks at them beside running servers.
const BUILDERS: [&str; 4] = ["src/app/backends.rs", "src/app/build.rs", "src/app/open.rs", "src/app/doctor/"];

/// Rooms name only those that the table allows.
pub fn directions(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for file in shipped(tree) {
        let Some(room) = file.module.first() else {
            violations.extend(from_the_root(&file));
            continue;
        };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| name == room) else {
            violations.push(format!("{}: `{room}` is no room of tests/tidy/rooms.rs", file.path));
            continue;
        };
        let adapter = adapter_of(&file.module);
        for named in named(&file) {
            let Some(to) = named.path.first().filter(|to| *to != room && is_room(to)) else { continue };
            let fine = match adapter {
                Some((_, beside)) => to == "domain" || beside.contains(&to.as_str()),
                None => allowed.contains(&to.as_str()),
            };
            if !fine {
                let who = adapter.map_or(room.clone(), |(adapter, _)| adapter.join("::"));
                violations.push(format!("{}:{}: `{who}` must not name `{to}`", file.path, named.line));
            }
        }
    }
    violations
}

/// `main` hands over to the commands; `lib.rs` is the map.
fn from_the_root(file: &Shipped) -> Vec<String> {
    let rooms = named(file).into_iter().filter(|named| named.path.first().is_some_and(|room| is_room(room)));
    rooms
        .filter(|named| !named.within(&["cli"]))
        .map(|named| format!("{}:{}: main names only `cli`", file.path, named.line))
        .collect()
}

/// An adapter is named by itself and by those who put the ports together.
pub fn adapters(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for file in shipped(tree).iter().filter(|file| !BUILDERS.iter().any(|place| file.path.starts_with(place)))
    {
        let own = adapter_of(&file.module).map(|(adapter, _)| adapter);
        for named in named(file) {
            for (adapter, _) in ADAPTERS.iter().filter(|(adapter, _)| Some(*adapter) != own) {
                if named.within(adapter) {
                    let name = adapter.join("::");
                    violations.push(format!(
                        "{}:{}: `{name}` is named outside {}",
                        file.path,
                        named.line,
                        BUILDERS.join(" and ")
                    ));
                }
            }
        }
    }
    violations
}

fn is_room(name: &str) -> bool {
    ROOMS.iter().any(|(room, _)| *room == name)
}

fn adapter_of(module: &[String]) -> Option<(&'static [&'static str], &'static [&'static str])> {
    let within =
        |adapter: &[&str]| module.len() >= adapter.len() && module.iter().zip(adapter).all(|(a, b)| a == b);
    ADAPTERS.iter().copied().find(|(adapter, _)| within(adapter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> bool {
        !rule(&Tree::of(&[(path, text)])).is_empty()
    }

    #[test]
    fn a_wrong_direction_is_found_however_it_is_written() {
        for (path, text) in [
            ("src/domain/ids.rs", "use crate::storage::Users;"),
            ("src/chat/send.rs", "use crate::{app::App, http::error};"),
            ("src/chat/send.rs", "fn f() { super::super::config::parse() }"),
            ("src/http/mod.rs", "use crate::ws::session;"),
            ("src/ws/session.rs", "fn f(_: crate::http::Surface) {}"),
            ("src/ws/mod.rs", "use super::storage::Storage;"),
            ("src/storage/sqlite/users.rs", "use crate::config::Database;"),
            ("src/delivery/memory.rs", "use crate::presence::Presence;"),
            ("src/delivery/mod.rs", "use crate::redis::Redis;"),
            ("src/redis/node.rs", "use crate::delivery::Hub;"),
            ("src/main.rs", "chatd::roles::all()"),
            ("src/attic/mod.rs", ""),
        ] {
            assert!(found(directions, path, text), "{path}: {text}");
        }
    }

    #[test]
    fn a_right_direction_is_fine_and_so_are_tests() {
        for (path, text) in [
            ("src/chat/send.rs", "use crate::{app::App, domain::{Seq, UserId}, storage::Storage};"),
            ("src/storage/sqlite/users.rs", "use crate::storage::Users; use crate::pipeline::LogIdentity;"),
            ("src/domain/ids.rs", "#[cfg(test)] mod tests { use crate::http::error; }"),
            ("src/domain/ids.rs", "// crate::http\nconst A: &str = \"crate::http::x\";"),
            ("src/main.rs", "fn main() { chatd::cli::main() }"),
        ] {
            assert!(!found(directions, path, text), "{path}: {text}");
        }
    }

    #[test]
    fn an_adapter_that_is_named_elsewhere_is_found() {
        for (path, text) in [
            ("src/chat/send.rs", "use crate::storage::sqlite::SqliteStore;"),
            ("src/storage/mod.rs", "pub use sqlite::SqliteStore;"),
            ("src/storage/sqlite/mod.rs", "use crate::pipeline::embedded::backup;"),
            ("src/cli/user.rs", "use crate::storage::{self, sqlite};"),
            ("src/roles/all.rs", "fn f() { crate::auth::tickets::MemoryTickets::new() }"),
        ] {
            assert!(found(adapters, path, text), "{path}: {text}");
        }
        for (path, text) in [
            ("src/app/build.rs", "use crate::storage::sqlite::SqliteStore;"),
            ("src/storage/mod.rs", "pub mod sqlite; pub use users::Users;"),
            ("src/storage/sqlite/users.rs", "use crate::storage::sqlite::rows;"),
        ] {
            assert!(!found(adapters, path, text), "{path}: {text}");
        }
    }
}
