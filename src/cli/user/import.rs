//! `chatd user import FILE`: JSON lines, all of them or none.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use super::{CliError, ID_EXPECTED, Import, output, own_id};
use crate::app::open;
use crate::cli::Exit;
use crate::config::Config;
use crate::domain::user::normalized_name;
use crate::domain::{EmailAddress, UserId};
use crate::storage::{NewUser, Saved};

/// The longest line in bytes: a name and an address at their longest, escaped, are below 8 KiB.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// The most users at once: one transaction, for which a running server waits about a second.
const USERS_MAX: usize = 100_000;

/// A line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: i64,
    name: String,
    email: Option<String>,
}

/// Imports the file.
///
/// # Errors
/// It cannot be read or a line is not a user (2), and then nothing was imported; storage fails.
pub(super) async fn run(args: &Import, config: &Config) -> Result<(), CliError> {
    let users = users_of(&args.file).map_err(|sentence| CliError::new(Exit::Usage, sentence))?;
    if users.is_empty() {
        return output::print("There is no user in the file; nothing was imported.\n");
    }
    let saved = open::storage(config).await?.save(&users).await?;
    output::print(&told(&saved))
}

fn told(saved: &[Saved]) -> String {
    let count = |what| saved.iter().filter(|saved| **saved == what).count();
    let (added, updated, unchanged) = (count(Saved::Added), count(Saved::Updated), count(Saved::Unchanged));
    let plural = if saved.len() == 1 { "" } else { "s" };
    format!(
        "Imported {} user{plural}: {added} added, {updated} changed, {unchanged} as they were.\n",
        saved.len()
    )
}

fn users_of(file: &Path) -> Result<Vec<NewUser>, String> {
    if file == Path::new("-") {
        return read(io::stdin().lock(), "stdin");
    }
    let name = file.display().to_string();
    let opened = File::open(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    read(BufReader::new(opened), &name)
}

/// Reads all lines; a first line that is not a user is told as `name:line: what`.
fn read(mut lines: impl BufRead, name: &str) -> Result<Vec<NewUser>, String> {
    let mut users = Vec::new();
    let mut seen: HashMap<UserId, usize> = HashMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("cannot read {name}: {error}"))? == 0 {
            break;
        }
        let place = |what: String| format!("{name}:{number}: {what}; nothing was imported");
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(place(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let user = parse(line.trim_ascii()).map_err(place)?;
        if let Some(first) = seen.insert(user.id, number) {
            return Err(place(format!("id {} is on line {first} already", user.id)));
        }
        if users.len() == USERS_MAX {
            return Err(place(format!("the file holds more than {USERS_MAX} users: split it")));
        }
        users.push(user);
    }
    Ok(users)
}

fn parse(line: &[u8]) -> Result<NewUser, String> {
    let Line { id, name, email } = serde_json::from_slice(line).map_err(|error| json_error(&error))?;
    let id = own_id(id).ok_or_else(|| format!("id: {ID_EXPECTED}"))?;
    let name = normalized_name(&name).map_err(|error| format!("name: {error}"))?;
    let email = email.map(EmailAddress::new).transpose().map_err(|error| format!("email: {error}"))?;
    Ok(NewUser { id, name, email: email.map(String::from) })
}

/// serde_json counts lines of its own, and there is only one.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map_or(text.clone(), |what| format!("column {}: {what}", error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_users_with_normalised_names() {
        let text = "{\"id\":101,\"name\":\" e\u{301}va \",\"email\":\"eva@example.test\"}\r\n\n  \n{\"name\":\"Ben\",\"id\":102}";
        let users = read(text.as_bytes(), "f").unwrap();
        assert_eq!(users[0].name, "\u{e9}va");
        assert_eq!(users[0].email.as_deref(), Some("eva@example.test"));
        assert_eq!((users[1].id.get(), &users[1].email), (102, &None));
        assert_eq!(users.len(), 2);
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_wrong() {
        let good = "{\"id\":1,\"name\":\"Ana\"}\n";
        for (bad, what) in [
            ("{\"id\":2}", "missing field `name`"),
            ("{\"id\":2,\"name\":\"B\",\"mail\":\"b@x\"}", "unknown field `mail`"),
            ("{\"id\":\"2\",\"name\":\"B\"}", "column 9: invalid type"),
            ("{\"id\":0,\"name\":\"B\"}", "id: a user id is"),
            ("{\"id\":1099511627776,\"name\":\"B\"}", "id: a user id is"),
            ("{\"id\":2,\"name\":\" \"}", "name: "),
            ("{\"id\":2,\"name\":\"B\",\"email\":\"b\"}", "email: "),
            ("{\"id\":1,\"name\":\"B\"}", "id 1 is on line 1 already"),
            ("id,name", "column 1: expected value"),
            ("\u{e4}", "column 1"),
        ] {
            let error = read(format!("{good}{bad}\n").as_bytes(), "users.jsonl").unwrap_err();
            assert!(error.starts_with("users.jsonl:2: ") && error.contains(what), "{error}");
            assert!(error.ends_with("nothing was imported"), "{error}");
        }
    }

    #[test]
    fn a_file_is_bounded() {
        let long = format!("{{\"id\":1,\"name\":\"{}\"}}", " ".repeat(20_000));
        assert!(read(long.as_bytes(), "f").unwrap_err().contains("longer than 16384 bytes"));
        let endless = io::repeat(b' ');
        assert!(read(BufReader::new(endless), "f").unwrap_err().starts_with("f:1: the line is longer"));
        let many: String = (1..=100_001).map(|id| format!("{{\"id\":{id},\"name\":\"u\"}}\n")).collect();
        assert!(read(many.as_bytes(), "f").unwrap_err().starts_with("f:100001: the file holds more than"));
    }

    #[test]
    fn the_outcome_is_counted() {
        let told = told(&[Saved::Added, Saved::Updated, Saved::Added]);
        assert_eq!(told, "Imported 3 users: 2 added, 1 changed, 0 as they were.\n");
    }
}
