//! What may be called where: technologies in their rooms, tasks where they are looked after, panics and
//! printing in tests and commands.

use std::collections::BTreeSet;

use super::paths::named;
use super::rust::{Shipped, Token, shipped};
use super::tree::Tree;

/// Words and where they may stand. A word is a crate, or a path such as `std::env`.
const TECHNOLOGIES: &[(&[&str], &[&str])] = &[
    (
        &["diesel", "diesel_async", "diesel_migrations", "libsqlite3_sys"],
        &["src/storage/", "src/pipeline/embedded/"],
    ),
    (&["actix_web", "actix_server", "actix_cors"], &["src/http/", "src/ws/", "src/roles/"]),
    // The bench opens sockets with the same handshake.
    (&["actix_http"], &["src/http/", "src/ws/", "src/cli/bench/"]),
    (&["kafka_protocol", "rsasl"], &["src/pipeline/kafka/"]),
    (&["mail_send", "smtp_proto"], &["src/notify/"]),
    (&["fred"], &["src/redis/"]),
    (&["jsonwebtoken"], &["src/auth/", "src/cli/"]),
    (&["clap", "clap_complete"], &["src/cli/"]),
    (&["toml", "dotenvy"], &["src/config/"]),
    (&["std::env"], &["src/config/", "src/cli/"]),
    (
        &["tokio::spawn", "task::spawn", "rt::spawn", "task::spawn_local"],
        // An adapter that owns a connection owns its task.
        &["src/roles/", "src/ws/", "src/app/", "src/pipeline/kafka/", "src/redis/", "src/storage/postgres/"],
    ),
];

/// What panics or prints: a method with its dot, or a macro with its exclamation mark.
const CALLS: [&str; 8] =
    [".unwrap(", ".expect(", "println!", "print!", "eprintln!", "eprint!", "dbg!", "panic!"];

/// Technologies, the environment and tasks stay where they belong.
pub fn technologies(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for file in shipped(tree) {
        let places =
            TECHNOLOGIES.iter().filter(|(_, places)| !places.iter().any(|p| file.path.starts_with(p)));
        for (words, places) in places {
            for word in *words {
                for line in lines_naming(&file, &split(word)) {
                    let places = places.join(", ");
                    violations.push(format!("{}:{line}: `{word}` belongs in {places}", file.path));
                }
            }
        }
    }
    violations
}

/// No panics and no printing outside tests and commands.
pub fn calls(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for file in shipped(tree).iter().filter(|file| !file.path.starts_with("src/cli/")) {
        for call in CALLS {
            for line in lines_with(&file.tokens, &split(call)) {
                violations.push(format!("{}:{line}: `{call}` outside tests and commands", file.path));
            }
        }
    }
    violations
}

/// The lines where this path is named, also through the braces of a `use`.
fn lines_naming(file: &Shipped, path: &[String]) -> BTreeSet<usize> {
    let names: Vec<_> = path.iter().filter(|name| *name != "::").collect();
    let through_braces = named(file).into_iter().filter(|named| {
        names.len() > 1
            && named.path.windows(names.len()).any(|window| window.iter().eq(names.iter().copied()))
    });
    let mut lines: BTreeSet<_> = through_braces.map(|named| named.line).collect();
    lines.extend(lines_with(&file.tokens, path));
    lines
}

fn split(text: &str) -> Vec<String> {
    super::rust::tokens(text).into_iter().map(|token| token.text).collect()
}

/// The lines where these tokens begin. A path is not looked for inside a longer one.
fn lines_with(tokens: &[Token], wanted: &[String]) -> Vec<usize> {
    let texts: Vec<_> = tokens.iter().map(|token| &token.text).collect();
    let begins = |at: usize| {
        let longer = at >= 1 && wanted.len() == 1 && matches!(texts[at - 1].as_str(), "." | "::");
        !longer && texts[at..].iter().copied().take(wanted.len()).eq(wanted)
    };
    (0..tokens.len()).filter(|at| begins(*at)).map(|at| tokens[at].line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn a_technology_outside_its_room_is_found() {
        for (path, text) in [
            ("src/chat/send.rs", "use diesel::prelude::*;"),
            ("src/pipeline/mod.rs", "fn f(_: diesel::QueryResult<()>) {}"),
            ("src/chat/send.rs", "fn f() { std::env::var(\"X\") }"),
            ("src/chat/send.rs", "use std::env;"),
            ("src/chat/send.rs", "use std::{env, fs};"),
            ("src/storage/sqlite/mod.rs", "tokio::spawn(f());"),
            ("src/delivery/hub.rs", "tokio::task::spawn_local(f());"),
            ("src/domain/ids.rs", "use actix_web::web;"),
        ] {
            assert!(found(technologies, path, text) >= 1, "{path}: {text}");
        }
        for (path, text) in [
            ("src/storage/sqlite/mod.rs", "use diesel::prelude::*;"),
            ("src/notify/capture.rs", "tokio::task::spawn_blocking(f);"),
            ("src/ws/session.rs", "tokio::spawn(f());"),
            ("src/chat/send.rs", "// diesel\nfn diesels() { a.toml() } const A: &str = env!(\"X\");"),
            ("src/chat/send.rs", "#[cfg(test)] mod tests { fn f() { tokio::spawn(x); } }"),
        ] {
            assert_eq!(found(technologies, path, text), 0, "{path}: {text}");
        }
    }

    #[test]
    fn a_panic_or_a_print_is_found_with_its_line() {
        for call in ["a.unwrap();", "a\n.expect(\"x\");", "println!(\"x\");", "panic!()"] {
            assert_eq!(found(calls, "src/chat/send.rs", call), 1, "{call}");
        }
        let lines = calls(&Tree::of(&[("src/chat/send.rs", "//! x\n\nfn f() { a.unwrap() }")]));
        assert!(lines[0].starts_with("src/chat/send.rs:3: "), "{lines:?}");
        for fine in ["a.unwrap_or(1); // .unwrap()", "#[test] fn f() {}", "writeln!(out, \"{x}\")"] {
            assert_eq!(found(calls, "src/chat/send.rs", fine), 0, "{fine}");
        }
        assert_eq!(found(calls, "src/cli/bench/mod.rs", "println!(\"x\")"), 0);
    }
}
